// Package journal keeps facts: what a layer announces to the layers above it.
//
// A fact is appended in the transaction that makes it true. Positions have no
// gaps and never appear out of order: a follower that has seen position n will
// not find a fact at n or before it later, whatever was still uncommitted when
// it looked. Where one transaction writes at a time, the fact gets its position
// there and then; elsewhere one leased and fenced sequencer gives it afterwards.
// Followers see each fact at least once.
package journal

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/id"
	"weir/internal/base/lease"
)

//go:embed migrations
var migrations embed.FS

const (
	topicAppended  = "journal:appended"
	topicSequenced = "journal:sequenced"
	// poll is how long a lost wake-up may delay a fact.
	poll = time.Second
)

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "journal", migrations) }

// A Fact is something that became true. Body is JSON of the shape that Type and
// Version name; readers ignore fields that they do not know.
type Fact struct {
	ID       string
	Org      string
	Type     string
	Version  int
	Subject  string
	Body     json.RawMessage
	Time     time.Time
	Position int64 // from 1, without gaps; 0 until sequenced
}

// Journal appends and follows facts.
type Journal struct {
	db   *db.DB
	tail tail
}

// New returns the journal of a database.
func New(d *db.DB) *Journal { return &Journal{db: d} }

// Append adds a fact to the transaction that makes it true. Zero ID, Org,
// Version and Time are filled in.
func (j *Journal) Append(ctx context.Context, tx *db.Tx, f Fact) error {
	if f.ID == "" {
		f.ID = id.New("fact")
	}
	if f.Org == "" {
		f.Org = "default"
	}
	if f.Version == 0 {
		f.Version = 1
	}
	if f.Time.IsZero() {
		f.Time = time.Now()
	}
	if len(f.Body) == 0 {
		f.Body = json.RawMessage("{}")
	}
	position, topic := "null", topicAppended
	if j.db.Ordered() {
		position, topic = "(select coalesce(max(position), 0) + 1 from fact)", topicSequenced
	}
	err := tx.Later(ctx, "insert into fact (org, id, type, version, subject, body, at, position) values (?, ?, ?, ?, ?, ?, ?, "+position+")",
		f.Org, f.ID, f.Type, f.Version, f.Subject, string(f.Body), f.Time.UnixMicro())
	if err != nil {
		return fmt.Errorf("append fact %s: %w", f.Type, err)
	}
	tx.Wake(topic)
	return nil
}

// Sequence gives positions to facts until ctx ends. It runs on every replica;
// the lease lets one of them work.
func (j *Journal) Sequence(ctx context.Context, holder string) error {
	return lease.Hold(ctx, j.db, "journal/sequencer", holder, func(ctx context.Context, l lease.Lease) error {
		appended, cancel := j.db.Subscribe(topicAppended)
		defer cancel()
		for {
			n, err := j.sequence(ctx, l)
			switch {
			case errors.Is(err, lease.ErrFenced):
				return err
			case err != nil && ctx.Err() == nil:
				slog.ErrorContext(ctx, "facts not sequenced", "error", err)
			case n == page:
				continue
			case err == nil && j.db.Ordered(): // only an earlier release left any
				<-ctx.Done()
				return ctx.Err()
			}
			rest := time.NewTimer(sequenceEvery)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-appended:
			case <-time.After(poll):
			}
			select { // those that come close together get their positions together
			case <-ctx.Done():
				return ctx.Err()
			case <-rest.C:
			}
		}
	})
}

const (
	// page is how many facts get their positions at a time.
	page = 500
	// sequenceEvery is the least time between two rounds. A fact that comes after a pause waits for nothing.
	sequenceEvery = 20 * time.Millisecond
)

// sequence gives the next positions to what has been committed by now, in the
// order of ids, and returns how many it gave.
func (j *Journal) sequence(ctx context.Context, l lease.Lease) (n int, err error) {
	err = j.db.Write(ctx, func(tx *db.Tx) error {
		n = 0
		if err := l.Check(ctx, tx); err != nil {
			return err
		}
		res, err := tx.Exec(ctx, `with next as (
			select id, row_number() over (order by id) + (select coalesce(max(position), 0) from fact) as position from fact where position is null order by id limit ?)
			update fact set position = next.position from next where fact.id = next.id`, page)
		if err != nil {
			return err
		}
		given, err := res.RowsAffected()
		if n = int(given); n > 0 {
			tx.Wake(topicSequenced)
		}
		return err
	})
	return n, err
}

