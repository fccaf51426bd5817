package app

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/blob/s3"
	"weir/internal/base/db"
	"weir/internal/base/db/postgres"
	"weir/internal/base/db/sqlite"
	"weir/internal/base/fault"
)

// The technologies that a URL can name. Nothing below this package can ask
// which was chosen.
var (
	databases = map[string]func(context.Context, *url.URL) (*db.DB, error){"sqlite": sqlite.Open, "postgres": postgres.Open, "postgresql": postgres.Open}
	blobs     = map[string]func(context.Context, *url.URL) (blob.Store, error){
		"dir": func(_ context.Context, u *url.URL) (blob.Store, error) { return dir.Open(u.Path) },
		"s3":  func(ctx context.Context, u *url.URL) (blob.Store, error) { return s3.Open(ctx, u) },
	}
)

// open builds the implementation that the scheme of rawURL names.
func open[T any](ctx context.Context, what, rawURL string, makers map[string]func(context.Context, *url.URL) (T, error)) (T, error) {
	var none T
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parse error quotes the URL, which may hold a password.
		return none, fault.New(fault.Invalid, "The %s URL is not a URL. Check it for unescaped characters in the password.", what)
	}
	make, ok := makers[u.Scheme]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(makers)), ":// or ")
		return none, fault.New(fault.Invalid, "The %s URL %s has the scheme %q, which is not known. Use %s://.", what, u.Redacted(), u.Scheme, known)
	}
	return make(ctx, u)
}
