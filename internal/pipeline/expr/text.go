package expr

import "strings"

// Part is a piece of a text: literal, or an expression when Expr is set. Offset is where the piece starts in the text.
type Part struct {
	Literal string
	Expr    *Expr
	Offset  int
}

// Split cuts text into literal parts and ${{ }} expressions.
func Split(text string, known Names) ([]Part, error) {
	var parts []Part
	at := 0
	for {
		i := strings.Index(text[at:], "${{")
		if i < 0 {
			if at < len(text) {
				parts = append(parts, Part{Literal: text[at:], Offset: at})
			}
			return parts, nil
		}
		if i > 0 {
			parts = append(parts, Part{Literal: text[at : at+i], Offset: at})
		}
		start := at + i + 3
		end := closing(text[start:])
		if end < 0 {
			return nil, &Error{Message: "The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found."}
		}
		e, err := Parse(strings.TrimSpace(text[start:start+end]), known)
		if err != nil {
			return nil, err
		}
		parts = append(parts, Part{Expr: e, Offset: start})
		at = start + end + 2
	}
}

// closing finds the }} that ends an expression, skipping strings.
func closing(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case !quoted && strings.HasPrefix(s[i:], "}}"):
			return i
		}
	}
	return -1
}

// Eval gives text its value: a single expression keeps its type, everything else becomes a string.
func Eval(text string, env Env) (Value, error) {
	if !strings.Contains(text, "${{") {
		return text, nil
	}
	parts, err := Split(text, Names{})
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 && parts[0].Expr != nil {
		return parts[0].Expr.Eval(env)
	}
	var b strings.Builder
	for _, p := range parts {
		if p.Expr == nil {
			b.WriteString(p.Literal)
			continue
		}
		v, err := p.Expr.Eval(env)
		if err != nil {
			return nil, err
		}
		b.WriteString(String(v))
		if b.Len() > maxResult {
			return nil, &Error{Message: "The text is too long after its expressions were filled in"}
		}
	}
	return b.String(), nil
}

// Interpolate is Eval with the result as a string.
func Interpolate(text string, env Env) (string, error) {
	v, err := Eval(text, env)
	return String(v), err
}

// Condition evaluates an if:, with or without ${{ }}. A condition that asks for no status itself (success, failure, always,
// cancelled) also needs success(), and an empty one is success().
func Condition(cond string, env Env) (bool, error) {
	src, err := ConditionSource(cond)
	if err != nil {
		return false, err
	}
	e, err := Parse(src, Names{})
	if err != nil {
		return false, err
	}
	v, err := e.Eval(env)
	return Truthy(v), err
}

// ConditionSource returns the expression that an if: stands for.
func ConditionSource(cond string) (string, error) {
	src := strings.TrimSpace(cond)
	if src == "" {
		return "success()", nil
	}
	if strings.Contains(src, "${{") {
		parts, err := Split(src, Names{})
		if err != nil {
			return "", err
		}
		if len(parts) == 1 {
			src = parts[0].Expr.Source
		} else { // text around an expression: a string, as GitHub reads it
			src = formatCall(parts)
		}
	}
	e, err := Parse(src, Names{})
	if err != nil {
		return "", err
	}
	status := false
	e.Uses(func(name string) {
		switch name {
		case "success()", "failure()", "always()", "cancelled()":
			status = true
		}
	})
	if status || src == "" {
		return src, nil
	}
	return "success() && (" + src + ")", nil
}

func formatCall(parts []Part) string {
	var f, args strings.Builder
	n := 0
	for _, p := range parts {
		if p.Expr == nil {
			f.WriteString(strings.NewReplacer("'", "''", "{", "{{", "}", "}}").Replace(p.Literal))
			continue
		}
		f.WriteString("{" + string(rune('0'+n%10)) + "}")
		args.WriteString(", " + p.Expr.Source)
		n++
	}
	return "format('" + f.String() + "'" + args.String() + ")"
}
