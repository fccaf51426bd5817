package expr

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Env is what an expression may look at.
type Env struct {
	Contexts  *Object
	Functions map[string]func(args []Value) (Value, error) // lower case
}

// filtered is the result of ".*": a later property applies to each of its elements.
type filtered Array

const maxResult = 10 << 20

// Eval computes e in env.
func (e *Expr) Eval(env Env) (Value, error) {
	v, err := eval(e.root, env)
	if err != nil {
		return nil, err
	}
	if f, ok := v.(filtered); ok {
		return Array(f), nil
	}
	return v, nil
}

func eval(n node, env Env) (Value, error) {
	switch n := n.(type) {
	case literal:
		return n.v, nil
	case named:
		v, _ := env.Contexts.Get(n.name)
		return v, nil
	case unary:
		v, err := eval(n.x, env)
		return !Truthy(v), err
	case binary:
		return evalBinary(n, env)
	case access:
		return evalAccess(n, env)
	case call:
		return evalCall(n, env)
	}
	return nil, fmt.Errorf("expression node %T", n)
}

func evalBinary(n binary, env Env) (Value, error) {
	l, err := eval(n.l, env)
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "&&":
		if !Truthy(l) {
			return l, nil
		}
		return eval(n.r, env)
	case "||":
		if Truthy(l) {
			return l, nil
		}
		return eval(n.r, env)
	}
	r, err := eval(n.r, env)
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "==":
		return Equal(l, r), nil
	case "!=":
		return !Equal(l, r), nil
	case "<":
		return order(l, r, func(c int) bool { return c < 0 }), nil
	case "<=":
		return Equal(l, r) || order(l, r, func(c int) bool { return c < 0 }), nil
	case ">":
		return order(l, r, func(c int) bool { return c > 0 }), nil
	}
	return Equal(l, r) || order(l, r, func(c int) bool { return c > 0 }), nil
}

// coerce brings two values to one kind where the language does so: what differs becomes a number.
func coerce(l, r Value) (Value, Value) {
	simple := func(v Value) bool {
		switch v.(type) {
		case nil, bool, float64, string:
			return true
		}
		return false
	}
	if Kind(l) != Kind(r) && simple(l) && simple(r) {
		return Number(l), Number(r)
	}
	return l, r
}

// Equal is the language's ==: strings in any case, mixed kinds as numbers, arrays and objects by identity.
func Equal(l, r Value) bool {
	l, r = coerce(l, r)
	if Kind(l) != Kind(r) {
		return false
	}
	switch l := l.(type) {
	case string:
		return fold(l) == fold(r.(string))
	case Array:
		b, ok := r.(Array)
		return ok && len(l) == len(b) && reflect.ValueOf(l).Pointer() == reflect.ValueOf(b).Pointer()
	case filtered:
		return false
	}
	return l == r
}

func order(l, r Value, ok func(int) bool) bool {
	l, r = coerce(l, r)
	switch a := l.(type) {
	case float64:
		b, is := r.(float64)
		return is && !math.IsNaN(a) && !math.IsNaN(b) && ok(cmp.Compare(a, b))
	case string:
		b, is := r.(string)
		return is && ok(strings.Compare(fold(a), fold(b)))
	case bool:
		b, is := r.(bool)
		return is && ok(cmp.Compare(Number(a), Number(b)))
	}
	return false
}

// fold makes strings comparable in any case. The dotless i keeps its own identity, as in an ordinal comparison.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 'ı' {
			return r
		}
		return unicode.ToUpper(r)
	}, s)
}

func evalAccess(n access, env Env) (Value, error) {
	x, err := eval(n.x, env)
	if err != nil {
		return nil, err
	}
	if _, all := n.key.(star); all {
		return spread(x), nil
	}
	k, err := eval(n.key, env)
	if err != nil {
		return nil, err
	}
	if f, ok := x.(filtered); ok {
		out := filtered{}
		for _, e := range f {
			if v, ok := property(e, k); ok {
				out = append(out, v)
			}
		}
		return out, nil
	}
	v, _ := property(x, k)
	return v, nil
}

