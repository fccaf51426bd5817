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
