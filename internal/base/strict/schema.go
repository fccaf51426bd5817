package strict

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Described is a scalar type that tells its JSON Schema pattern and an example.
type Described interface {
	// Describe returns a regular expression and what a person writes.
	Describe() (pattern, example string)
}

// Doc is one key of the reference.
type Doc struct {
	Key     string // "services.NAME.run.NAME.port"
	Type    string // "string", "true or false", "list of string", ...
	Text    string
	Default string
	Values  []string // the only values allowed, if any
}

// Docs lists every key of a struct, depth first in the order of fields.
func Docs(v any) []Doc {
	var out []Doc
	docs(reflect.TypeOf(v), "", &out)
	return out
}

// Explain finds a key. Names in maps may be written as NAME or as any name.
func Explain(v any, key string) (Doc, bool) {
	for _, d := range Docs(v) {
		if matches(d.Key, key) {
			return d, true
		}
	}
	return Doc{}, false
}

func matches(pattern, key string) bool {
	p, k := strings.Split(pattern, "."), strings.Split(key, ".")
	if len(p) != len(k) {
		return false
	}
	for i := range p {
		if p[i] != k[i] && p[i] != "NAME" {
			return false
		}
	}
	return true
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func docs(t reflect.Type, path string, out *[]Doc) {
	t = deref(t)
	switch {
	case scalar(t):
	case t.Kind() == reflect.Struct:
		for _, f := range ordered(t) {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			d := Doc{Key: join(path, key), Type: typeName(f.Type), Text: f.Tag.Get("doc"), Default: f.Tag.Get("default")}
			if e := f.Tag.Get("enum"); e != "" {
				d.Values = strings.Split(e, ",")
			}
			*out = append(*out, d)
			docs(f.Type, d.Key, out)
		}
	case t.Kind() == reflect.Map:
		docs(t.Elem(), join(path, "NAME"), out)
	case t.Kind() == reflect.Slice:
		docs(t.Elem(), path, out)
	}
}

// ordered returns the documented fields in the order of the source.
func ordered(t reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for _, f := range reflect.VisibleFields(t) {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			out = append(out, f)
		}
	}
	return out
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func scalar(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textUnmarshaler) }

func typeName(t reflect.Type) string {
	t = deref(t)
	if scalar(t) {
		if d, ok := reflect.New(t).Interface().(Described); ok {
			_, example := d.Describe()
			return "such as " + example
		}
		return "string"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "mapping of names to " + typeName(t.Elem())
	case reflect.Struct:
		return "mapping"
	}
	return "string"
}

// Schema returns the JSON Schema (2020-12) of a struct.
func Schema(v any, id, title string) map[string]any {
	s := schema(reflect.TypeOf(v), reflect.StructTag(""))
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = id
	s["title"] = title
	return s
}

func schema(t reflect.Type, tag reflect.StructTag) map[string]any {
	t = deref(t)
	s := map[string]any{}
	if doc := tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	if scalar(t) {
		// 80% and 30m are text; so that 5 is accepted as well, no type is given.
		if d, ok := reflect.New(t).Interface().(Described); ok {
			pattern, example := d.Describe()
			s["pattern"], s["examples"] = pattern, []string{example}
		}
		return s
	}
	switch t.Kind() {
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.Int, reflect.Int64:
		s["type"] = "integer"
	case reflect.Float64:
		s["type"] = "number"
	case reflect.String:
		s["type"] = "string"
	case reflect.Slice:
		s["type"], s["items"] = "array", schema(t.Elem(), "")
	case reflect.Map:
		s["type"], s["additionalProperties"] = "object", schema(t.Elem(), "")
	case reflect.Struct:
		props := map[string]any{}
		for _, f := range ordered(t) {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			props[key] = schema(f.Type, f.Tag)
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", props, false
	}
	if e := tag.Get("enum"); e != "" {
		values := strings.Split(e, ",")
		if items, ok := s["items"].(map[string]any); ok {
			items["enum"] = values
		} else {
			s["enum"] = slices.Clone(values)
		}
	}
	return s
}
