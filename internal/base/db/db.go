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
	"slices"
	"sync"
	"time"
)

// An Engine is what differs between databases: how a transaction is run, how a
// placeholder is spelt, how a wake-up reaches other replicas.
type Engine interface {
	// Name is "sqlite" or "postgres".
	Name() string
	// Ordered says that one process owns the database and one transaction writes at a time: what it numbers in order becomes visible
	// in that order.
	Ordered() bool
	// Rebind turns `?` placeholders into the engine's own.
	Rebind(query string) string
	// Write runs fn in a serializable transaction. fn may run more than once.
	Write(ctx context.Context, fn func(Session) error) error
	// Reader is the pool that reads use.
	Reader() *sql.DB
	// Wake is the statement that, inside a transaction, sees to it that other
	// replicas hear of topics once it has committed; nil if there are none to
	// hear. The own replica is woken by DB.
	Wake(topics []string) *Statement
	// Listen delivers topics woken by other replicas until ctx ends.
	Listen(ctx context.Context, deliver func(topic string)) error
	Close() error
}

// A Session is an engine's side of one transaction.
type Session struct {
	Tx *sql.Tx
	// Batch runs statements in one round trip; nil where a round trip costs nothing.
	Batch func(context.Context, []Statement) error
}

// A Statement is a query with its arguments, in the engine's own spelling.
type Statement struct {
	Query string
	Args  []any
}

// DB is an open database.
type DB struct {
	engine Engine
	stop   context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	subs  map[string]map[chan struct{}]struct{}
	wakes int64            // of all topics
	woken map[string]int64 // wakes at the last one of a topic that has subscribers
}

// New wraps an engine. Adapters call it.
func New(e Engine) *DB {
	ctx, stop := context.WithCancel(context.Background())
	d := &DB{engine: e, stop: stop, done: make(chan struct{}), subs: map[string]map[chan struct{}]struct{}{}, woken: map[string]int64{}}
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

// Ordered reports whether one process owns the database and one transaction writes at a time, so that numbers which it gives in order
// become visible in that order.
func (d *DB) Ordered() bool { return d.engine.Ordered() }

// Querier is what a read sees.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is a read-write transaction.
type Tx struct {
	session Session
	db      *DB
	topics  []string
	waiting []Statement
	failed  error // of statements that waited
}

// Query runs a query in the transaction.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	return t.session.Tx.QueryContext(ctx, t.db.engine.Rebind(query), args...)
}

// QueryRow runs a query that returns at most one row.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	if t.flush(ctx) != nil { // the transaction has failed, and its next statement says so
		t.waiting = nil
	}
	return t.session.Tx.QueryRowContext(ctx, t.db.engine.Rebind(query), args...)
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	return t.session.Tx.ExecContext(ctx, t.db.engine.Rebind(query), args...)
}

// Later runs a statement of whose result nothing depends: together with others, in one round trip, before the next statement that
// is not such a one and before the commit. Its error fails the transaction, and may come from there.
func (t *Tx) Later(ctx context.Context, query string, args ...any) error {
	if t.session.Batch == nil {
		_, err := t.Exec(ctx, query, args...)
		return err
	}
	t.waiting = append(t.waiting, Statement{t.db.engine.Rebind(query), args})
	return nil
}

func (t *Tx) flush(ctx context.Context) error {
	if t.failed == nil && len(t.waiting) > 0 {
		t.failed = t.session.Batch(ctx, t.waiting)
		t.waiting = t.waiting[:0]
	}
	return t.failed
}

// Wake delivers topic to subscribers on every replica once the transaction has committed.
func (t *Tx) Wake(topic string) {
	if !slices.Contains(t.topics, topic) {
		t.topics = append(t.topics, topic)
	}
}

// Write runs fn in a serializable transaction. fn may run more than once and
// must have no effect but its SQL.
func (d *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	var topics []string
	err := d.engine.Write(ctx, func(s Session) error {
		tx := &Tx{session: s, db: d}
		if err := fn(tx); err != nil {
			if tx.failed != nil { // what came after it only says that the transaction has failed
				return tx.failed
			}
			return err
		}
		if wake := d.engine.Wake(tx.topics); wake != nil && len(tx.topics) > 0 {
			tx.waiting = append(tx.waiting, *wake)
		}
		topics = tx.topics
		return tx.flush(ctx)
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
			delete(d.woken, topic)
		}
	}
}

// Woken is a number that grows with each wake-up of a topic, as long as it has subscribers. Who reads rows after asking sees what all
// wake-ups up to it told of.
func (d *DB) Woken(topic string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.woken[topic]
}

func (d *DB) deliver(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.subs[topic]) > 0 {
		d.wakes++
		d.woken[topic] = d.wakes
	}
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
