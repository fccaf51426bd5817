// Package mirror keeps copies of other people's repositories: the actions and workflows that runs may use.
//
// Nothing is fetched unless somebody asks for it, by name. What was fetched is one bundle in the blob store and the commits that
// its branches and tags had at that time; a reference is resolved against these, so the same name means the same bytes until a
// person fetches again, which is an entry in the ledger with what has moved. The bare repository beside it is a cache.
package mirror

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/source"
	"weir/internal/source/git"
)

//go:embed migrations
var migrations embed.FS

// Limits on one mirror.
const (
	MaxBytes = 1 << 30 // of its bundle
	MaxRefs  = 20_000
	MaxTime  = 5 * time.Minute // to fetch
)

// Mirror is one copy.
type Mirror struct {
	Name    string
	URL     string
	Size    int64
	Refs    map[string]string // "refs/tags/v4" to a commit
	Fetched time.Time
	By      string

	digest blob.Digest
}

// Store keeps mirrors.
type Store struct {
	db     *db.DB
	blobs  blob.Store
	ledger *ledger.Log
	dir    string // of the caches
	now    func() time.Time
	mu     sync.Mutex // held while a cache is made
}

// Open brings the table up to date. Dir is where bare repositories are cached.
func Open(ctx context.Context, d *db.DB, blobs blob.Store, log *ledger.Log, dir string, now func() time.Time) (*Store, error) {
	if err := db.Migrate(ctx, d, "mirror", migrations); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of mirrors: %w", err)
	}
	return &Store{db: d, blobs: blobs, ledger: log, dir: dir, now: now}, nil
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,99}/[a-z0-9_][a-z0-9_.-]{0,99}$`)

// Add fetches a repository under a name; a mirror that exists is fetched anew, from the same place if from is empty. An empty
// name is taken from the last two parts of the place.
func (s *Store) Add(ctx context.Context, name, from string) (Mirror, error) {
	if err := identity.Check(ctx, "mirror.write", "default"); err != nil {
		return Mirror{}, err
	}
	old := Mirror{}
	if from == "" {
		var err error
		if old, err = s.Get(ctx, name); err != nil {
			return Mirror{}, err
		}
		from = old.URL
	}
	shown, err := place(from)
	if err != nil {
		return Mirror{}, err
	}
	if name == "" {
		name = nameOf(shown)
	}
	name = strings.ToLower(name)
	if !validName.MatchString(name) || strings.Contains(name, "..") {
		return Mirror{}, fault.New(fault.Invalid, "%q is not the name of a repository such as actions/setup-go. Give one with --name OWNER/NAME.", name)
	}
	if old.Name == "" {
		if old, err = s.get(ctx, name); err != nil && !fault.Is(err, fault.NotFound) {
			return Mirror{}, err
		}
	}
	m := Mirror{Name: name, URL: shown, Fetched: s.now().UTC(), By: identity.From(ctx).Name}
	if err := s.fetch(ctx, &m, from); err != nil {
		return Mirror{}, err
	}
	return m, s.keep(ctx, m, old)
}

// place checks where a mirror comes from, and returns it without credentials.
func place(from string) (string, error) {
	if filepath.IsAbs(from) {
		return filepath.Clean(from), nil
	}
	u, err := url.Parse(from)
	if err != nil || !slices.Contains([]string{"https", "http", "git", "ssh"}, u.Scheme) || u.Host == "" || strings.HasPrefix(u.Host, "-") {
		return "", fault.New(fault.Invalid, "A mirror comes from an https:// URL or from the absolute path of a repository on the server, not from that.")
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String(), nil
}

func nameOf(place string) string {
	parts := strings.Split(strings.TrimSuffix(strings.TrimRight(place, "/"), ".git"), "/")
	if len(parts) < 2 {
		return place
	}
	return strings.Join(parts[len(parts)-2:], "/")
}

// fetch copies a repository into the blob store.
func (s *Store) fetch(ctx context.Context, m *Mirror, from string) error {
	ctx, stop := context.WithTimeout(ctx, MaxTime)
	defer stop()
	tmp, err := os.MkdirTemp(s.dir, "fetch-")
	if err != nil {
		return fmt.Errorf("fetch mirror: %w", err)
	}
	defer os.RemoveAll(tmp)
	bare, bundle := filepath.Join(tmp, "bare"), filepath.Join(tmp, "bundle")
	if _, err := run(ctx, "", "clone", "--quiet", "--bare", "--no-hardlinks", "--", from, bare); err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return fault.New(fault.Unavailable, "%s did not arrive within %s.", m.URL, MaxTime)
		}
		return fault.New(fault.Unavailable, "%s cannot be fetched: %s", m.URL, lastLine(err))
	}
	out, err := run(ctx, bare, "for-each-ref", "--format=%(refname) %(objecttype) %(objectname) %(*objecttype) %(*objectname)", "refs/heads/", "refs/tags/")
	if err != nil {
		return err
	}
	m.Refs = map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[1] == "commit":
			m.Refs[f[0]] = f[2]
		case len(f) == 5 && f[3] == "commit":
			m.Refs[f[0]] = f[4]
		}
	}
	if len(m.Refs) == 0 || len(m.Refs) > MaxRefs {
		return fault.New(fault.Invalid, "%s has %d branches and tags; a mirror has from 1 to %d.", m.URL, len(m.Refs), MaxRefs)
	}
	if _, err := run(ctx, bare, "bundle", "create", "--quiet", bundle, "--branches", "--tags"); err != nil {
		return err
	}
	f, err := os.Open(bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() > MaxBytes {
		return fault.New(fault.Invalid, "%s has %d MiB; a mirror may have %d.", m.URL, info.Size()>>20, MaxBytes>>20)
	}
	m.digest, m.Size, err = s.blobs.Put(ctx, f)
	return err
}

func (s *Store) keep(ctx context.Context, m, old Mirror) error {
	refs, err := json.Marshal(m.Refs)
	if err != nil {
		return err
	}
	moved := map[string]string{}
	for ref, at := range old.Refs {
		if now := m.Refs[ref]; now != at && len(moved) < 50 {
			moved[ref] = at + " -> " + orGone(now)
		}
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `insert into source_mirror (org, name, url, digest, size, refs, fetched, by_name) values ('default', ?, ?, ?, ?, ?, ?, ?)
			on conflict (org, name) do update set url = excluded.url, digest = excluded.digest, size = excluded.size, refs = excluded.refs, fetched = excluded.fetched, by_name = excluded.by_name`,
			m.Name, m.URL, string(m.digest), m.Size, string(refs), m.Fetched.UnixMicro(), m.By); err != nil {
			return err
		}
		_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: "mirror.fetched", Subject: m.Name,
			Data: map[string]any{"mirror": m.Name, "url": m.URL, "digest": m.digest, "size": m.Size, "moved": moved}})
		return err
	})
}

func orGone(at string) string {
	if at == "" {
		return "gone"
	}
	return at
}

// Remove forgets a mirror. Runs that are planned with it can no longer be run again.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := identity.Check(ctx, "mirror.write", "default"); err != nil {
		return err
	}
	m, err := s.get(ctx, strings.ToLower(name))
	if err != nil {
		return err
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "delete from source_mirror where org = 'default' and name = ?", m.Name); err != nil {
			return err
		}
		_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: "mirror.removed", Subject: m.Name, Data: map[string]any{"mirror": m.Name, "url": m.URL}})
		return err
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(s.bare(m))
}

// List returns all mirrors by name.
func (s *Store) List(ctx context.Context) ([]Mirror, error) {
	if err := identity.Check(ctx, "mirror.read", "default"); err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, "select "+columns+" from source_mirror where org = 'default' order by name")
	return db.Collect(rows, err, func(r *sql.Rows) (Mirror, error) { return scan(r) })
}

// Get returns one mirror.
func (s *Store) Get(ctx context.Context, name string) (Mirror, error) {
	if err := identity.Check(ctx, "mirror.read", "default"); err != nil {
		return Mirror{}, err
	}
	return s.get(ctx, strings.ToLower(name))
}

const columns = "name, url, digest, size, refs, fetched, by_name"

func scan(row interface{ Scan(...any) error }) (m Mirror, err error) {
	var digest, refs string
	var fetched int64
	if err := row.Scan(&m.Name, &m.URL, &digest, &m.Size, &refs, &fetched, &m.By); err != nil {
		return m, err
	}
	m.digest, m.Fetched = blob.Digest(digest), db.Time(fetched)
	return m, json.Unmarshal([]byte(refs), &m.Refs)
}

func (s *Store) get(ctx context.Context, name string) (Mirror, error) {
	m, err := scan(s.db.QueryRow(ctx, "select "+columns+" from source_mirror where org = 'default' and name = ?", name))
	if errors.Is(err, sql.ErrNoRows) {
		return m, fault.New(fault.NotFound, "There is no mirror of %s. Weir never fetches code by itself: add one with `weir mirror add https://github.com/%s`, or from another place with --name %s.", name, name, name)
	}
	return m, err
}

