package plan

import (
	"maps"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// maxInputs bounds the inputs of one start, in bytes, as GitHub does.
const maxInputs = 65535

// DispatchInputs checks what a run is started with against what the workflow declares, and fills in the defaults.
func DispatchInputs(w *spec.Workflow, given map[string]string) (*expr.Object, error) {
	out, size := expr.NewObject(), 0
	var known []string
	for _, in := range w.Dispatch.Inputs {
		known = append(known, in.Name)
		text, ok := lookupFold(given, in.Name)
		size += len(text)
		switch {
		case !ok && in.Default != nil:
			out.Set(in.Name, in.Default)
			continue
		case !ok && in.Required:
			return nil, fault.New(fault.Invalid, "%s needs the input %s (%s). Give it with --input %s=VALUE.", w.Path, in.Name, in.Type, in.Name)
		case in.Type == "choice" && ok && !slices.Contains(in.Options, text):
			return nil, fault.New(fault.Invalid, "The input %s is one of %s, not %q.", in.Name, strings.Join(in.Options, ", "), text)
		case in.Type == "choice" && len(in.Options) > 0 && !ok:
			text = in.Options[0]
		}
		v, ok := spec.Coerce(in.Type, text)
		if !ok {
			return nil, fault.New(fault.Invalid, "The input %s is a %s; %q is none.", in.Name, in.Type, text)
		}
		out.Set(in.Name, v)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := out.Get(name); !ok {
			return nil, fault.New(fault.Invalid, "%s has no input %s; it has %s.", w.Path, name, orNothing(strings.Join(known, ", ")))
		}
	}
	if size > maxInputs {
		return nil, fault.New(fault.Invalid, "The inputs have %d bytes; they may have %d. Put larger things into the repository.", size, maxInputs)
	}
	return out, nil
}

func lookupFold(m map[string]string, name string) (string, bool) {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

func orNothing(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
