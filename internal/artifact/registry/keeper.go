package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
)

// Keeper decides how long the registry holds what, and removes the rest. It implements artifact.Custodian and, run as a part,
// collects by itself.
//
// What goes is decided by artifact.Keep on rows read a moment before. A manifest then goes with all that follows it in one
// transaction, which finds out whether anybody has named it since, and which writes its ledger entries; what a crash cuts off is done by
// the next look. Blobs that nothing names stay for a day, so that a push that found them here can name them.
type Keeper struct {
	Registry *Registry
	// Pins says what else needs an image: environments that run it or could go back to it.
	Pins func(ctx context.Context) ([]artifact.Pin, error)
	// Rule says how long a repository's manifests are kept.
	Rule func(ctx context.Context, repository string) (artifact.KeepRule, error)
	// Readable hides a repository from who may not pull from it; nil hides none.
	Readable  func(ctx context.Context, repository string) bool
	Authorize func(ctx context.Context, action, org string) error
	Ledger    artifact.Ledger
	Holder    string
	Now       func() time.Time // nil is the clock
	ScrubRate int64            // bytes a second in the background; 0 is 8 MiB
	ScrubEach time.Duration    // from the end of one reading of all bytes to the next; 0 is a week
}

var _ artifact.Custodian = (*Keeper)(nil)

const (
	keepEvery   = 6 * time.Hour
	keepSoon    = 7 * time.Minute // after a start, which has other things to do
	unnamedLife = 24 * time.Hour  // of a blob that no manifest names
	wantedEvery = time.Hour       // how often a question for such a blob is noted
)

// Name implements part.Service.
func (k *Keeper) Name() string { return "registry" }

// Run implements part.Service: one replica collects now and then.
func (k *Keeper) Run(ctx context.Context) error {
	return lease.Hold(ctx, k.Registry.db, "artifact/keeper", k.Holder, func(ctx context.Context, _ lease.Lease) error {
		for wait := keepSoon; ; wait = keepEvery {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
			c, err := k.Collect(identity.With(ctx, identity.System("registry")), "", false)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				slog.ErrorContext(ctx, "registry retention failed; it will be tried again", "error", err)
			case len(c.Gone) > 0 || c.Blobs > 0:
				slog.InfoContext(ctx, "registry retention removed", "manifests", len(c.Gone), "blobs", c.Blobs, "bytes", c.Bytes)
			}
		}
	})
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

func (k *Keeper) may(ctx context.Context, action string) error {
	return k.Authorize(ctx, action, "default")
}

// Repositories implements artifact.Custodian.
func (k *Keeper) Repositories(ctx context.Context) ([]artifact.RepositoryUse, error) {
	if err := k.may(ctx, "artifact.read"); err != nil {
		return nil, err
	}
	uses, err := k.Registry.rows.Uses(ctx, "")
	if err != nil {
		return nil, err
	}
	damage, err := k.Registry.rows.DamagedRepositories(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]artifact.RepositoryUse, 0, len(uses))
	for _, u := range uses {
		if k.readable(ctx, u.Name) {
			out = append(out, k.use(u, damage[u.Name]))
		}
	}
	return out, nil
}

func (k *Keeper) use(u artifactdb.Use, damaged int) artifact.RepositoryUse {
	out := artifact.RepositoryUse{Name: u.Name, Manifests: u.Manifests, Tags: u.Tags, Releases: u.Releases, Bytes: u.Bytes, Quota: u.Quota, Own: u.Quota > 0, Holds: u.Holds, Changed: u.Changed, Damaged: damaged}
	if !out.Own {
		out.Quota = k.Registry.limits.Quota
	}
	return out
}

func (k *Keeper) readable(ctx context.Context, repository string) bool {
	return k.Readable == nil || k.Readable(ctx, repository)
}

// known refuses a repository that there is not, or that the actor may not know of.
func (k *Keeper) known(ctx context.Context, repository string) error {
	exists, err := k.Registry.rows.Exists(ctx, repository)
	if err == nil && (!exists || !k.readable(ctx, repository)) {
		return fault.New(fault.NotFound, "There is no repository %s in the registry. `weir registry list` shows them.", repository)
	}
	return err
}

