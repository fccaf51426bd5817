// Package componentdb tells which artifacts contain a component: the question
// that comes with every new vulnerability. It follows the artifacts that are
// admitted and keeps what their signed SBOMs list, so it can be made anew from
// them at any time.
package componentdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"log/slog"
	"strings"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/check/vuln"
	"weir/internal/guard/identity"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the table.
func Migrate(ctx context.Context, d *db.DB) error {
	return db.Migrate(ctx, d, "artifact_component", migrations)
}

// most bounds how many components of one artifact are kept. An SBOM of a whole
// system has some ten thousand files.
const most = 50_000

// Index implements artifact.Index, and is a part of the process.
type Index struct {
	DB      *db.DB
	Journal *journal.Journal
	// Components lists what an artifact is made of.
	Components func(ctx context.Context, id artifact.ID) (artifact.Artifact, []artifact.Component, error)
	Holder     string
}

// Name makes the index a part of the process.
func (x *Index) Name() string { return "component index" }

// Run follows admitted artifacts until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	return lease.Hold(ctx, x.DB, "artifact/components", x.Holder, func(ctx context.Context, _ lease.Lease) error {
		return x.Journal.Follow(identity.With(ctx, identity.System("artifact")), "artifact/components", x.handle)
	})
}

func (x *Index) handle(ctx context.Context, f journal.Fact) error {
	if f.Type != artifact.FactAdmitted {
		return nil
	}
	var b artifact.AdmittedFact
	if err := json.Unmarshal(f.Body, &b); err != nil || b.ArtifactID == "" {
		slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
		return nil
	}
	a, all, err := x.Components(ctx, artifact.ID(b.ArtifactID))
	if fault.Is(err, fault.NotFound) { // it has no SBOM, or is gone
		return nil
	}
	if err != nil {
		return err
	}
	if len(all) > most {
		slog.WarnContext(ctx, "not all components are searchable", "artifact", a.ID, "components", len(all), "kept", most)
		all = all[:most]
	}
	const batch = 500
	for len(all) > 0 {
		n := min(batch, len(all))
		if err := x.add(ctx, a, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (x *Index) add(ctx context.Context, a artifact.Artifact, list []artifact.Component) error {
	return x.DB.Write(ctx, func(tx *db.Tx) error {
		for _, c := range list {
			source := ""
			if _, name, _, ok := vuln.Package(c.PURL); ok && !strings.EqualFold(name, c.Name) {
				source = strings.ToLower(name)
			}
			if _, err := tx.Exec(ctx, `insert into component (org, artifact_id, kind, name, version, folded, source, purl, service_id, service, tag, digest, at)
				values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
				a.Org, string(a.ID), c.Kind, c.Name, c.Version, strings.ToLower(c.Name), source, c.PURL, a.ServiceID, a.Service, a.Tag, a.Digest, db.Micros(a.Created)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Find implements artifact.Index.
func (x *Index) Find(ctx context.Context, q artifact.ComponentQuery) ([]artifact.Use, error) {
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	query, name := "select kind, name, version, purl, artifact_id, service, tag, digest, at from component where org = ? and ", strings.ToLower(q.Name)
	args := []any{"default"}
	if q.Whole {
		query, args = query+"(folded = ? or source = ?)", append(args, name)
	} else {
		query += "folded like ? escape '!'"
		name = "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(name) + "%"
	}
	args = append(args, name)
	if q.Version != "" {
		query, args = query+" and version = ?", append(args, q.Version)
	}
	rows, err := x.DB.Query(ctx, query+" order by folded, version, at desc, artifact_id limit ?", append(args, q.Limit)...)
	return db.Collect(rows, err, func(r *sql.Rows) (u artifact.Use, err error) {
		var at int64
		err = r.Scan(&u.Kind, &u.Name, &u.Version, &u.PURL, &u.ArtifactID, &u.Service, &u.Tag, &u.Digest, &at)
		u.Admitted = db.Time(at)
		return u, err
	})
}
