// Package vulndb keeps the published vulnerabilities that were imported, so that
// artifacts can be compared with them without a network. An import adds and
// renews; what it does not name stays, so that the databases of several
// ecosystems can be imported one after the other.
package vulndb

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/check/vuln"
	"weir/internal/guard/identity"
)

//go:embed migrations
var migrations embed.FS

const org = "default"

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error {
	return db.Migrate(ctx, d, "artifact_advisory", migrations)
}

// Store implements artifact.Advisories.
type Store struct {
	DB     *db.DB
	Ledger artifact.Ledger
	Now    func() time.Time
}

var _ artifact.Advisories = (*Store)(nil)

const (
	maxAdvisories = 2_000_000
	maxUnpacked   = 16 << 30
	perWrite      = 200
)

// Import implements artifact.Advisories: r is a zip of advisories in OSV's
// format, as osv-vulnerabilities.storage.googleapis.com serves them, or one alone.
func (s *Store) Import(ctx context.Context, source string, r io.ReaderAt, size int64) (artifact.AdvisoryState, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return artifact.AdvisoryState{}, fmt.Errorf("read advisories: %w", err)
	}
	n, err := s.each(r, size, func(batch []vuln.Advisory) error { return s.put(ctx, batch) })
	if err != nil {
		return artifact.AdvisoryState{}, err
	}
	if n == 0 {
		return artifact.AdvisoryState{}, fault.New(fault.Invalid, "%s holds no advisory in OSV's format.", source)
	}
	now, actor, digest := s.Now(), identity.From(ctx).ID, "sha256:"+hex.EncodeToString(h.Sum(nil))
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into advisory_import (org, at, actor, source, digest, advisories) values (?, ?, ?, ?, ?, ?)
			on conflict (org) do update set at = excluded.at, actor = excluded.actor, source = excluded.source, digest = excluded.digest, advisories = excluded.advisories`,
			org, db.Micros(now), actor, source, digest, n)
		if err != nil {
			return err
		}
		return s.Ledger(ctx, tx, artifact.Entry{Actor: actor, Action: "vulnerability.imported", Subject: digest, Data: map[string]any{"source": source, "advisories": n, "bytes": size}})
	})
	if err != nil {
		return artifact.AdvisoryState{}, fmt.Errorf("store import: %w", err)
	}
	return s.State(ctx)
}

// each reads what r holds, some at a time.
func (s *Store) each(r io.ReaderAt, size int64, put func([]vuln.Advisory) error) (n int64, err error) {
	magic := make([]byte, 2)
	_, _ = r.ReadAt(magic, 0)
	if string(magic) != "PK" {
		raw, err := io.ReadAll(io.NewSectionReader(r, 0, min(size, vuln.MaxAdvisory+1)))
		if err != nil {
			return 0, err
		}
		a, err := vuln.Parse(raw)
		if err != nil {
			return 0, fault.New(fault.Invalid, "It is neither a zip of advisories nor one in OSV's format: %s.", fault.Sentence(err))
		}
		return 1, put([]vuln.Advisory{a})
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return 0, fault.New(fault.Invalid, "The zip of advisories is damaged: %v.", err)
	}
	if len(z.File) > maxAdvisories {
		return 0, fault.New(fault.Invalid, "The zip holds %d files, more than %d.", len(z.File), maxAdvisories)
	}
	left := int64(maxUnpacked)
	var batch []vuln.Advisory
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		raw, err := unpacked(f)
		if err != nil {
			return n, err
		}
		if left -= int64(len(raw)); left < 0 {
			return n, fault.New(fault.Invalid, "The zip unpacks to more than %d GiB.", maxUnpacked>>30)
		}
		a, err := vuln.Parse(raw)
		if err != nil {
			return n, fault.New(fault.Invalid, "%s: %s. Nothing after it was imported.", f.Name, fault.Sentence(err))
		}
		if batch = append(batch, a); len(batch) == perWrite {
			if err := put(batch); err != nil {
				return n, err
			}
			batch = batch[:0]
		}
		n++
	}
	return n, put(batch)
}

func unpacked(f *zip.File) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s in the zip cannot be read: %v.", f.Name, err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, vuln.MaxAdvisory+1))
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s in the zip cannot be read: %v.", f.Name, err)
	}
	return raw, nil
}

func (s *Store) put(ctx context.Context, batch []vuln.Advisory) error {
	if len(batch) == 0 {
		return nil
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		for _, a := range batch {
			if err := s.add(ctx, tx, a); err != nil {
				return fmt.Errorf("store advisory %s: %w", a.ID, err)
			}
		}
		return nil
	})
}

func (s *Store) add(ctx context.Context, tx *db.Tx, a vuln.Advisory) error {
	aliases, err := json.Marshal(append([]string{}, a.Aliases...))
	if err != nil {
		return err
	}
	res, err := tx.Exec(ctx, `insert into advisory (org, id, summary, severity, score, url, modified, withdrawn, aliases) values (?, ?, ?, ?, ?, ?, ?, ?, ?)
		on conflict (org, id) do update set summary = excluded.summary, severity = excluded.severity, score = excluded.score, url = excluded.url,
		modified = excluded.modified, withdrawn = excluded.withdrawn, aliases = excluded.aliases where excluded.modified >= advisory.modified`,
		org, a.ID, a.Summary, string(a.Severity), strconv.FormatFloat(a.Score, 'f', 1, 64), a.URL, max(db.Micros(a.Modified), 0), db.Bool(a.Withdrawn), string(aliases))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err // what is known is newer
	}
	for _, table := range []string{"advisory_name", "advisory_package"} {
		if _, err := tx.Exec(ctx, "delete from "+table+" where org = ? and id = ?", org, a.ID); err != nil {
			return err
		}
	}
	for _, name := range append([]string{a.ID}, a.Aliases...) {
		if _, err := tx.Exec(ctx, "insert into advisory_name (org, name, id) values (?, ?, ?) on conflict do nothing", org, strings.ToUpper(name), a.ID); err != nil {
			return err
		}
	}
	type key struct{ ecosystem, name string }
	byPackage := map[key][]vuln.Affected{}
	for _, x := range a.Affected {
		k := key{x.Ecosystem, x.Package}
		byPackage[k] = append(byPackage[k], x)
	}
	for k, list := range byPackage {
		raw, err := json.Marshal(list)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into advisory_package (org, ecosystem, package, id, affected) values (?, ?, ?, ?, ?)", org, k.ecosystem, k.name, a.ID, string(raw)); err != nil {
			return err
		}
	}
	return nil
}

// State implements artifact.Advisories.
func (s *Store) State(ctx context.Context) (st artifact.AdvisoryState, err error) {
	var at int64
	err = s.DB.QueryRow(ctx, "select at, source, (select count(*) from advisory where org = ?) from advisory_import where org = ?", org, org).Scan(&at, &st.Source, &st.Advisories)
	if errors.Is(err, sql.ErrNoRows) {
		return artifact.AdvisoryState{}, nil
	}
	st.Imported = db.Time(at)
	return st, err
}

const columns = "a.id, a.summary, a.severity, a.score, a.url, a.modified, a.withdrawn, a.aliases"

// About implements artifact.Advisories.
func (s *Store) About(ctx context.Context, ecosystem, name string) ([]vuln.Advisory, error) {
	rows, err := s.DB.Query(ctx, "select "+columns+", p.affected from advisory_package p join advisory a on a.org = p.org and a.id = p.id where p.org = ? and p.ecosystem = ? and p.package = ? order by a.id", org, ecosystem, name)
	return db.Collect(rows, err, scan)
}

// Named implements artifact.Advisories.
func (s *Store) Named(ctx context.Context, name string) ([]vuln.Advisory, error) {
	rows, err := s.DB.Query(ctx, `select `+columns+`, p.affected from advisory_name n join advisory a on a.org = n.org and a.id = n.id
		join advisory_package p on p.org = a.org and p.id = a.id where n.org = ? and n.name = ? order by a.id, p.ecosystem, p.package`, org, strings.ToUpper(name))
	return db.Collect(rows, err, scan)
}

func scan(r *sql.Rows) (a vuln.Advisory, err error) {
	var severity, score, aliases, affected string
	var modified int64
	var withdrawn int
	if err := r.Scan(&a.ID, &a.Summary, &severity, &score, &a.URL, &modified, &withdrawn, &aliases, &affected); err != nil {
		return a, err
	}
	a.Severity, a.Modified, a.Withdrawn = vuln.Severity(severity), db.Time(modified), withdrawn != 0
	a.Score, _ = strconv.ParseFloat(score, 64)
	return a, errors.Join(json.Unmarshal([]byte(aliases), &a.Aliases), json.Unmarshal([]byte(affected), &a.Affected))
}
