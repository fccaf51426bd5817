// Package db is one SQL for two engines: SQLite by default, PostgreSQL by URL.
//
// A query is written once, with `?` placeholders, in the common subset: text,
// bigint and integer columns, ON CONFLICT, RETURNING. Times are bigint unix
// microseconds, booleans are integers, JSON is text.
//
// Every transaction is serializable. On SQLite one writer goroutine runs
// closures in batches, each under its own savepoint, with one fsync a batch; on
// PostgreSQL a transaction that lost a race is run again. So a closure may run
// more than once and must have no effect but its SQL, and no query needs a lock
// clause.
//
// Wake-ups (Tx.Wake, Subscribe) tell followers on every replica that something
// changed. They may be lost or coalesced: the rows are the truth.
package db

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

// An Engine is what differs between databases: how a transaction is run, how a
// placeholder is spelt, how a wake-up reaches other replicas.
type Engine interface {
	// Name is "sqlite" or "postgres".
	Name() string
	// Rebind turns `?` placeholders into the engine's own.
	Rebind(query string) string
	// Write runs fn in a serializable transaction. fn may run more than once.
	Write(ctx context.Context, fn func(*sql.Tx) error) error
	// Reader is the pool that reads use.
	Reader() *sql.DB
	// Wake, called inside a transaction, sees to it that other replicas hear
	// of topic once it has committed. The own replica is woken by DB.
	Wake(ctx context.Context, tx *sql.Tx, topic string) error
	// Listen delivers topics woken by other replicas until ctx ends.
	Listen(ctx context.Context, deliver func(topic string)) error
	Close() error
}

// DB is an open database.
type DB struct {
	engine Engine
	stop   context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	subs map[string]map[chan struct{}]struct{}
}

// New wraps an engine. Adapters call it.
func New(e Engine) *DB {
	ctx, stop := context.WithCancel(context.Background())
	d := &DB{engine: e, stop: stop, done: make(chan struct{}), subs: map[string]map[chan struct{}]struct{}{}}
	go func() {
		defer close(d.done)
		for ctx.Err() == nil {
			if err := e.Listen(ctx, d.deliver); err == nil {
				return
			}
			// A lost wake-up connection costs latency, not truth: followers poll slowly too.
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return d
}

// Close stops the wake-ups and closes the engine.
func (d *DB) Close() error {
	d.stop()
	<-d.done
	return d.engine.Close()
}

// Engine returns "sqlite" or "postgres", for messages.
func (d *DB) Engine() string { return d.engine.Name() }

// Querier is what a read sees.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is a read-write transaction.
type Tx struct {
	tx     *sql.Tx
	db     *DB
	topics []string
}

// Query runs a query in the transaction.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, t.db.engine.Rebind(query), args...)
}

// QueryRow runs a query that returns at most one row.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, t.db.engine.Rebind(query), args...)
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(ctx, t.db.engine.Rebind(query), args...)
}

// Wake delivers topic to subscribers on every replica once the transaction has committed.
func (t *Tx) Wake(topic string) { t.topics = append(t.topics, topic) }

// Write runs fn in a serializable transaction. fn may run more than once and
// must have no effect but its SQL.
func (d *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	var topics []string
	err := d.engine.Write(ctx, func(stx *sql.Tx) error {
		tx := &Tx{tx: stx, db: d}
		if err := fn(tx); err != nil {
			return err
		}
		for _, topic := range tx.topics {
			if err := d.engine.Wake(ctx, stx, topic); err != nil {
				return fmt.Errorf("wake %s: %w", topic, err)
			}
		}
		topics = tx.topics
		return nil
	})
	if err != nil {
		return err
	}
	for _, topic := range topics {
		d.deliver(topic)
	}
	return nil
}

// Read runs fn against committed rows. Two queries in one Read may see two states.
func (d *DB) Read(_ context.Context, fn func(q Querier) error) error { return fn(reader{d}) }

// Query reads committed rows.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return reader{d}.Query(ctx, query, args...)
}

// QueryRow reads at most one committed row.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return reader{d}.QueryRow(ctx, query, args...)
}

type reader struct{ d *DB }

func (r reader) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return r.d.engine.Reader().QueryContext(ctx, r.d.engine.Rebind(query), args...)
}

func (r reader) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return r.d.engine.Reader().QueryRowContext(ctx, r.d.engine.Rebind(query), args...)
}

// Subscribe returns a channel that receives a wake-up after topic was woken.
// It carries wake-ups only, holds at most one, and may miss some.
func (d *DB) Subscribe(topic string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.subs[topic] == nil {
		d.subs[topic] = map[chan struct{}]struct{}{}
	}
	d.subs[topic][ch] = struct{}{}
	return ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subs[topic], ch)
		if len(d.subs[topic]) == 0 {
			delete(d.subs, topic)
		}
	}
}

func (d *DB) deliver(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ch := range d.subs[topic] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Collect scans every row of a query with scan and closes it.
func Collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// Micros is how a time is stored; the zero time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the reverse of Micros, in UTC.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Bool is how a boolean is stored.
func Bool(b bool) int {
	if b {
		return 1
	}
	return 0
}
