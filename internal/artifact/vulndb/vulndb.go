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
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
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
	// Announce appends the fact that more is known; nil announces nothing.
	Announce func(ctx context.Context, tx *db.Tx, f journal.Fact) error
	Now      func() time.Time
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
	of := map[string]int64{} // advisories by ecosystem
	n, err := s.each(r, size, func(batch []vuln.Advisory) error {
		for _, a := range batch {
			for _, e := range ecosystems(a) {
				of[e]++
			}
		}
		return s.put(ctx, batch)
	})
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
		covers := []string{}
		if zipped(r) { // one advisory alone is not all of anything
			covers = covered(of, n)
		}
		for _, e := range covers {
			if _, err := tx.Exec(ctx, `insert into advisory_ecosystem (org, ecosystem, at, source) values (?, ?, ?, ?)
				on conflict (org, ecosystem) do update set at = excluded.at, source = excluded.source`, org, e, db.Micros(now), source); err != nil {
				return err
			}
		}
		if s.Announce != nil {
			if err := s.Announce(ctx, tx, artifact.AdvisoriesImported(digest, source, covers, n, now)); err != nil {
				return err
			}
		}
		return s.Ledger(ctx, tx, artifact.Entry{Actor: actor, Action: artifact.FactAdvisories, Subject: digest, Data: map[string]any{"source": source, "advisories": n, "bytes": size, "ecosystems": covers}})
	})
	if err != nil {
		return artifact.AdvisoryState{}, fmt.Errorf("store import: %w", err)
	}
	return s.State(ctx)
}

// ecosystems lists those that an advisory is about, each once.
func ecosystems(a vuln.Advisory) (all []string) {
	for _, x := range a.Affected {
		if x.Ecosystem != "" && !slices.Contains(all, x.Ecosystem) {
			all = append(all, x.Ecosystem)
		}
	}
	return all
}

// covered are the ecosystems of which an import of n advisories holds all that
// is known, rather than what others mention of them: a tenth of it, or a
// thousand.
func covered(of map[string]int64, n int64) (all []string) {
	for e, k := range of {
		if 10*k >= n || k >= 1000 {
			all = append(all, e)
		}
	}
	slices.Sort(all)
	return all
}

func zipped(r io.ReaderAt) bool {
	magic := make([]byte, 2)
	_, _ = r.ReadAt(magic, 0)
	return string(magic) == "PK"
}

// each reads what r holds, some at a time.
func (s *Store) each(r io.ReaderAt, size int64, put func([]vuln.Advisory) error) (n int64, err error) {
	if !zipped(r) {
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

// put stores some advisories. What is known and newer stays.
func (s *Store) put(ctx context.Context, batch []vuln.Advisory) error {
	byID := map[string]vuln.Advisory{}
	for _, a := range batch {
		if old, ok := byID[a.ID]; !ok || !a.Modified.Before(old.Modified) {
			byID[a.ID] = a
		}
	}
	if len(byID) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(byID))
	var head, names, packages [][]any
	rows := func(known map[string]int64) error {
		head, names, packages = nil, nil, nil
		for _, id := range ids {
			a := byID[id]
			if at, ok := known[id]; ok && at > max(db.Micros(a.Modified), 0) {
				continue
			}
			aliases, err := json.Marshal(append([]string{}, a.Aliases...))
			if err != nil {
				return err
			}
			head = append(head, []any{org, a.ID, a.Summary, string(a.Severity), strconv.FormatFloat(a.Score, 'f', 1, 64), a.URL, max(db.Micros(a.Published), 0), max(db.Micros(a.Modified), 0), db.Bool(a.Withdrawn), string(aliases)})
			called := map[string]bool{}
			for _, name := range append([]string{a.ID}, a.Aliases...) {
				if name = strings.ToUpper(name); !called[name] {
					called[name] = true
					names = append(names, []any{org, name, a.ID})
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
				packages = append(packages, []any{org, k.ecosystem, k.name, a.ID, string(raw)})
			}
		}
		return nil
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		in, args := within(ids)
		type row struct {
			id       string
			modified int64
		}
		found, err := tx.Query(ctx, "select id, modified from advisory where org = ? and id in "+in, args...)
		all, err := db.Collect(found, err, func(r *sql.Rows) (x row, err error) { return x, r.Scan(&x.id, &x.modified) })
		if err != nil {
			return err
		}
		known := map[string]int64{}
		for _, x := range all {
			known[x.id] = x.modified
		}
		if err := rows(known); err != nil || len(head) == 0 {
			return err
		}
		fresh := make([]string, len(head))
		for i, h := range head {
			fresh[i] = h[1].(string)
		}
		in, args = within(fresh)
		for _, table := range []string{"advisory_name", "advisory_package", "advisory"} {
			if _, err := tx.Exec(ctx, "delete from "+table+" where org = ? and id in "+in, args...); err != nil {
				return err
			}
		}
		for _, t := range []struct {
			into string
			rows [][]any
		}{
			{"advisory (org, id, summary, severity, score, url, published, modified, withdrawn, aliases)", head},
			{"advisory_name (org, name, id)", names},
			{"advisory_package (org, ecosystem, package, id, affected)", packages},
		} {
			for some := range slices.Chunk(t.rows, perWrite) {
				marks := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(some[0])), ", ") + ")"
				if _, err := tx.Exec(ctx, "insert into "+t.into+" values "+strings.TrimSuffix(strings.Repeat(marks+", ", len(some)), ", "), slices.Concat(some...)...); err != nil {
					return fmt.Errorf("store advisories: %w", err)
				}
			}
		}
		return nil
	})
}

