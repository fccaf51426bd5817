package strict

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Locate returns line and column of the deepest part of a key path that is
// there, for messages about a document that has already been decoded.
func Locate(src []byte, path string) (line, column int) {
	n, _ := find(src, path)
	return n.Line, n.Column
}

// Has reports whether the whole key path is there.
func Has(src []byte, path string) bool {
	_, ok := find(src, path)
	return ok
}

func find(src []byte, path string) (at *yaml.Node, whole bool) {
	var doc yaml.Node
	if yaml.Unmarshal(src, &doc) != nil || len(doc.Content) == 0 {
		return &yaml.Node{Line: 1, Column: 1}, false
	}
	at = doc.Content[0]
	value := at
	for key := range strings.SplitSeq(path, ".") {
		next := -1
		for i := 0; value.Kind == yaml.MappingNode && i < len(value.Content); i += 2 {
			if value.Content[i].Value == key {
				next = i
			}
		}
		if next < 0 {
			return at, path == ""
		}
		at, value = value.Content[next], value.Content[next+1]
	}
	return at, true
}

// Value is one scalar of a document, as it is written.
type Value struct {
	Path, Text   string
	Line, Column int
}

// Values lists the scalars of a document. Aliases are not followed.
func Values(src []byte) []Value {
	var doc yaml.Node
	if len(src) > MaxSize || yaml.Unmarshal(src, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	var out []Value
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		switch n.Kind {
		case yaml.ScalarNode:
			out = append(out, Value{path, n.Value, n.Line, n.Column})
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], join(path, n.Content[i].Value))
			}
		case yaml.SequenceNode:
			for _, c := range n.Content {
				walk(c, path)
			}
		}
	}
	walk(doc.Content[0], "")
	return out
}