func spread(x Value) Value {
	out := filtered{}
	add := func(v Value) {
		switch v := v.(type) {
		case Array:
			out = append(out, v...)
		case *Object:
			v.Each(func(_ string, e Value) { out = append(out, e) })
		}
	}
	if f, ok := x.(filtered); ok {
		for _, e := range f {
			add(e)
		}
		return out
	}
	add(x)
	return out
}

func property(x, k Value) (Value, bool) {
	switch x := x.(type) {
	case *Object:
		switch k.(type) {
		case Array, filtered, *Object:
			return nil, false
		}
		return x.Get(String(k))
	case Array:
		i := Number(k)
		if math.IsNaN(i) || i < 0 || i >= float64(len(x)) {
			return nil, false
		}
		return x[int(i)], true
	}
	return nil, false
}

func evalCall(n call, env Env) (Value, error) {
	args := make([]Value, len(n.args))
	for i, a := range n.args {
		v, err := eval(a, env)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	if n.name == "case" {
		return choose(args)
	}
	for i, v := range args {
		if f, ok := v.(filtered); ok {
			args[i] = Array(f)
		}
	}
	switch n.name {
	case "contains":
		if a, ok := args[0].(Array); ok {
			return slices.ContainsFunc(a, func(e Value) bool { return Equal(e, args[1]) }), nil
		}
		return both(args, strings.Contains), nil
	case "startswith":
		return both(args, strings.HasPrefix), nil
	case "endswith":
		return both(args, strings.HasSuffix), nil
	case "join":
		return join(args), nil
	case "tojson":
		return JSON(args[0]), nil
	case "fromjson":
		v, err := ParseJSON(String(args[0]))
		if err != nil {
			return nil, &Error{Message: fmt.Sprintf("Error parsing fromJson: %v", err)}
		}
		return v, nil
	case "format":
		return format(args)
	}
	f := env.Functions[n.name]
	if f == nil {
		return nil, &Error{Message: "Unrecognized function: '" + n.name + "'"}
	}
	return f(args)
}

// choose is case(): the value behind the first condition that is true, else the last argument.
func choose(args []Value) (Value, error) {
	for i := 0; i+1 < len(args); i += 2 {
		yes, ok := args[i].(bool)
		if !ok {
			return nil, &Error{Message: "case predicate must evaluate to a boolean value"}
		}
		if yes {
			return args[i+1], nil
		}
	}
	return args[len(args)-1], nil
}

func both(args []Value, f func(a, b string) bool) bool {
	for _, a := range args {
		switch a.(type) {
		case Array, *Object:
			return false
		}
	}
	return f(fold(String(args[0])), fold(String(args[1])))
}

func join(args []Value) Value {
	a, ok := args[0].(Array)
	if !ok {
		switch args[0].(type) {
		case *Object:
			return ""
		}
		return String(args[0])
	}
	sep := ","
	if len(args) > 1 {
		switch args[1].(type) {
		case Array, *Object:
		default:
			sep = String(args[1])
		}
	}
	parts := make([]string, len(a))
	for i, e := range a {
		parts[i] = String(e)
	}
	return strings.Join(parts, sep)
}

func format(args []Value) (Value, error) {
	f := String(args[0])
	bad := func() error { return &Error{Message: "The following format string is invalid: '" + f + "'"} }
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		c := f[i]
		if c != '{' && c != '}' {
			b.WriteByte(c)
			continue
		}
		if i+1 < len(f) && f[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		end := strings.IndexByte(f[i:], '}')
		if c == '}' || end < 0 {
			return nil, bad()
		}
		n, err := strconv.ParseUint(f[i+1:i+end], 10, 8)
		if err != nil {
			return nil, bad()
		}
		if int(n)+1 >= len(args) {
			return nil, &Error{Message: "The following format string references more arguments than were supplied: '" + f + "'"}
		}
		b.WriteString(String(args[n+1]))
		if b.Len() > maxResult {
			return nil, &Error{Message: "The result of format is too long"}
		}
		i += end
	}
	return b.String(), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