// Resolve implements pipeline.Mirrors.
func (s *Store) Resolve(ctx context.Context, name, ref string) (string, error) {
	m, err := s.get(ctx, strings.ToLower(name))
	if err != nil {
		return "", err
	}
	if source.ValidRevision(ref) {
		bare, err := s.open(ctx, m)
		if err != nil {
			return "", err
		}
		if _, err := run(ctx, bare, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}"); err == nil {
			return ref, nil
		}
	}
	for _, full := range []string{"refs/tags/" + ref, "refs/heads/" + ref, ref} {
		if at := m.Refs[full]; at != "" {
			return at, nil
		}
	}
	return "", fault.New(fault.NotFound, "The mirror of %s, fetched %s, has no %s. Fetch it again with `weir mirror update %s`.", m.Name, m.Fetched.Format("2006-01-02 15:04"), ref, m.Name)
}

// ReadFile implements pipeline.Mirrors.
func (s *Store) ReadFile(ctx context.Context, name, revision, path string) ([]byte, error) {
	bare, err := s.at(ctx, name, revision)
	if err != nil {
		return nil, err
	}
	return readFile(ctx, bare, name, revision, path)
}

func readFile(ctx context.Context, bare, name, revision, path string) ([]byte, error) {
	kind, err := run(ctx, bare, "cat-file", "-t", revision+":"+path)
	if err != nil || strings.TrimSpace(kind) != "blob" {
		return nil, fault.New(fault.NotFound, "There is no file %s in %s at %.12s.", path, name, revision)
	}
	out, err := run(ctx, bare, "cat-file", "blob", revision+":"+path)
	return []byte(out), err
}

