package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// names are the members that decide what a document means.
var names = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "digest", "size", "platform", "urls", "os", "architecture"}

// maxDepth is how deep a document may nest; real ones need four.
const maxDepth = 16

// unambiguous refuses a document that two parsers could read differently: a name
// twice in one object, or in other letters than the specification's. Go's parser
// takes the last and ignores case; those of others do neither.
func unambiguous(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := value(d, 0, false); err != nil {
		return err
	}
	if d.More() {
		return errors.New("holds more than one document")
	}
	return nil
}

// value reads one value. free are objects whose names anybody chooses.
func value(d *json.Decoder, depth int, free bool) error {
	if depth > maxDepth {
		return fmt.Errorf("nests deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("is not JSON (%w)", err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		inner := free
		if open == '{' {
			k, err := d.Token()
			if err != nil {
				return fmt.Errorf("is not JSON (%w)", err)
			}
			key := k.(string) // what follows { is a string, or Token has failed
			folded := key
			if !free {
				folded = strings.ToLower(key)
			}
			if seen[folded] {
				return fmt.Errorf("has the member %q twice", key)
			}
			seen[folded] = true
			for _, n := range names {
				if !free && key != n && strings.EqualFold(key, n) {
					return fmt.Errorf("has a member %q where %q is meant", key, n)
				}
			}
			inner = free || key == "annotations"
		}
		if err := value(d, depth+1, inner); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("is not JSON (%w)", err)
	}
	return nil
}
