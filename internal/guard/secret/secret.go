// Package secret keeps what runs are given: secrets, sealed under a key of the data folder and never shown again, and variables,
// which anybody may read.
//
// A secret's name and place are sealed with it, so that a row put elsewhere does not open. Setting and deleting are entries in
// the ledger, without the value. The key is never in the database: without the data folder's keys the rows are noise.
package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

//go:embed migrations
var migrations embed.FS

// Kind tells secrets from variables.
type Kind string

// The kinds.
const (
	Secret   Kind = "secret"
	Variable Kind = "variable"
)

// Limits on what is kept.
const (
	MaxValue = 48 << 10
	MaxNames = 500 // in one place
)

// Place is where a name holds: a repository and an environment, "" for all of them.
type Place struct {
	RepositoryID string
	Environment  string
}

// Item is what may be shown. Value is empty for a secret.
type Item struct {
	Place
	Kind    Kind
	Name    string
	Value   string
	Version int
	By      string
	Time    time.Time
}

// Store keeps secrets and variables.
type Store struct {
	db     *db.DB
	ledger *ledger.Log
	seal   cipher.AEAD
	now    func() time.Time
}

// Open brings the table up to date and reads the key, or makes one (mode 0600) if there is none.
func Open(ctx context.Context, d *db.DB, log *ledger.Log, keyPath string, now func() time.Time) (*Store, error) {
	if err := db.Migrate(ctx, d, "secret", migrations); err != nil {
		return nil, err
	}
	key, err := loadKey(keyPath)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Store{d, log, seal, now}, nil
}

func loadKey(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) { // another replica was faster
			return loadKey(path)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if _, err := f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n"); err != nil {
			return nil, err
		}
		return key, f.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("read key of secrets: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != 32 {
		return nil, fault.New(fault.Invalid, "The key of the secrets, %s, is damaged. Restore it from a backup: without it no stored secret can be read.", path)
	}
	return key, nil
}

