package source

import (
	"context"
	"io"
	"time"

	"weir/internal/guard/evidence"
)

// Git is what this layer needs of the object store on disk. Its adapter brings
// the cached repository in line with the rows before it looks.
type Git interface {
	// IsAncestor reports whether old is reachable from new.
	IsAncestor(ctx context.Context, repositoryID, old, new string) (bool, error)
	// Kind returns what an object is (commit, tag, tree, blob), "" if there is none.
	Kind(ctx context.Context, repositoryID, object string) (string, error)
	ReadFile(ctx context.Context, repositoryID, revision, path string) ([]byte, error)
	List(ctx context.Context, repositoryID, revision, dir string) ([]string, error)
	Checkout(ctx context.Context, repositoryID, revision, dir string) error
	ChangedFiles(ctx context.Context, repositoryID, from, to string) ([]string, error)
	Diff(ctx context.Context, repositoryID, from, to string, w io.Writer, limit int64) error
	// Log lists commits that to has and from ("" for none) has not, newest first, at most limit.
	Log(ctx context.Context, repositoryID, from, to string, limit int) ([]Commit, error)
}

// Commit is what a revision says of itself. Author is whatever the committer
// wrote; nothing is decided by it.
type Commit struct {
	Revision    string    `json:"revision"`
	Subject     string    `json:"subject"`
	Body        string    `json:"body"`
	Author      string    `json:"author"`
	AuthorEmail string    `json:"author_email"`
	Time        time.Time `json:"time"`
}

// Signer signs statements. It is evidence.Service.
type Signer interface {
	Sign(ctx context.Context, st evidence.Statement) (evidence.Evidence, error)
}

// People resolves names in CODEOWNERS to user names: "@mira", an email address,
// or "@org/team".
type People interface {
	Resolve(ctx context.Context, owner string) ([]string, error)
}
