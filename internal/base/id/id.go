// Package id makes sortable, typed identifiers: a prefix that names the kind
// of thing and a ULID, as in "run_01JD3Z...".
package id

import (
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

var (
	mu      sync.Mutex
	entropy = ulid.Monotonic(rand.Reader, 0)
)

// New returns an identifier that sorts after every earlier one of this process.
func New(kind string) string {
	mu.Lock()
	defer mu.Unlock()
	return kind + "_" + ulid.MustNew(ulid.Timestamp(time.Now()), entropy).String()
}

// Kind returns the prefix of an identifier, or "".
func Kind(id string) string {
	kind, rest, ok := strings.Cut(id, "_")
	if !ok || len(rest) != ulid.EncodedSize {
		return ""
	}
	return kind
}

// Time returns when an identifier was made.
func Time(id string) (time.Time, error) {
	_, rest, _ := strings.Cut(id, "_")
	u, err := ulid.ParseStrict(rest)
	if err != nil {
		return time.Time{}, err
	}
	return u.Timestamp(), nil
}