// Checkout implements pipeline.Mirrors.
func (s *Store) Checkout(ctx context.Context, name, revision, dir string) error {
	bare, err := s.at(ctx, name, revision)
	if err != nil {
		return err
	}
	return checkout(ctx, bare, revision, dir)
}

// checkout writes the tree of a revision into a folder.
func checkout(ctx context.Context, bare, revision, dir string) error {
	index, err := os.CreateTemp("", "weir-index-")
	if err != nil {
		return err
	}
	index.Close()
	os.Remove(index.Name()) // git wants to make it
	defer os.Remove(index.Name())
	if _, err := runEnv(ctx, bare, []string{"GIT_INDEX_FILE=" + index.Name()}, "read-tree", revision); err != nil {
		return err
	}
	_, err = runEnv(ctx, bare, []string{"GIT_INDEX_FILE=" + index.Name()}, "-c", "core.symlinks=true", "-c", "core.bare=false", "--work-tree="+dir,
		"checkout-index", "--all", "--force", "--prefix="+filepath.Clean(dir)+"/")
	return err
}

func (s *Store) at(ctx context.Context, name, revision string) (string, error) {
	if !source.ValidRevision(revision) {
		return "", fault.New(fault.Invalid, "%q is not a full revision of 40 hexadecimal digits.", revision)
	}
	m, err := s.get(ctx, strings.ToLower(name))
	if err != nil {
		return "", err
	}
	return s.open(ctx, m)
}

func (s *Store) bare(m Mirror) string {
	d := string(m.digest)
	return filepath.Join(s.dir, strings.ReplaceAll(m.Name, "/", "+")+"+"+d[max(0, len(d)-16):]+".git")
}

// open returns the bare repository of a mirror, made from its bundle if it is not there.
func (s *Store) open(ctx context.Context, m Mirror) (string, error) {
	bare := s.bare(m)
	if _, err := os.Stat(bare); err == nil {
		return bare, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(bare); err == nil {
		return bare, nil
	}
	in, _, err := s.blobs.Open(ctx, m.digest)
	if err != nil {
		return "", fmt.Errorf("open mirror %s: %w", m.Name, err)
	}
	defer in.Close()
	tmp, err := os.MkdirTemp(s.dir, "open-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	bundle, err := os.Create(filepath.Join(tmp, "bundle"))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(bundle, in)
	if err = errors.Join(err, bundle.Close()); err != nil {
		return "", err
	}
	made := filepath.Join(tmp, "bare")
	if _, err := run(ctx, "", "clone", "--quiet", "--bare", "--", bundle.Name(), made); err != nil {
		return "", fmt.Errorf("open mirror %s: %w", m.Name, err)
	}
	// What older bundles of this mirror were opened as is not needed any more.
	old, _ := filepath.Glob(filepath.Join(s.dir, strings.ReplaceAll(m.Name, "/", "+")+"+*.git"))
	if err := os.Rename(made, bare); err != nil {
		return "", err
	}
	for _, o := range old {
		_ = os.RemoveAll(o)
	}
	return bare, nil
}

type gitError struct {
	args []string
	err  error
	said string
}

func (e *gitError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", strings.Join(e.args, " "), e.err, e.said)
}

func lastLine(err error) string {
	var g *gitError
	if !errors.As(err, &g) || g.said == "" {
		return err.Error()
	}
	lines := strings.Split(g.said, "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "fatal: ")
}

func run(ctx context.Context, bare string, args ...string) (string, error) {
	return runEnv(ctx, bare, nil, args...)
}

func runEnv(ctx context.Context, bare string, env []string, args ...string) (string, error) {
	if bare != "" {
		args = append([]string{"--git-dir=" + bare}, args...)
	}
	// Nothing but these protocols, no helper of a URL's choice, no hook.
	env = append(git.Env("GIT_ALLOW_PROTOCOL=https:http:git:ssh:file"), env...)
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"}, args...)...)
	var out, said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = env, &out, &said, 2*time.Second
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", git.ErrNoGit
		}
		return "", &gitError{args, err, strings.TrimSpace(said.String())}
	}
	return out.String(), nil
}

// Names lists the refs of a mirror in order.
func (m Mirror) Names() []string { return slices.Sorted(maps.Keys(m.Refs)) }