// within is a list of ids as a condition wants it, with its arguments behind org.
func within(ids []string) (string, []any) {
	args := []any{org}
	for _, id := range ids {
		args = append(args, id)
	}
	return "(" + strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", ") + ")", args
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

const columns = "a.id, a.summary, a.severity, a.score, a.url, a.published, a.modified, a.withdrawn, a.aliases"

// Imported implements artifact.Advisories.
func (s *Store) Imported(ctx context.Context) (map[string]time.Time, error) {
	type row struct {
		ecosystem string
		at        int64
	}
	rows, err := s.DB.Query(ctx, "select ecosystem, at from advisory_ecosystem where org = ?", org)
	all, err := db.Collect(rows, err, func(r *sql.Rows) (x row, err error) { return x, r.Scan(&x.ecosystem, &x.at) })
	out := make(map[string]time.Time, len(all))
	for _, x := range all {
		out[x.ecosystem] = db.Time(x.at)
	}
	return out, err
}

// perQuery is how many names are asked for at once.
const perQuery = 400

// About implements artifact.Advisories.
func (s *Store) About(ctx context.Context, ecosystem string, names []string) (map[string][]vuln.Advisory, error) {
	out := map[string][]vuln.Advisory{}
	for some := range slices.Chunk(names, perQuery) {
		args, marks := []any{org, ecosystem}, strings.TrimSuffix(strings.Repeat("?, ", len(some)), ", ")
		for _, n := range some {
			args = append(args, n)
		}
		rows, err := s.DB.Query(ctx, "select "+columns+", p.affected from advisory_package p join advisory a on a.org = p.org and a.id = p.id where p.org = ? and p.ecosystem = ? and p.package in ("+marks+") order by a.id", args...)
		all, err := db.Collect(rows, err, scan)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if len(a.Affected) > 0 {
				out[a.Affected[0].Package] = append(out[a.Affected[0].Package], a)
			}
		}
	}
	return out, nil
}

// Rated implements artifact.Advisories.
func (s *Store) Rated(ctx context.Context, names []string) (map[string]artifact.Rating, error) {
	type row struct {
		name string
		artifact.Rating
	}
	out := map[string]artifact.Rating{}
	for some := range slices.Chunk(names, perQuery) {
		args, marks := []any{org}, strings.TrimSuffix(strings.Repeat("?, ", len(some)), ", ")
		for _, n := range some {
			args = append(args, strings.ToUpper(n))
		}
		rows, err := s.DB.Query(ctx, "select n.name, a.severity, a.score from advisory_name n join advisory a on a.org = n.org and a.id = n.id where n.org = ? and n.name in ("+marks+") and a.withdrawn = 0 and a.severity <> 'unknown'", args...)
		all, err := db.Collect(rows, err, func(r *sql.Rows) (x row, err error) {
			var score string
			err = r.Scan(&x.name, &x.Severity, &score)
			x.Score, _ = strconv.ParseFloat(score, 64)
			return x, err
		})
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			out[x.name] = out[x.name].Worse(x.Rating)
		}
	}
	return out, nil
}

// Named implements artifact.Advisories.
func (s *Store) Named(ctx context.Context, name string) ([]vuln.Advisory, error) {
	rows, err := s.DB.Query(ctx, `select `+columns+`, p.affected from advisory_name n join advisory a on a.org = n.org and a.id = n.id
		join advisory_package p on p.org = a.org and p.id = a.id where n.org = ? and n.name = ? order by a.id, p.ecosystem, p.package`, org, strings.ToUpper(name))
	return db.Collect(rows, err, scan)
}

func scan(r *sql.Rows) (a vuln.Advisory, err error) {
	var severity, score, aliases, affected string
	var published, modified int64
	var withdrawn int
	if err := r.Scan(&a.ID, &a.Summary, &severity, &score, &a.URL, &published, &modified, &withdrawn, &aliases, &affected); err != nil {
		return a, err
	}
	a.Severity, a.Modified, a.Withdrawn = vuln.Severity(severity), db.Time(modified), withdrawn != 0
	if published > 0 {
		a.Published = db.Time(published)
	}
	a.Score, _ = strconv.ParseFloat(score, 64)
	return a, errors.Join(json.Unmarshal([]byte(aliases), &a.Aliases), json.Unmarshal([]byte(affected), &a.Affected))
}
