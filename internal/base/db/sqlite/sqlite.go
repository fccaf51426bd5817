// Package sqlite is the embedded default: one file, WAL, synchronous=FULL, and
// one writer goroutine that commits closures in batches, so that an
// acknowledged write survives power loss at little cost.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// batch is how many closures share one commit. Larger batches did not commit
// more per second in measurements, but made the slowest wait longer.
const batch = 64

type engine struct {
	write, read *sql.DB
	queue       chan request
	done        chan struct{}
	closing     sync.Once
	mu          sync.RWMutex // guards closed against a send on queue
	closed      bool
}

type request struct {
	ctx  context.Context
	fn   func(db.Session) error
	done chan error
}

// Open opens or creates the database file that u names: sqlite:///path/to/weir.db.
func Open(_ context.Context, u *url.URL) (*db.DB, error) {
	e, err := start(u)
	if err != nil {
		return nil, err
	}
	return db.New(e), nil
}

func start(u *url.URL) (*engine, error) {
	path := u.Path
	if u.Opaque != "" {
		path = u.Opaque
	}
	if path == "" {
		return nil, fault.New(fault.Invalid, "The database URL %q names no file. Write it as sqlite:///path/to/weir.db.", u.Redacted())
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The folder of the database %s cannot be made.", path)
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)"
	writer, err := connect(dsn+"&_txlock=immediate", true)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	reader, err := connect(dsn+"&_pragma=query_only(1)", false)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w := sql.OpenDB(writer)
	w.SetMaxOpenConns(1)
	if err := w.Ping(); err != nil {
		w.Close()
		return nil, fault.Wrap(fault.Unavailable, err, "The database file %s cannot be opened. Check that it is a Weir database and that this user may write it.", path)
	}
	r := sql.OpenDB(reader)
	r.SetMaxOpenConns(8)
	r.SetMaxIdleConns(8)
	e := &engine{write: w, read: r, queue: make(chan request, 1024), done: make(chan struct{})}
	go e.loop()
	return e, nil
}

func (e *engine) Name() string               { return "sqlite" }
func (e *engine) Ordered() bool              { return true }
func (e *engine) Rebind(query string) string { return query }
func (e *engine) Reader() *sql.DB            { return e.read }

// Wake needs nothing: one process owns the file, and DB wakes its own subscribers.
func (e *engine) Wake([]string) *db.Statement { return nil }

func (e *engine) Listen(ctx context.Context, _ func(string)) error { return nil }

func (e *engine) Close() error {
	e.closing.Do(func() {
		e.mu.Lock()
		e.closed = true
		close(e.queue)
		e.mu.Unlock()
	})
	<-e.done
	return errors.Join(e.read.Close(), e.write.Close())
}

func (e *engine) Write(ctx context.Context, fn func(db.Session) error) error {
	r := request{ctx, fn, make(chan error, 1)}
	e.mu.RLock()
	if e.closed {
		e.mu.RUnlock()
		return errors.New("database is closed")
	}
	select {
	case e.queue <- r:
		e.mu.RUnlock()
	case <-ctx.Done():
		e.mu.RUnlock()
		return ctx.Err()
	}
	// Once queued, the outcome is awaited even if ctx ends: whoever is told
	// that a write failed must be able to rely on it.
	return <-r.done
}

// Migrating lends the write connection to a migration tool while no closure runs.
func (e *engine) Migrating(_ context.Context, fn func(db.Conn) error) error {
	return fn(db.Conn{DB: e.write})
}

// loop is the only goroutine that writes.
func (e *engine) loop() {
	defer close(e.done)
	for first := range e.queue {
		reqs := []request{first}
	fill:
		for len(reqs) < batch {
			select {
			case r, ok := <-e.queue:
				if !ok {
					break fill
				}
				reqs = append(reqs, r)
			default:
				break fill
			}
		}
		e.commit(reqs)
	}
}

// commit runs a batch in one transaction, each closure under a savepoint, so
// that one that fails takes nothing with it.
func (e *engine) commit(reqs []request) {
	errs := make([]error, len(reqs))
	err := func() error {
		tx, err := e.write.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		wrote := false
		for i, r := range reqs {
			if errs[i] = r.ctx.Err(); errs[i] != nil {
				continue
			}
			if errs[i] = savepoint(tx, r.fn); errs[i] == nil {
				wrote = true
			}
		}
		if !wrote {
			return nil
		}
		return db.WritePoint(tx.Commit)
	}()
	if err != nil {
		err = explain(err)
	}
	for i, r := range reqs {
		switch {
		case errs[i] != nil:
			r.done <- explain(errs[i])
		default:
			r.done <- err
		}
	}
}

func savepoint(tx *sql.Tx, fn func(db.Session) error) (err error) {
	if _, err := tx.Exec("savepoint w"); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in transaction: %v", p)
		}
		if err != nil {
			_, _ = tx.Exec("rollback to w")
		}
		if _, rerr := tx.Exec("release w"); err == nil {
			err = rerr
		}
	}()
	return fn(db.Session{Tx: tx})
}

// explain gives the conditions that an operator can mend a sentence.
func explain(err error) error {
	if serr, ok := errors.AsType[*sqlite.Error](err); ok {
		switch serr.Code() & 0xff {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			return fault.Wrap(fault.Unavailable, err, "The database could not be written: the disk is full or failing. Free some space on the data folder's disk and try again; nothing was changed.")
		}
	}
	return err
}
