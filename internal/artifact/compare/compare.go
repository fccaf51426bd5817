// Package compare says how two images differ, down to the file: what a rebuild
// that did not give the same digest needs to be understood. It reads layers as
// hostile input, in one pass each, and holds no more than a line for each file.
package compare

import (
	"archive/tar"

	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"weir/internal/artifact/layout"
)

// Image is one side.
type Image struct {
	Platform string
	Digest   string
	Config   []byte
	Layers   []Layer
}

// Layer is a layer that can be read.
type Layer struct {
	MediaType string
	Digest    string
	Open      func() (io.ReadCloser, error)
}

// Difference is one thing that is not the same. Was or Is is empty where it is
// on one side only.
type Difference struct {
	Where string `json:"where"`          // "configuration", "layer 2", "image"
	Path  string `json:"path,omitempty"` // of a file, or of a field
	What  string `json:"what"`           // bytes, mode, time, owner, kind, link, presence, value, compression, order
	Was   string `json:"was"`
	Is    string `json:"is"`
}

// String is a line for people.
func (d Difference) String() string {
	s := d.Where
	if d.Path != "" {
		s += ", " + d.Path
	}
	return fmt.Sprintf("%s: %s was %s, is %s", s, d.What, cmp.Or(d.Was, "not there"), cmp.Or(d.Is, "not there"))
}

// Most is how many differences are told.
const Most = 1000

// Images compares was with is. No difference means that they have the same digest,
// or differ in how a manifest is written.
func Images(was, is Image) ([]Difference, error) {
	out := configs(was.Config, is.Config)
	for i := range max(len(was.Layers), len(is.Layers)) {
		where := "layer " + strconv.Itoa(i+1)
		switch {
		case i >= len(was.Layers):
			out = append(out, Difference{Where: where, What: "presence", Is: is.Layers[i].Digest})
			continue
		case i >= len(is.Layers):
			out = append(out, Difference{Where: where, What: "presence", Was: was.Layers[i].Digest})
			continue
		case was.Layers[i].Digest == is.Layers[i].Digest:
			continue
		}
		a, err := read(was.Layers[i])
		if err != nil {
			return out, fmt.Errorf("%s as it was: %w", where, err)
		}
		b, err := read(is.Layers[i])
		if err != nil {
			return out, fmt.Errorf("%s as it is: %w", where, err)
		}
		out = append(out, layers(where, a, b, was.Layers[i], is.Layers[i])...)
		if len(out) > Most {
			return out[:Most], nil
		}
	}
	return out, nil
}

// content is what a layer holds.
type content struct {
	diffID string
	order  []string
	files  map[string]facts
}

type facts struct{ kind, mode, time, owner, link, bytes string }

func read(l Layer) (c content, err error) {
	rc, err := l.Open()
	if err != nil {
		return c, err
	}
	defer rc.Close()
	c.files = map[string]facts{}
	c.diffID, err = layout.Walk(l.MediaType, rc, &layout.Budget{}, func(e layout.Entry, body io.Reader) error {
		f := facts{kind: kind(e.Typeflag), mode: fmt.Sprintf("%04o", e.Mode), time: e.ModTime.UTC().Format("2006-01-02T15:04:05Z"), owner: fmt.Sprintf("%d:%d", e.Uid, e.Gid), link: e.Linkname}
		if e.Typeflag == tar.TypeReg {
			h := sha256.New()
			n, err := io.Copy(h, body)
			if err != nil {
				return err
			}
			f.bytes = fmt.Sprintf("%d bytes sha256:%s", n, hex.EncodeToString(h.Sum(nil)))
		}
		c.order = append(c.order, e.Path)
		c.files[e.Path] = f
		return nil
	})
	return c, err
}

func kind(t byte) string {
	switch t {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "folder"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeLink:
		return "hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "pipe"
	}
	return string(t)
}

// layers compares the files of two layers with different digests.
func layers(where string, a, b content, was, is Layer) (out []Difference) {
	names := map[string]bool{}
	for n := range a.files {
		names[n] = true
	}
	for n := range b.files {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		x, inA := a.files[n]
		y, inB := b.files[n]
		if !inA || !inB {
			out = append(out, Difference{Where: where, Path: n, What: "presence", Was: x.kind, Is: y.kind})
			continue
		}
		for _, p := range []struct{ what, was, is string }{{"kind", x.kind, y.kind}, {"bytes", x.bytes, y.bytes}, {"mode", x.mode, y.mode}, {"time", x.time, y.time}, {"owner", x.owner, y.owner}, {"link", x.link, y.link}} {
			if p.was != p.is {
				out = append(out, Difference{where, n, p.what, p.was, p.is})
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	switch {
	case a.diffID == b.diffID:
		return []Difference{{Where: where, What: "compression", Was: was.Digest, Is: is.Digest}}
	case !slices.Equal(a.order, b.order):
		return []Difference{{Where: where, What: "order", Was: a.diffID, Is: b.diffID}}
	}
	return []Difference{{Where: where, What: "archive format", Was: a.diffID, Is: b.diffID}}
}

// configs compares two configurations, field by field. The content of layers is
// compared as files, so their digests here are left out.
func configs(was, is []byte) (out []Difference) {
	a, b := map[string]string{}, map[string]string{}
	flatten("", was, a)
	flatten("", is, b)
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if a[n] != b[n] && !strings.HasPrefix(n, "rootfs.") {
			out = append(out, Difference{"configuration", n, "value", a[n], b[n]})
		}
	}
	return out
}

func flatten(at string, raw json.RawMessage, into map[string]string) {
	if len(into) > 10_000 {
		return
	}
	var m map[string]json.RawMessage
	var l []json.RawMessage
	switch {
	case json.Unmarshal(raw, &m) == nil && m != nil:
		for k, v := range m {
			name := k
			if at != "" {
				name = at + "." + k
			}
			flatten(name, v, into)
		}
	case json.Unmarshal(raw, &l) == nil && l != nil:
		for i, v := range l {
			flatten(at+"["+strconv.Itoa(i)+"]", v, into)
		}
	default:
		into[at] = string(raw)
	}
}
