// Package strict reads YAML into structs and forgives nothing: an unknown key,
// a key given twice, a wrong type and a bad value each become a diagnostic with
// line, column and, for keys, the nearest right one. The same structs give the
// JSON Schema and the reference, so that code and documentation are one.
//
// A field is described by tags: yaml:"name", doc:"one sentence.", enum:"a,b",
// default:"shown only". Scalars with a form of their own implement
// encoding.TextUnmarshaler.
package strict

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v3"
)

// MaxSize bounds a document, in bytes.
const MaxSize = 1 << 20

// Diagnostic says what is wrong, where.
type Diagnostic struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1
	Path    string `json:"path"`   // "services.checkout.run"
	Message string `json:"message"`
}

func (d Diagnostic) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message)
}

// Decode reads one YAML document into the struct that into points to and
// returns what is wrong with it, in the order of lines.
func Decode(file string, src []byte, into any) []Diagnostic {
	d := &decoder{file: file}
	if len(src) > MaxSize {
		d.at(&yaml.Node{Line: 1, Column: 1}, "", "the file is larger than 1 MiB")
		return d.out
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(src)))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			d.at(&yaml.Node{Line: 1, Column: 1}, "", "the file is empty")
		} else {
			d.at(&yaml.Node{Line: lineOf(err), Column: 1}, "", "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		return d.out
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.at(&doc, "", "the file holds more than one YAML document")
		return d.out
	}
	d.value(doc.Content[0], reflect.ValueOf(into).Elem(), "")
	slices.SortStableFunc(d.out, func(a, b Diagnostic) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return d.out
}

// lineOf takes the line number out of the parser's message.
func lineOf(err error) int {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if !ok {
		return 1
	}
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, aerr := strconv.Atoi(rest[:max(digits, 0)])
	if aerr != nil {
		return 1
	}
	return n
}

type decoder struct {
	file string
	out  []Diagnostic
}

func (d *decoder) at(n *yaml.Node, path, msg string, args ...any) {
	d.out = append(d.out, Diagnostic{d.file, n.Line, n.Column, path, fmt.Sprintf(msg, args...)})
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		// An alias may make a small file unfold into a huge one.
		d.at(n, path, "anchors and aliases are not supported here; write the value out")
		return
	}
	if n.Tag == "!!null" {
		switch v.Kind() {
		case reflect.Pointer: // `rolling:` without a value chooses it with its defaults.
			v.Set(reflect.New(v.Type().Elem()))
		case reflect.String, reflect.Int, reflect.Float64, reflect.Bool, reflect.Int64:
			d.at(n, path, "%s needs a value", last(path))
		}
		return
	}
	if v.CanAddr() {
		if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if n.Kind != yaml.ScalarNode {
				d.at(n, path, "%s must be a single value, not %s", last(path), kind(n))
			} else if err := t.UnmarshalText([]byte(n.Value)); err != nil {
				d.at(n, path, "%s: %s", last(path), err)
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.at(n, path, "%s must be a list, not %s", last(path), kind(n))
			return
		}
		s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, c := range n.Content {
			d.value(c, s.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(s)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.at(n, path, "%s must be a single value, not %s", last(path), kind(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		switch n.Value {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			d.at(n, path, "%s must be true or false, not %q", last(path), n.Value)
		}
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			d.at(n, path, "%s must be a whole number, not %q", last(path), n.Value)
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			d.at(n, path, "%s must be a number, not %q", last(path), n.Value)
			return
		}
		v.SetFloat(f)
	default:
		panic("strict: no decoding for " + v.Type().String())
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.at(n, path, "%s must be a mapping of keys to values, not %s", orDocument(path), kind(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if seen[k.Value] {
			d.at(k, path, "%q is given twice", k.Value)
			continue
		}
		seen[k.Value] = true
		f, ok := fields[k.Value]
		if !ok {
			d.at(k, join(path, k.Value), "unknown key %q%s%s", k.Value, in(path), nearest(k.Value, fields))
			continue
		}
		sub := join(path, k.Value)
		before := len(d.out)
		d.value(c, v.FieldByIndex(f.Index), sub)
		if enum := f.Tag.Get("enum"); enum != "" && len(d.out) == before {
			d.oneOf(c, enum, sub)
		}
	}
}

func (d *decoder) oneOf(n *yaml.Node, enum, path string) {
	values := strings.Split(enum, ",")
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		if !slices.Contains(values, n.Value) {
			d.at(n, path, "%s must be one of %s, not %q", last(path), strings.Join(values, ", "), n.Value)
		}
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.at(n, path, "%s must be a mapping of names to values, not %s", orDocument(path), kind(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		key := reflect.ValueOf(k.Value)
		if m.MapIndex(key).IsValid() {
			d.at(k, path, "%q is given twice", k.Value)
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(c, e, join(path, k.Value))
		m.SetMapIndex(key, e)
	}
	v.Set(m)
}

// fieldsOf returns the fields of a struct by key, those of embedded structs included.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			out[key] = f
		}
	}
	return out
}

func nearest(key string, fields map[string]reflect.StructField) string {
	best, bestD := "", 3
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if dist := levenshtein.Distance(key, name, nil); dist < bestD {
			best, bestD = name, dist
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known here: " + strings.Join(names, ", ")
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

func orDocument(path string) string {
	if path == "" {
		return "the document"
	}
	return last(path)
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(n.Value)
}
