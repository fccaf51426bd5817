package expr

import (
	"fmt"
	"math"
	"strings"
)

type kind int

const (
	tEOF kind = iota
	tPunct
	tNumber
	tString
	tWord // identifier, keyword or function name
	tBool
	tNull
)

type token struct {
	kind kind
	text string // as written; for strings the unquoted value
	num  float64
	pos  int // 1-based
}

// Error is a mistake in an expression, worded as GitHub words it.
type Error struct {
	Message string // "Unexpected symbol: 'x'"
	Pos     int    // 1-based position inside Source; 0 when unknown
	Source  string
}

func (e *Error) Error() string {
	if e.Pos == 0 {
		return e.Message
	}
	src := e.Source
	if len(src) > 1000 {
		src = strings.ToValidUTF8(src[:1000], "") + "..."
	}
	return fmt.Sprintf("%s. Located at position %d within expression: %s", e.Message, e.Pos, src)
}

const maxSource = 21000

func boundary(c byte) bool {
	return strings.IndexByte("([)],.!><=&| \t\r\n", c) >= 0
}

func lex(src string) ([]token, error) {
	if len(src) > maxSource {
		return nil, &Error{Message: fmt.Sprintf("Exceeded max expression length %d", maxSource)}
	}
	var toks []token
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '\'':
			s, n, ok := lexString(src[i:])
			if !ok {
				return nil, &Error{"Unexpected symbol: '" + src[i:] + "'", i + 1, src}
			}
			toks = append(toks, token{kind: tString, text: s, pos: i + 1})
			i += n
		case c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' && !dereferences(toks):
			j := i
			for j < len(src) && (!boundary(src[j]) || src[j] == '.') {
				j++
			}
			w := src[i:j]
			n := parseNumber(w)
			if math.IsNaN(n) {
				return nil, &Error{"Unexpected symbol: '" + w + "'", i + 1, src}
			}
			toks = append(toks, token{kind: tNumber, text: w, num: n, pos: i + 1})
			i = j
		case strings.IndexByte("()[],.*", c) >= 0:
			toks = append(toks, token{kind: tPunct, text: string(c), pos: i + 1})
			i++
		case strings.IndexByte("!<>=&|", c) >= 0:
			op := src[i : i+1]
			if i+1 < len(src) {
				switch two := src[i : i+2]; two {
				case "!=", "<=", ">=", "==", "&&", "||":
					op = two
				}
			}
			if op == "=" || op == "&" || op == "|" {
				return nil, &Error{"Unexpected symbol: '" + op + "'", i + 1, src}
			}
			toks = append(toks, token{kind: tPunct, text: op, pos: i + 1})
			i += len(op)
		default:
			j := i
			for j < len(src) && !boundary(src[j]) {
				j++
			}
			t, ok := word(src[i:j], len(toks) > 0 && toks[len(toks)-1].text == "." && toks[len(toks)-1].kind == tPunct)
			t.pos = i + 1
			if !ok {
				return nil, &Error{"Unexpected symbol: '" + src[i:j] + "'", i + 1, src}
			}
			toks = append(toks, t)
			i = j
		}
	}
	return append(toks, token{kind: tEOF, pos: len(src) + 1}), nil
}

// dereferences tells the dot of "a.b" from that of ".5": only a name, a bracket or a star has properties.
func dereferences(toks []token) bool {
	if len(toks) == 0 {
		return false
	}
	last := toks[len(toks)-1]
	return last.kind == tWord || last.kind == tPunct && (last.text == ")" || last.text == "]" || last.text == "*")
}

func lexString(s string) (value string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), i + 1, true
	}
	return "", 0, false
}

func word(w string, property bool) (token, bool) {
	if !property {
		switch w {
		case "true", "false":
			return token{kind: tBool, text: w}, true
		case "null":
			return token{kind: tNull, text: w}, true
		case "NaN":
			return token{kind: tNumber, text: w, num: math.NaN()}, true
		case "Infinity":
			return token{kind: tNumber, text: w, num: math.Inf(1)}, true
		}
	}
	for i := range len(w) {
		c := w[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '-')) {
			return token{}, false
		}
	}
	return token{kind: tWord, text: w}, w != ""
}