var name = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,99}$`)

// Set stores a value under a name, which is kept in upper case.
func (s *Store) Set(ctx context.Context, kind Kind, p Place, key, value string) error {
	if err := s.may(ctx, kind, "write"); err != nil {
		return err
	}
	key = strings.ToUpper(strings.TrimSpace(key))
	switch {
	case !name.MatchString(key) || strings.HasPrefix(key, "GITHUB_") || strings.HasPrefix(key, "WEIR_"):
		return fault.New(fault.Invalid, "%q is not a name for a %s. Use letters, digits and underscores, not first a digit, at most 100, and no GITHUB_ or WEIR_ in front.", key, kind)
	case len(value) > MaxValue:
		return fault.New(fault.Invalid, "The value of %s has %d bytes; it may have %d. Keep larger things in a place of their own and store the key to it.", key, len(value), MaxValue)
	case kind == Secret && value == "":
		return fault.New(fault.Invalid, "The secret %s would be empty. Give a value, or delete it.", key)
	}
	stored := value
	if kind == Secret {
		stored = base64.StdEncoding.EncodeToString(s.seal.Seal(nil, nil, []byte(value), bound(p, key)))
	}
	who := identity.From(ctx)
	return s.db.Write(ctx, func(tx *db.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "select count(*) from secret where org = 'default' and kind = ? and repository_id = ? and environment = ? and name <> ?",
			kind, p.RepositoryID, p.Environment, key).Scan(&n); err != nil {
			return err
		}
		if n >= MaxNames {
			return fault.New(fault.Conflict, "There are already %d %ss here. Delete one that is not used.", n, kind)
		}
		if _, err := tx.Exec(ctx, `insert into secret (org, kind, repository_id, environment, name, value, version, by_name, at) values ('default', ?, ?, ?, ?, ?, 1, ?, ?)
			on conflict (org, kind, repository_id, environment, name) do update set value = excluded.value, version = secret.version + 1, by_name = excluded.by_name, at = excluded.at`,
			kind, p.RepositoryID, p.Environment, key, stored, who.Name, s.now().UTC().UnixMicro()); err != nil {
			return err
		}
		_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: string(kind) + ".set", Subject: key, Data: map[string]any{"repository": p.RepositoryID, "environment": p.Environment, "name": key}})
		return err
	})
}

// Delete forgets a name.
func (s *Store) Delete(ctx context.Context, kind Kind, p Place, key string) error {
	if err := s.may(ctx, kind, "write"); err != nil {
		return err
	}
	key = strings.ToUpper(strings.TrimSpace(key))
	return s.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "delete from secret where org = 'default' and kind = ? and repository_id = ? and environment = ? and name = ?", kind, p.RepositoryID, p.Environment, key)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fault.New(fault.NotFound, "There is no %s %s here. List them with weir %s list.", kind, key, kind)
		}
		_, err = s.ledger.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: string(kind) + ".deleted", Subject: key,
			Data: map[string]any{"repository": p.RepositoryID, "environment": p.Environment, "name": key}})
		return err
	})
}

// List returns what is set, by name, without the values of secrets. An empty repository lists what holds everywhere.
func (s *Store) List(ctx context.Context, kind Kind, repositoryID string) ([]Item, error) {
	if err := s.may(ctx, kind, "read"); err != nil {
		return nil, err
	}
	items, err := s.rows(ctx, kind, repositoryID, repositoryID)
	for i := range items {
		if kind == Secret {
			items[i].Value = ""
		}
	}
	return items, err
}

// rows are those of one or two repositories.
func (s *Store) rows(ctx context.Context, kind Kind, repositoryID, another string) ([]Item, error) {
	rows, err := s.db.Query(ctx, `select repository_id, environment, name, value, version, by_name, at from secret
		where org = 'default' and kind = ? and repository_id in (?, ?) order by name, environment`, kind, repositoryID, another)
	return db.Collect(rows, err, func(r *sql.Rows) (Item, error) {
		i := Item{Kind: kind}
		var at int64
		err := r.Scan(&i.RepositoryID, &i.Environment, &i.Name, &i.Value, &i.Version, &i.By, &at)
		i.Time = db.Time(at)
		return i, err
	})
}

// Values returns what a job in an environment of a repository is given, by name. What is nearer wins: the environment of the
// repository, the repository, the environment everywhere, everywhere. It asks nobody: the engine that runs jobs is its caller.
func (s *Store) Values(ctx context.Context, kind Kind, repositoryID, environment string) (map[string]string, error) {
	out, rank := map[string]string{}, map[string]int{}
	items, err := s.rows(ctx, kind, "", repositoryID)
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		if i.Environment != "" && !strings.EqualFold(i.Environment, environment) {
			continue
		}
		n := 1
		if i.RepositoryID != "" {
			n += 2
		}
		if i.Environment != "" {
			n++
		}
		if n < rank[i.Name] {
			continue
		}
		if kind == Secret {
			if i.Value, err = s.open(i); err != nil {
				return nil, err
			}
		}
		out[i.Name], rank[i.Name] = i.Value, n
	}
	return out, nil
}

func (s *Store) open(i Item) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(i.Value)
	if err == nil {
		raw, err = s.seal.Open(nil, nil, raw, bound(i.Place, i.Name))
	}
	if err != nil {
		return "", fault.New(fault.Invalid, "The secret %s cannot be opened with the key of this server. Restore keys/secret.key from a backup, or set the secret again.", i.Name)
	}
	return string(raw), nil
}

// bound is what a value is sealed together with.
func bound(p Place, name string) []byte {
	return []byte(strings.Join([]string{"weir secret 1", "default", p.RepositoryID, strings.ToLower(p.Environment), name}, "\x00"))
}

func (s *Store) may(ctx context.Context, kind Kind, what string) error {
	return identity.Check(ctx, string(kind)+"."+what, "default")
}
