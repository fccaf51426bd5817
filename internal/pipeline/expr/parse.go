package expr

import (
	"fmt"
	"slices"
	"strings"
)

// Expr is a parsed expression. It is immutable and may be evaluated concurrently.
type Expr struct {
	Source string
	root   node
}

type node interface{}

type (
	literal struct{ v Value }
	named   struct{ name string }
	star    struct{}
	unary   struct{ x node }
	binary  struct {
		op   string
		l, r node
	}
	access struct{ x, key node }
	call   struct {
		name string
		args []node
	}
)

// Names says which contexts and functions exist where an expression stands. A nil map allows everything: what is missing
// then is null, or an error when it is a function.
type Names struct {
	Contexts  map[string]bool
	Functions map[string]bool
}

const maxNesting = 50

// builtin holds the pure functions with their smallest and largest number of arguments.
var builtin = map[string][2]int{
	"contains": {2, 2}, "startswith": {2, 2}, "endswith": {2, 2}, "format": {1, 255}, "join": {1, 2}, "case": {3, 255}, "tojson": {1, 1}, "fromjson": {1, 1},
}

// outside are the functions that callers supply.
var outside = map[string][2]int{"hashfiles": {1, 255}, "success": {0, 255}, "failure": {0, 255}, "always": {0, 0}, "cancelled": {0, 0}}

// Parse reads one expression, without its ${{ }}. An empty one is null.
func Parse(src string, known Names) (*Expr, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	if len(toks) == 1 {
		return &Expr{Source: src, root: literal{nil}}, nil
	}
	p := &parser{toks: toks, src: src, known: known}
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tEOF {
		return nil, p.unexpected(t)
	}
	return &Expr{Source: src, root: n}, nil
}

type parser struct {
	toks  []token
	i     int
	depth int
	src   string
	known Names
}

func (p *parser) peek() token { return p.toks[p.i] }

func (p *parser) next() token {
	t := p.toks[p.i]
	if t.kind != tEOF {
		p.i++
	}
	return t
}

func (p *parser) at(s string) bool { t := p.peek(); return t.kind == tPunct && t.text == s }

func (p *parser) accept(s string) bool {
	if p.at(s) {
		p.i++
		return true
	}
	return false
}

func (p *parser) unexpected(t token) error {
	if t.kind == tEOF {
		last := p.toks[max(0, len(p.toks)-2)]
		return &Error{"Unexpected end of expression: '" + last.text + "'", last.pos, p.src}
	}
	text := t.text
	if t.kind == tString {
		text = "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return &Error{"Unexpected symbol: '" + text + "'", t.pos, p.src}
}

func (p *parser) expect(s string) error {
	if !p.accept(s) {
		return p.unexpected(p.peek())
	}
	return nil
}

// enter counts one level of nesting, as GitHub counts them: brackets, chains of one logical operator, negations and accesses.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		t := p.peek()
		return &Error{fmt.Sprintf("Exceeded max expression depth %d: '%s'", maxNesting, t.text), t.pos, p.src}
	}
	return nil
}

func (p *parser) expression() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	return p.chain("||", func() (node, error) { return p.chain("&&", p.equality) })
}

func (p *parser) chain(op string, next func() (node, error)) (node, error) {
	l, err := next()
	if err != nil || !p.at(op) {
		return l, err
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	for p.accept(op) {
		r, err := next()
		if err != nil {
			return nil, err
		}
		l = binary{op, l, r}
	}
	return l, nil
}

func (p *parser) equality() (node, error) { return p.infix(p.comparison, "!=", "==") }

func (p *parser) comparison() (node, error) { return p.infix(p.unary, ">", ">=", "<", "<=") }

func (p *parser) infix(next func() (node, error), ops ...string) (node, error) {
	l, err := next()
	for err == nil {
		op := p.peek()
		if op.kind != tPunct || !slices.Contains(ops, op.text) {
			break
		}
		p.i++
		var r node
		if r, err = next(); err == nil {
			l = binary{op.text, l, r}
		}
	}
	return l, err
}

func (p *parser) unary() (node, error) {
	if !p.accept("!") {
		return p.postfix()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x, err := p.unary()
	return unary{x}, err
}

// postfix reads accesses. Literals have none.
func (p *parser) postfix() (node, error) {
	literals := p.peek().kind != tWord && !p.at("(")
	n, err := p.primary()
	if err != nil || literals {
		return n, err
	}
	levels := 0
	defer func() { p.depth -= levels }()
	for {
		switch {
		case p.accept("."):
			t := p.next()
			switch {
			case t.kind == tWord:
				n = access{n, literal{t.text}}
			case t.kind == tPunct && t.text == "*":
				n = access{n, star{}}
			default:
				return nil, p.unexpected(t)
			}
		case p.accept("["):
			if p.accept("*") {
				n = access{n, star{}}
			} else {
				k, err := p.expression()
				if err != nil {
					return nil, err
				}
				n = access{n, k}
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
		default:
			return n, nil
		}
		levels++
		if err := p.enter(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) primary() (node, error) {
	t := p.next()
	switch t.kind {
	case tNumber:
		return literal{t.num}, nil
	case tString:
		return literal{t.text}, nil
	case tBool:
		return literal{t.text == "true"}, nil
	case tNull:
		return literal{nil}, nil
	case tWord:
		if p.accept("(") {
			return p.call(t)
		}
		if p.known.Contexts != nil && !p.known.Contexts[strings.ToLower(t.text)] {
			return nil, &Error{"Unrecognized named-value: '" + t.text + "'", t.pos, p.src}
		}
		return named{t.text}, nil
	case tPunct:
		if t.text == "(" {
			n, err := p.expression()
			if err != nil {
				return nil, err
			}
			return n, p.expect(")")
		}
	}
	return nil, p.unexpected(t)
}

func (p *parser) call(name token) (node, error) {
	low := strings.ToLower(name.text)
	arity, ok := builtin[low]
	if !ok {
		if arity, ok = outside[low]; ok && p.known.Functions != nil {
			ok = p.known.Functions[low]
		}
	}
	if !ok {
		return nil, &Error{"Unrecognized function: '" + name.text + "'", name.pos, p.src}
	}
	var args []node
	for !p.accept(")") {
		if len(args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		a, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
	}
	if len(args) < arity[0] {
		return nil, &Error{"Too few parameters supplied: '" + name.text + "'", name.pos, p.src}
	}
	if len(args) > arity[1] {
		return nil, &Error{"Too many parameters supplied: '" + name.text + "'", name.pos, p.src}
	}
	if low == "case" && len(args)%2 == 0 {
		return nil, &Error{"Even number of parameters supplied, requires an odd number of parameters: '" + name.text + "'", name.pos, p.src}
	}
	return call{low, args}, nil
}

// Uses calls f for every context and function (marked by "()") that the expression names. Contexts are given with their first
// literal property, if any: "needs.build", "secrets".
func (e *Expr) Uses(f func(name string)) { uses(e.root, f) }

func uses(n node, f func(string)) {
	switch n := n.(type) {
	case named:
		f(strings.ToLower(n.name))
	case unary:
		uses(n.x, f)
	case binary:
		uses(n.l, f)
		uses(n.r, f)
	case access:
		if c, ok := n.x.(named); ok {
			if k, ok := n.key.(literal); ok {
				f(strings.ToLower(c.name) + "." + String(k.v))
				return
			}
		}
		uses(n.x, f)
		uses(n.key, f)
	case call:
		f(n.name + "()")
		for _, a := range n.args {
			uses(a, f)
		}
	}
}