// Contents implements artifact.Custodian.
func (k *Keeper) Contents(ctx context.Context, repository string) ([]artifact.Kept, error) {
	if err := k.may(ctx, "artifact.read"); err != nil {
		return nil, err
	}
	if err := k.known(ctx, repository); err != nil {
		return nil, err
	}
	pins, err := k.pins(ctx)
	if err != nil {
		return nil, err
	}
	return k.contents(ctx, repository, pins)
}

func (k *Keeper) contents(ctx context.Context, repository string, pins []artifact.Pin) ([]artifact.Kept, error) {
	if err := k.readManifests(ctx, repository); err != nil {
		return nil, fmt.Errorf("read manifests of %s: %w", repository, err)
	}
	rule, err := k.Rule(ctx, repository)
	if err != nil {
		return nil, fmt.Errorf("retention rule of %s: %w", repository, err)
	}
	stored, err := k.Registry.rows.Stored(ctx, repository)
	if err != nil {
		return nil, err
	}
	holds, err := k.Registry.rows.Holds(ctx, repository)
	if err != nil {
		return nil, err
	}
	damaged, err := k.Registry.rows.DamagedManifests(ctx, repository)
	if err != nil {
		return nil, err
	}
	held := map[string]string{}
	var mine []artifact.Pin
	for _, h := range holds {
		held[h.Digest] = h.Reason
		mine = append(mine, artifact.Pin{Digest: h.Digest, Why: fmt.Sprintf("%s holds it since %s: %s", h.By, h.Since.Format(time.DateOnly), h.Reason)})
	}
	for _, p := range pins {
		if p.Repository == repository {
			mine = append(mine, p)
		}
	}
	verdicts := artifact.Keep(stored, mine, rule, k.now())
	out := make([]artifact.Kept, len(stored))
	for i := range stored {
		out[i] = artifact.Kept{Stored: stored[i], Verdict: verdicts[i], Hold: held[stored[i].Digest], Damaged: damaged[stored[i].Digest]}
	}
	return out, nil
}

func (k *Keeper) pins(ctx context.Context) ([]artifact.Pin, error) {
	pins, err := k.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("what environments need: %w", err)
	}
	unfinished, err := k.Registry.rows.Unfinished(ctx, k.Registry.db)
	return append(pins, unfinished...), err
}

// readManifests finds out what manifests name that were stored before that was kept in rows.
func (k *Keeper) readManifests(ctx context.Context, repository string) error {
	for {
		rows, err := k.Registry.rows.Unread(ctx, repository, 100)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, m := range rows {
			rc, _, err := k.Registry.blobs.Open(ctx, m.Stored)
			if err != nil {
				return err
			}
			raw, err := io.ReadAll(io.LimitReader(rc, k.Registry.limits.Manifest+1))
			rc.Close()
			if err != nil {
				return err
			}
			var c content
			if err := json.Unmarshal(raw, &c); err != nil {
				return fmt.Errorf("manifest %s: %w", m.Digest, err)
			}
			if err := k.Registry.rows.SetEdges(ctx, repository, m.Digest, c.edges()); err != nil {
				return err
			}
		}
	}
}

// Collect implements artifact.Custodian.
func (k *Keeper) Collect(ctx context.Context, repository string, dry bool) (c artifact.Collected, err error) {
	action := "garbage.collect"
	if dry {
		action = "artifact.read"
	}
	if err := k.may(ctx, action); err != nil {
		return c, err
	}
	c.Dry = dry
	var names []string
	if repository != "" {
		names, err = []string{repository}, k.known(ctx, repository)
	} else {
		names, err = k.Registry.rows.Repositories(ctx)
	}
	if err != nil {
		return c, err
	}
	pins, err := k.pins(ctx)
	if err != nil {
		return c, err
	}
	var errs []error
	for _, name := range names {
		if dry && !k.readable(ctx, name) {
			continue
		}
		// One repository whose rule cannot be read keeps everything, and the others go on.
		errs = append(errs, k.collect(ctx, name, pins, &c))
	}
	return c, errors.Join(errs...)
}

