package app

import (
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline/expr"
)

// maxContext bounds the file of contexts that EvalExpression reads.
const maxContext = 16 << 20

// ExpressionError is a mistake in an expression, with its place.
type ExpressionError struct{ Message string }

func (e *ExpressionError) Error() string { return e.Message }

// EvalExpression computes one expression of the workflow language and returns its value as JSON. Contexts is the path of a JSON
// object that holds the contexts by name, "-" for in, or "" for none. NaN and the infinities, which JSON has no word for, are
// given as strings.
func EvalExpression(src, contexts string, in io.Reader) (string, error) {
	env := expr.Env{Contexts: expr.NewObject()}
	if contexts != "" {
		o, err := readContexts(contexts, in)
		if err != nil {
			return "", err
		}
		env.Contexts = o
	}
	known := expr.Names{Contexts: map[string]bool{}, Functions: map[string]bool{}}
	env.Contexts.Each(func(name string, _ expr.Value) { known.Contexts[strings.ToLower(name)] = true })
	src = strings.TrimSpace(src)
	if strings.HasPrefix(src, "${{") && strings.HasSuffix(src, "}}") {
		src = strings.TrimSpace(src[3 : len(src)-2])
	}
	e, err := expr.Parse(src, known)
	var v expr.Value
	if err == nil {
		v, err = e.Eval(env)
	}
	var mistake *expr.Error
	if errors.As(err, &mistake) {
		return "", &ExpressionError{mistake.Error()}
	}
	if err != nil {
		return "", &ExpressionError{err.Error()}
	}
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		v = expr.String(f)
	}
	return expr.JSON(v), nil
}

func readContexts(path string, in io.Reader) (*expr.Object, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "The file of contexts %s cannot be opened: %v.", path, err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxContext+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The file of contexts %s cannot be read: %v.", path, err)
	}
	if len(raw) > maxContext {
		return nil, fault.New(fault.Invalid, "The file of contexts %s has more than %d MiB.", path, maxContext>>20)
	}
	v, err := expr.ParseJSON(string(raw))
	o, ok := v.(*expr.Object)
	if err != nil || !ok {
		return nil, fault.New(fault.Invalid, `The file of contexts %s is not a JSON object such as {"github": {"ref": "refs/heads/main"}}: %v.`, path, orNotObject(err))
	}
	return o, nil
}

func orNotObject(err error) error {
	if err == nil {
		return errors.New("it holds another kind of value")
	}
	return err
}
