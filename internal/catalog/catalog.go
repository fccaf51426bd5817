package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/base/strict"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

//go:embed migrations
var migrations embed.FS

const org = "default"

// Repository is a place where revisions live. Its name can change, its id not.
type Repository struct {
	ID      string    `json:"id"`
	Org     string    `json:"org"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Ref names a service that has been declared on a trunk.
type Ref struct {
	ID           string    `json:"id"`
	Org          string    `json:"org"`
	RepositoryID string    `json:"repository_id"`
	Name         string    `json:"name"`
	Created      time.Time `json:"created"`
}

// Files reads repositories; the source layer is behind it.
type Files interface {
	// Head returns the revision of a branch such as "main", or "" if there is none.
	Head(ctx context.Context, repositoryID, branch string) (string, error)
	// ReadFile returns a file of a revision, or a NotFound fault.
	ReadFile(ctx context.Context, repositoryID, revision, path string) ([]byte, error)
}

// Catalog knows repositories and services.
type Catalog struct {
	db     *db.DB
	ledger *ledger.Log
	files  Files
}

// New brings the tables up to date.
func New(ctx context.Context, d *db.DB, log *ledger.Log, files Files) (*Catalog, error) {
	if err := db.Migrate(ctx, d, "catalog", migrations); err != nil {
		return nil, err
	}
	err := d.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "insert into org (org, name, at) values (?, ?, ?) on conflict (org) do nothing", org, org, time.Now().UnixMicro())
		return err
	})
	return &Catalog{d, log, files}, err
}

// CreateRepository makes an empty repository.
func (c *Catalog) CreateRepository(ctx context.Context, name string) (Repository, error) {
	if err := identity.Check(ctx, "repository.create", org); err != nil {
		return Repository{}, err
	}
	if !nameRe.MatchString(name) {
		return Repository{}, fault.New(fault.Invalid, "%q is not a repository name. Use lower-case letters, digits and hyphens, at most 40.", name)
	}
	r := Repository{ID: id.New("repo"), Org: org, Name: name, Created: time.Now().UTC()}
	err := c.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "insert into repository (org, id, name, at) values (?, ?, ?, ?) on conflict (org, name) do nothing", org, r.ID, name, r.Created.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fault.New(fault.Conflict, "There is a repository %s already. Choose another name.", name))
		}
		_, err = c.ledger.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: "repository.created", Subject: r.ID, Data: map[string]string{"name": name}})
		return err
	})
	return r, err
}

// Repository finds a repository by id or name.
func (c *Catalog) Repository(ctx context.Context, idOrName string) (Repository, error) {
	rows, err := c.db.Query(ctx, "select org, id, name, at from repository where id = ? or (org = ? and name = ?)", idOrName, org, idOrName)
	found, err := db.Collect(rows, err, scanRepository)
	if err != nil {
		return Repository{}, err
	}
	if len(found) == 0 {
		return Repository{}, fault.New(fault.NotFound, "There is no repository %s.", idOrName)
	}
	return found[0], nil
}

// Repositories lists all repositories by name.
func (c *Catalog) Repositories(ctx context.Context) ([]Repository, error) {
	rows, err := c.db.Query(ctx, "select org, id, name, at from repository where org = ? order by name", org)
	return db.Collect(rows, err, scanRepository)
}

func scanRepository(r *sql.Rows) (repo Repository, err error) {
	var at int64
	err = r.Scan(&repo.Org, &repo.ID, &repo.Name, &at)
	repo.Created = db.Time(at)
	return repo, err
}

// Services lists all services by name.
func (c *Catalog) Services(ctx context.Context) ([]Ref, error) {
	rows, err := c.db.Query(ctx, "select org, id, repository_id, name, at from service where org = ? order by name", org)
	return db.Collect(rows, err, scanRef)
}

// Service finds a service by id or name.
func (c *Catalog) Service(ctx context.Context, idOrName string) (Ref, error) {
	rows, err := c.db.Query(ctx, "select org, id, repository_id, name, at from service where id = ? or (org = ? and name = ?)", idOrName, org, idOrName)
	found, err := db.Collect(rows, err, scanRef)
	if err != nil {
		return Ref{}, err
	}
	if len(found) == 0 {
		return Ref{}, fault.New(fault.NotFound, "There is no service %s. Services appear when a weir.yaml that declares them lands on the trunk.", idOrName)
	}
	return found[0], nil
}

func scanRef(r *sql.Rows) (ref Ref, err error) {
	var at int64
	err = r.Scan(&ref.Org, &ref.ID, &ref.RepositoryID, &ref.Name, &at)
	ref.Created = db.Time(at)
	return ref, err
}

// At returns what a revision declares, or nil if it has no weir.yaml. Services
// that a revision declares for the first time get their ids here.
func (c *Catalog) At(ctx context.Context, repositoryID, revision string) (*File, error) {
	repo, err := c.Repository(ctx, repositoryID)
	if err != nil {
		return nil, err
	}
	src, err := c.files.ReadFile(ctx, repositoryID, revision, FileName)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, diags := Parse(FileName, src, repo.Name)
	if len(diags) > 0 {
		return nil, Refusal(diags)
	}
	return f, nil
}

// Refusal turns diagnostics into one error that names them all.
func Refusal(diags []strict.Diagnostic) error {
	lines := make([]string, len(diags))
	for i, d := range diags {
		lines[i] = d.String()
	}
	return fault.New(fault.Invalid, "%s", strings.Join(lines, "\n"))
}

// Trunk returns the current trunk's revision and what it declares. The trunk of
// a repository is main. Revision is "" for an empty repository.
func (c *Catalog) Trunk(ctx context.Context, repositoryID string) (revision string, f *File, err error) {
	if revision, err = c.files.Head(ctx, repositoryID, TrunkName); err != nil || revision == "" {
		return "", &File{Repository: RepositoryRules{Trunk: TrunkName}}, err
	}
	if f, err = c.At(ctx, repositoryID, revision); f == nil && err == nil {
		f = &File{Repository: RepositoryRules{Trunk: TrunkName, Reviews: Reviews{Required: 1}}}
	}
	return revision, f, err
}

// Declared returns a service as its current trunk declares it: the rules of its
// environments, whatever release they are asked about.
func (c *Catalog) Declared(ctx context.Context, serviceID string) (Declared, error) {
	ref, err := c.Service(ctx, serviceID)
	if err != nil {
		return Declared{}, err
	}
	_, f, err := c.Trunk(ctx, ref.RepositoryID)
	if err != nil {
		return Declared{}, err
	}
	for _, d := range f.Services {
		if d.Name == ref.Name {
			return d, nil
		}
	}
	return Declared{}, fault.New(fault.NotFound, "The trunk's weir.yaml no longer declares the service %s.", ref.Name)
}

// Ensure gives ids to the services that a landed revision declares, and
// returns those of the file in its order. A name belongs to one repository.
func (c *Catalog) Ensure(ctx context.Context, tx *db.Tx, repositoryID string, f *File) ([]Ref, error) {
	var refs []Ref
	for _, s := range f.Services {
		now := time.Now().UTC()
		if _, err := tx.Exec(ctx, "insert into service (org, id, repository_id, name, at) values (?, ?, ?, ?, ?) on conflict (org, name) do nothing",
			org, id.New("svc"), repositoryID, s.Name, now.UnixMicro()); err != nil {
			return nil, err
		}
		ref := Ref{Org: org, Name: s.Name}
		var at int64
		if err := tx.QueryRow(ctx, "select id, repository_id, at from service where org = ? and name = ?", org, s.Name).Scan(&ref.ID, &ref.RepositoryID, &at); err != nil {
			return nil, err
		}
		ref.Created = db.Time(at)
		if ref.RepositoryID != repositoryID {
			return nil, fault.New(fault.Invalid, "The service name %s belongs to another repository. Choose another name in %s.", s.Name, FileName)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// EnsureServices is Ensure in a transaction of its own.
func (c *Catalog) EnsureServices(ctx context.Context, repositoryID string, f *File) (refs []Ref, err error) {
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		refs, err = c.Ensure(ctx, tx, repositoryID, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("services of %s: %w", repositoryID, err)
	}
	return refs, nil
}
