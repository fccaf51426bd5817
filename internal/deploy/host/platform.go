package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// How far an index leads to others, as the registry takes them.
const (
	maxNesting = 4
	maxIndexes = 32
)

// imageIndex names the images of several platforms, or indexes of them.
type imageIndex struct {
	MediaType string  `json:"mediaType"`
	Manifests []named `json:"manifests"`
}

type named struct {
	descriptor
	Platform *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// mine reports whether an entry is for this machine.
func (n named) mine() bool {
	return n.Platform != nil && n.Platform.OS == "linux" && n.Platform.Architecture == runtime.GOARCH
}

// open reports whether an entry is an index that does not say for which platform it is.
func (n named) open() bool {
	return n.Platform == nil && (n.MediaType == ociIndex || n.MediaType == dockerIndex)
}

// indexOf reads an index; ok is false for an image.
func indexOf(raw []byte) (i imageIndex, ok bool) {
	if json.Unmarshal(raw, &i) != nil || i.Manifests == nil && i.MediaType != ociIndex && i.MediaType != dockerIndex {
		return i, false
	}
	return i, true
}

// noPlatform is an index without an image for this machine.
type noPlatform []string

func (n noPlatform) Error() string {
	return "it has no image for linux/" + runtime.GOARCH + ", only for " + strings.Join(n, ", ")
}

var errIndex = errors.New("its index cannot be followed")

// route finds the image for this machine if raw is an index: its manifest, and the indexes that lead to it, the outermost first. Of an image
// both are nil. What is signed is the outermost index; all else is bound to it by digests.
func route(raw []byte, fetch func(digest string) ([]byte, error)) (indexes [][]byte, manifest []byte, err error) {
	if _, ok := indexOf(raw); !ok {
		return nil, nil, nil
	}
	w := &walk{fetch: fetch, seen: map[string]bool{}}
	if indexes, manifest, err = w.into(raw, 1); err == nil && manifest == nil {
		err = w.others
	}
	return indexes, manifest, err
}

type walk struct {
	fetch  func(digest string) ([]byte, error)
	seen   map[string]bool
	others noPlatform
}

func (w *walk) into(raw []byte, depth int) (indexes [][]byte, manifest []byte, err error) {
	i, _ := indexOf(raw)
	for _, want := range []func(named) bool{named.mine, named.open} { // what says that it fits comes first
		for _, m := range i.Manifests {
			if !want(m) || w.seen[m.Digest] {
				continue
			}
			if !validDigest(m.Digest) {
				return nil, nil, fmt.Errorf("%w: it names the image %q", errIndex, m.Digest)
			}
			if w.seen[m.Digest] = true; len(w.seen) > maxIndexes {
				return nil, nil, fmt.Errorf("%w: it names more than %d indexes", errIndex, maxIndexes)
			}
			one, err := w.fetch(m.Digest)
			if err != nil {
				return nil, nil, err
			}
			if got := sum(one); got != m.Digest {
				return nil, nil, fmt.Errorf("%w: what it names as %s has the digest %s", errIndex, m.Digest, got)
			}
			if _, inner := indexOf(one); !inner {
				return [][]byte{raw}, one, nil
			}
			if depth >= maxNesting {
				return nil, nil, fmt.Errorf("%w: indexes are nested more than %d deep", errIndex, maxNesting)
			}
			found, manifest, err := w.into(one, depth+1)
			if err != nil || manifest != nil {
				return append([][]byte{raw}, found...), manifest, err
			}
		}
	}
	for _, m := range i.Manifests {
		if p := m.Platform; p != nil && p.OS != "unknown" && !m.mine() {
			w.others = append(w.others, p.OS+"/"+p.Architecture)
		}
	}
	return nil, nil, nil
}

// along follows stored indexes from the digest that was pulled to the manifest, whose digest it returns.
func along(digest string, indexes [][]byte, manifest []byte) (string, error) {
	for n, raw := range indexes {
		if sum(raw) != digest {
			return "", errors.New("its index has another digest")
		}
		next := manifest
		if n+1 < len(indexes) {
			next = indexes[n+1]
		}
		i, _ := indexOf(raw)
		digest = sum(next)
		if !slices.ContainsFunc(i.Manifests, func(m named) bool { return (m.mine() || m.open()) && m.Digest == digest }) {
			return "", errors.New("its index does not name it for this machine")
		}
	}
	return digest, nil
}

func indexName(n int) string {
	if n == 0 {
		return "index.json"
	}
	return fmt.Sprintf("index.%d.json", n)
}
