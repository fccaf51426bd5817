package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
)

const (
	scrubRate  = 8 << 20 // bytes a second
	scrubEach  = 7 * 24 * time.Hour
	scrubLook  = 5 * time.Second // how soon a scrub begins that somebody asked for
	scrubBatch = 64
)

// errUnreadable is a fault on the way to the bytes, which says nothing about them.
var errUnreadable = errors.New("unreadable")

// Scrubber reads all bytes that the registry needs, one blob after the other, and hashes them again. It is a part of its own, as it
// may read for days. Where it is, is stored: a restart goes on there.
type Scrubber struct{ *Keeper }

// Name implements part.Service.
func (s Scrubber) Name() string { return "scrub" }

// Run implements part.Service: one replica reads, slowly by itself and fast when somebody asked.
func (s Scrubber) Run(ctx context.Context) error {
	return lease.Hold(ctx, s.Registry.db, "artifact/scrub", s.Holder, func(ctx context.Context, _ lease.Lease) error {
		for {
			if err := s.turn(ctx); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "scrub failed; it will go on in a while", "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(scrubLook):
			}
		}
	})
}

// turn begins or continues a reading if one is due.
func (s Scrubber) turn(ctx context.Context) error {
	at, err := s.Registry.rows.Scrub(ctx, s.Registry.db)
	if err != nil {
		return err
	}
	each := s.ScrubEach
	if each == 0 {
		each = scrubEach
	}
	asked := !at.Asked.IsZero() && at.Asked.After(at.Finished)
	if at.Started.IsZero() && !asked && s.now().Sub(at.Finished) < each {
		return nil
	}
	return s.Read(ctx, asked)
}

// Read reads from where the last reading stopped to the end; fast does not wait between blobs.
func (s Scrubber) Read(ctx context.Context, fast bool) error {
	at, err := s.Registry.rows.Scrub(ctx, s.Registry.db)
	if err != nil {
		return err
	}
	if at.Started.IsZero() || fast && at.Asked.After(at.Started) {
		at = artifactdb.Scrub{Started: s.now(), Finished: at.Finished, Last: at.Last}
	}
	rate := s.ScrubRate
	if rate <= 0 {
		rate = scrubRate
	}
	for {
		batch, err := s.Registry.rows.StoredAfter(ctx, at.Cursor, scrubBatch)
		if err != nil {
			return err
		}
		for _, stored := range batch {
			began := time.Now()
			n, damaged, err := s.examine(ctx, blob.Digest(stored))
			if errors.Is(err, errUnreadable) && ctx.Err() == nil {
				slog.WarnContext(ctx, "stored bytes cannot be read now; the next reading tries again", "digest", stored, "error", err)
				err = nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", stored, err)
			}
			at.Cursor, at.Checked, at.Bytes = stored, at.Checked+1, at.Bytes+n
			if damaged {
				at.Damaged++
			}
			if wait := time.Duration(float64(n)/float64(rate)*float64(time.Second)) - time.Since(began); !fast && wait > 0 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(wait):
				}
			}
		}
		if len(batch) < scrubBatch {
			now := s.now()
			at.Last = artifact.ScrubSummary{Checked: at.Checked, Bytes: at.Bytes, Damaged: at.Damaged, Seconds: int64(now.Sub(at.Started).Seconds())}
			at = artifactdb.Scrub{Finished: now, Last: at.Last}
		}
		if err := s.Registry.db.Write(ctx, func(tx *db.Tx) error { return s.Registry.rows.SaveScrub(ctx, tx, at) }); err != nil || at.Started.IsZero() {
			return err
		}
		if !fast { // somebody may ask meanwhile
			now, err := s.Registry.rows.Scrub(ctx, s.Registry.db)
			if err != nil || now.Asked.After(at.Started) {
				return err
			}
		}
	}
}

// examine hashes one blob, and marks it if it is damaged.
func (s Scrubber) examine(ctx context.Context, stored blob.Digest) (n int64, damaged bool, err error) {
	why, n, err := s.rehash(ctx, stored)
	if err != nil {
		return n, false, err
	}
	if why != "" { // Once more: a fault on the way is no damage.
		if why, n, err = s.rehash(ctx, stored); err != nil {
			return n, false, err
		}
	}
	_, found, err := s.Registry.rows.Damaged(ctx, stored)
	if err != nil {
		return n, false, err
	}
	if why == "" {
		if !found {
			return n, false, nil
		}
		return n, false, s.heal(ctx, stored)
	}
	// What is damaged gives way before it is marked, so that whoever pushes the same bytes stores them anew.
	if err := blob.Quarantine(ctx, s.Registry.blobs, stored); err != nil {
		return n, true, err
	}
	if found {
		return n, true, nil
	}
	needed, err := s.mark(ctx, artifactdb.Damage{Stored: stored, Why: why, Found: s.now()})
	return n, needed, err
}

