package detect

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var secretUse = regexp.MustCompile(`\bsecrets\.([A-Za-z_][A-Za-z0-9_]*)`)

// construct is something that a workflow asks for.
type construct struct {
	line int
	what string // "uses: actions/checkout@v4"
}

// workflows says of each construct of each workflow whether it runs.
func (s *scan) workflows(check func(path string, content []byte) []Finding) {
	for _, p := range s.paths {
		dir, ext := path.Dir(p), path.Ext(p)
		if dir != ".github/workflows" && dir != ".weir/workflows" || ext != ".yml" && ext != ".yaml" {
			continue
		}
		src := s.read(p)
		if src == nil {
			s.flows = append(s.flows, Line{"workflow", path.Base(p) + ": refused, it is larger than 1 MiB", p, Certain})
			continue
		}
		findings := check(p, src)
		refused := slices.ContainsFunc(findings, func(f Finding) bool { return f.Refused })
		verdict := "runs"
		if refused {
			verdict = "refused, because of the lines below"
		}
		file := path.Base(p)
		s.files = append(s.files, file)
		s.flows = append(s.flows, Line{"workflow", file + ": " + verdict, p, Certain})
		found, jobs, onChange := constructs(src)
		told := map[int]bool{}
		for _, c := range found {
			value := c.what + ": runs"
			for i, f := range findings {
				if f.Line == c.line && f.Refused && !told[i] {
					value, told[i] = c.what+": refused, "+f.Message, true
				}
			}
			s.flows = appendNew(s.flows, Line{"construct", value, fmt.Sprintf("%s:%d", p, c.line), Certain})
		}
		for i, f := range findings {
			switch {
			case told[i]:
			case f.Refused:
				s.flows = append(s.flows, Line{"construct", "refused, " + f.Message, fmt.Sprintf("%s:%d", p, f.Line), Certain})
			default:
				s.flows = append(s.flows, Line{"construct", "runs, but " + f.Message, fmt.Sprintf("%s:%d", p, f.Line), Certain})
			}
		}
		if onChange && !refused {
			for _, id := range jobs {
				s.required = append(s.required, file+"/"+id)
			}
		}
		n := 0
		for line := range strings.Lines(string(src)) {
			n++
			for _, m := range secretUse.FindAllStringSubmatch(line, -1) {
				s.names = appendNew(s.names, Line{"secret name", m[1], fmt.Sprintf("%s:%d", p, n), Certain})
			}
		}
	}
	if len(s.files) == 0 {
		s.flows = append(s.flows, Line{"workflow", "none: nothing is checked before a change lands", "no .github/workflows", Certain})
	}
}

// constructs lists what a workflow file asks for, with its jobs, and whether it
// runs for a change.
func constructs(src []byte) (found []construct, jobs []string, onChange bool) {
	var doc yaml.Node
	if yaml.Unmarshal(src, &doc) != nil || len(doc.Content) == 0 {
		return nil, nil, false
	}
	add := func(n *yaml.Node, format string, args ...any) {
		found = append(found, construct{n.Line, fmt.Sprintf(format, args...)})
	}
	each(doc.Content[0], func(k, v *yaml.Node) {
		switch k.Value {
		case "on":
			for _, n := range events(v) {
				add(n, "on: %s", n.Value)
				onChange = onChange || n.Value == "pull_request"
			}
		case "jobs":
			each(v, func(k, v *yaml.Node) {
				id := strings.ToLower(k.Value)
				jobs = append(jobs, id)
				add(k, "job %s", id)
				each(v, func(k, v *yaml.Node) {
					switch k.Value {
					case "container", "services", "environment", "uses", "snapshot", "concurrency", "strategy":
						add(k, "%s: of job %s", k.Value, id)
					case "runs-on":
						add(k, "runs-on: %s", v.Value)
					case "steps":
						for _, step := range v.Content {
							each(step, func(k, v *yaml.Node) {
								if k.Value == "uses" {
									add(v, "uses: %s", v.Value)
								}
							})
						}
					}
				})
			})
		case "permissions", "concurrency", "env", "defaults":
			add(k, "%s:", k.Value)
		}
	})
	return found, jobs, onChange
}

func events(v *yaml.Node) (out []*yaml.Node) {
	switch v.Kind {
	case yaml.ScalarNode:
		return []*yaml.Node{v}
	case yaml.SequenceNode:
		return v.Content
	}
	each(v, func(k, _ *yaml.Node) { out = append(out, k) })
	return out
}

func each(n *yaml.Node, fn func(k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		fn(n.Content[i], n.Content[i+1])
	}
}