func (k *Keeper) collect(ctx context.Context, repository string, pins []artifact.Pin, c *artifact.Collected) error {
	all, err := k.contents(ctx, repository, pins)
	if err != nil {
		return err
	}
	for _, g := range groups(all) {
		removed := g.removed(repository)
		if c.Dry {
			c.Gone = append(c.Gone, removed...)
			continue
		}
		switch err := k.remove(ctx, repository, g, removed); {
		case fault.Is(err, fault.Conflict):
			c.Changed = append(c.Changed, removed...)
		case err != nil:
			return fmt.Errorf("remove %s of %s: %w", g[0].Stored.Digest, repository, err)
		default:
			c.Gone = append(c.Gone, removed...)
		}
	}
	for _, m := range all {
		if m.Keep {
			c.Kept++
		}
	}
	before := k.now().Add(-unnamedLife)
	if c.Dry {
		n, bytes, err := k.Registry.rows.Unnamed(ctx, repository, before)
		c.Blobs, c.Bytes = c.Blobs+n, c.Bytes+bytes
		return err
	}
	for {
		n, bytes, err := k.Registry.rows.RemoveUnnamed(ctx, repository, before, k.now(), 200)
		c.Blobs, c.Bytes = c.Blobs+n, c.Bytes+bytes
		if err != nil || n == 0 {
			return err
		}
	}
}

// group is a manifest that goes, first, and what goes with it.
type group []artifact.Kept

// groups puts what goes with something beside it. What follows something that is not going on its own is first of its group.
func groups(all []artifact.Kept) []group {
	at, follow := map[string]int{}, map[string][]int{}
	for i, m := range all {
		at[m.Stored.Digest] = i
		follow[m.With] = append(follow[m.With], i)
	}
	var out []group
	done := make([]bool, len(all))
	take := func(i int) {
		g := group{}
		for todo := []int{i}; len(todo) > 0; todo = todo[1:] {
			n := todo[0]
			if done[n] || all[n].Keep {
				continue
			}
			done[n] = true
			g = append(g, all[n])
			todo = append(todo, follow[all[n].Stored.Digest]...)
			for _, d := range all[n].Names {
				if j, ok := at[d]; ok {
					todo = append(todo, j)
				}
			}
		}
		out = append(out, g)
	}
	for i, m := range all {
		if !m.Keep && m.With == "" {
			take(i)
		}
	}
	for i, m := range all { // cycles, and what two indexes share
		if !m.Keep && !done[i] {
			take(i)
		}
	}
	return out
}

func (g group) removed(repository string) []artifact.Removed {
	out := make([]artifact.Removed, len(g))
	for i, m := range g {
		out[i] = artifact.Removed{Repository: repository, Digest: m.Stored.Digest, Kind: m.Kind, Release: m.Release, Size: m.Size, Why: strings.Join(m.Why, "; "), With: m.With}
		for _, t := range m.Tags {
			out[i].Tags = append(out[i].Tags, t.Name)
		}
	}
	return out
}

// remove takes a group out, unless somebody wants one of it by now.
func (k *Keeper) remove(ctx context.Context, repository string, g group, removed []artifact.Removed) error {
	pins, err := k.pins(ctx)
	if err != nil {
		return err
	}
	rows := artifactdb.Group{Repository: repository, Root: g[0].Stored.Digest, Tags: map[string]string{}}
	for _, m := range g {
		rows.Digests = append(rows.Digests, m.Stored.Digest)
		for _, t := range m.Tags {
			rows.Tags[t.Name] = m.Stored.Digest
		}
		if slices.ContainsFunc(pins, func(p artifact.Pin) bool { return p.Repository == repository && p.Digest == m.Stored.Digest }) {
			return fault.New(fault.Conflict, "%s is needed again", m.Stored.Digest)
		}
	}
	return k.Registry.db.Write(ctx, func(tx *db.Tx) error {
		if err := k.Registry.rows.RemoveGroup(ctx, tx, rows, k.now()); err != nil {
			return err
		}
		for _, r := range removed {
			data := map[string]any{"digest": r.Digest, "size": r.Size, "rule": r.Why}
			for name, v := range map[string]string{"release": r.Release, "kind": r.Kind, "with": r.With} {
				if v != "" {
					data[name] = v
				}
			}
			if len(r.Tags) > 0 {
				data["tags"] = r.Tags
			}
			if err := k.Ledger(ctx, tx, artifact.Entry{Actor: "registry", Action: "registry.removed", Subject: repository + "@" + r.Digest, Data: data}); err != nil {
				return err
			}
		}
		return nil
	})
}