// mark stores the damage with its ledger entry, unless nobody needs the bytes, or somebody has pushed them again by now.
func (s Scrubber) mark(ctx context.Context, d artifactdb.Damage) (needed bool, err error) {
	err = s.Registry.db.Write(ctx, func(tx *db.Tx) (err error) {
		needed, err = s.Registry.rows.Needed(ctx, tx, d.Stored)
		if err != nil || !needed {
			return err
		}
		if err := s.Registry.rows.MarkDamaged(ctx, tx, d); err != nil {
			return err
		}
		return s.Ledger(ctx, tx, artifact.Entry{Actor: "registry", Action: "registry.damage_found", Subject: string(d.Stored), Data: map[string]any{"why": d.Why}})
	})
	if err != nil || !needed {
		return false, err
	}
	slog.ErrorContext(ctx, "stored bytes are damaged; push them again", "digest", d.Stored, "why", d.Why)
	if why, _, err := s.rehash(ctx, d.Stored); err != nil || why != "" {
		return true, err
	}
	return false, s.heal(ctx, d.Stored)
}

func (s Scrubber) heal(ctx context.Context, stored blob.Digest) error {
	return s.Registry.db.Write(ctx, func(tx *db.Tx) error { return s.Registry.healed(ctx, tx, stored) })
}

// rehash reads stored bytes and says what is wrong with them, "" if nothing.
func (s Scrubber) rehash(ctx context.Context, stored blob.Digest) (why string, n int64, err error) {
	rc, _, err := s.Registry.blobs.Open(ctx, stored)
	if fault.Is(err, fault.NotFound) {
		return "the bytes are gone", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	defer rc.Close()
	h := sha256.New()
	n, err = io.CopyBuffer(struct{ io.Writer }{h}, stopped{ctx, rc}, make([]byte, 256<<10))
	if ctx.Err() != nil {
		return "", n, ctx.Err()
	}
	if errors.Is(err, blob.ErrDamaged) || errors.Is(err, syscall.EIO) {
		return fmt.Sprintf("they cannot be read after the first %d bytes", n), n, nil
	}
	if err != nil {
		return "", n, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != string(stored) {
		return fmt.Sprintf("the %d bytes have the digest %s", n, got), n, nil
	}
	return "", n, nil
}

// stopped ends reading with its context.
type stopped struct {
	ctx context.Context
	r   io.Reader
}

func (s stopped) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// Scrub implements artifact.Custodian.
func (k *Keeper) Scrub(ctx context.Context, start bool) (st artifact.ScrubState, err error) {
	action := "artifact.read"
	if start {
		action = "registry.manage"
	}
	if err := k.may(ctx, action); err != nil {
		return st, err
	}
	rows := k.Registry.rows
	if start {
		err := k.Registry.db.Write(ctx, func(tx *db.Tx) error {
			if err := rows.AskScrub(ctx, tx, k.now()); err != nil {
				return err
			}
			return k.Ledger(ctx, tx, artifact.Entry{Actor: identity.From(ctx).Name, Action: "registry.scrub_started", Subject: "registry"})
		})
		if err != nil {
			return st, err
		}
	}
	at, err := rows.Scrub(ctx, k.Registry.db)
	if err != nil {
		return st, err
	}
	st = artifact.ScrubState{Running: !at.Started.IsZero(), Started: at.Started, Checked: at.Checked, Bytes: at.Bytes, Finished: at.Finished, Last: at.Last, Asked: at.Asked}
	if st.Total, err = rows.StoredCount(ctx); err != nil {
		return st, err
	}
	st.Damage, err = k.damage(ctx)
	return st, err
}

// damage says what the damaged bytes belong to, and where that runs.
func (k *Keeper) damage(ctx context.Context) ([]artifact.Damage, error) {
	all, err := k.Registry.rows.Damages(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	affected, err := k.Registry.rows.Affected(ctx)
	if err != nil {
		return nil, err
	}
	pins, err := k.pins(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]artifact.Damage, len(all))
	for i, d := range all {
		out[i] = artifact.Damage{Stored: string(d.Stored), Why: d.Why, Found: d.Found}
		for _, image := range affected[string(d.Stored)] {
			if !k.readable(ctx, image.Repository) {
				continue
			}
			out[i].Images = append(out[i].Images, image)
			for _, p := range pins {
				if p.Where != "" && p.Repository == image.Repository && p.Digest == image.Digest {
					out[i].Environments = append(out[i].Environments, p.Why)
				}
			}
		}
	}
	return out, nil
}

// healed forgets that bytes were damaged: they have just been stored again.
func (r *Registry) healed(ctx context.Context, tx *db.Tx, stored blob.Digest) error {
	was, err := r.rows.Healed(ctx, tx, stored)
	if err != nil || !was || r.ledger == nil {
		return err
	}
	return r.ledger(ctx, tx, artifact.Entry{Actor: identity.From(ctx).Name, Action: "registry.damage_healed", Subject: string(stored)})
}

// lost explains bytes that the rows name and the store does not have.
func (r *Registry) lost(ctx context.Context, code artifact.Code, what string, stored blob.Digest, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("open %s: %w", what, err)
	}
	d, found, derr := r.rows.Damaged(ctx, stored)
	if derr != nil {
		return errors.Join(err, derr)
	}
	if !found {
		slog.ErrorContext(ctx, "stored bytes are gone", "digest", stored)
		return artifact.Refuse(code, fault.NotFound, "the bytes of %s are gone from the server's blob store; push them again, or restore them from a backup", what)
	}
	return artifact.Refuse(code, fault.NotFound, "the bytes of %s are damaged, as was found on %s, and are given to nobody; push them again, which heals it", what, d.Found.Format("2 January 2006"))
}