// Follow calls handle with every fact after the stored cursor of name, in
// order, until ctx ends. The cursor is stored a moment after handle returned
// nil, for many facts at once, so handle sees some facts again after a crash and
// must be idempotent. A handle that returns an error is called again, later and
// later: an error means "not now", never "not wanted". Only one replica follows
// under a name at a time.
func (j *Journal) Follow(ctx context.Context, name string, handle func(context.Context, Fact) error) error {
	sequenced, cancel := j.db.Subscribe(topicSequenced)
	defer cancel()
	c := cursor{j: j, name: name}
	defer func() {
		if err := c.store(context.WithoutCancel(ctx)); err != nil {
			slog.WarnContext(ctx, "cursor not stored; some facts will be handled again", "follower", name, "error", err)
		}
	}()
	pause, polled := time.Duration(0), true
	for {
		more, err := c.follow(ctx, polled, handle)
		polled = false
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			pause = min(max(2*pause, 50*time.Millisecond), 30*time.Second)
			slog.ErrorContext(ctx, "fact not handled; it will be tried again", "follower", name, "error", err, "in", pause)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			continue
		case more:
			pause = 0
			continue
		}
		pause = 0
		wait := poll
		if c.done > c.stored {
			wait = max(time.Until(c.since.Add(storeAfter)), 0)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-sequenced:
		case <-timer.C:
			polled = true
		}
		timer.Stop()
	}
}

const (
	// storeAfter and storeFacts bound how much a follower handles again after a crash.
	storeAfter = 500 * time.Millisecond
	storeFacts = 200
)

// cursor is how far a follower has come. What is stored of it may be behind.
type cursor struct {
	j      *Journal
	name   string
	loaded bool
	done   int64 // position of the last fact handled
	stored int64
	since  time.Time // when done went beyond stored
}

// follow handles the next facts, and reports whether there may be more of which no wake-up will tell. A poll trusts no wake-up.
func (c *cursor) follow(ctx context.Context, polled bool, handle func(context.Context, Fact) error) (more bool, err error) {
	woken := int64(-1)
	if !polled {
		woken = c.j.db.Woken(topicSequenced)
	}
	if !c.loaded {
		err := c.j.db.QueryRow(ctx, "select position from journal_cursor where name = ?", c.name).Scan(&c.stored)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
		c.loaded, c.done = true, c.stored
	}
	facts, more, err := c.j.tail.after(c.done, woken, func() ([]Fact, error) { return c.j.After(ctx, c.done, storeFacts) })
	if err != nil {
		return false, err
	}
	for _, f := range facts {
		if err = handle(ctx, f); err != nil {
			err = fmt.Errorf("%s %s at %d: %w", f.Type, f.Subject, f.Position, err)
			break
		}
		if c.done == c.stored {
			c.since = time.Now()
		}
		c.done = f.Position
	}
	if c.done-c.stored >= storeFacts || c.done > c.stored && time.Since(c.since) >= storeAfter {
		err = errors.Join(err, c.store(context.WithoutCancel(ctx)))
	}
	return more, err
}

// store keeps the cursor. It never goes back, also if another replica has taken over.
func (c *cursor) store(ctx context.Context) error {
	if c.done == c.stored {
		return nil
	}
	err := c.j.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into journal_cursor (org, name, position) values ('default', ?, ?)
			on conflict (name) do update set position = excluded.position where journal_cursor.position < excluded.position`, c.name, c.done)
		return err
	})
	if err == nil {
		c.stored = c.done
	}
	return err
}

// After returns up to limit sequenced facts after a position.
func (j *Journal) After(ctx context.Context, position int64, limit int) ([]Fact, error) {
	rows, err := j.db.Query(ctx, `select org, id, type, version, subject, body, at, position from fact
		where position > ? order by position limit ?`, position, limit)
	return db.Collect(rows, err, func(r *sql.Rows) (Fact, error) {
		var (
			f    Fact
			at   int64
			body string
		)
		err := r.Scan(&f.Org, &f.ID, &f.Type, &f.Version, &f.Subject, &body, &at, &f.Position)
		f.Body, f.Time = json.RawMessage(body), db.Time(at)
		return f, err
	})
}
