// Package postgres is the engine for N replicas: SERIALIZABLE transactions that
// are run again when they lose a race, and LISTEN/NOTIFY for wake-ups.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
)

const (
	channel = "weir"
	// attempts bounds how often a transaction that lost a race is run again.
	attempts = 40
)

type engine struct {
	pool *sql.DB
	cfg  *pgx.ConnConfig
	name string // of this replica, before the topics that it wakes
}

// Open connects to the database that u names: postgres://user:password@host:5432/weir.
func Open(ctx context.Context, u *url.URL) (*db.DB, error) {
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		// The parse error quotes the URL, which may hold a password.
		return nil, fault.New(fault.Invalid, "The database URL %s is not one PostgreSQL understands. Write it as postgres://USER:PASSWORD@HOST:5432/DATABASE.", u.Redacted())
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(24)
	pool.SetMaxIdleConns(8)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, fault.Wrap(fault.Unavailable, err, "The database %s does not answer as that user. Check that PostgreSQL runs there and that user, password and database name are right.", u.Redacted())
	}
	return db.New(&engine{pool: pool, cfg: cfg, name: id.New("replica")}), nil
}

func (e *engine) Name() string               { return "postgres" }
func (e *engine) Ordered() bool              { return false }
func (e *engine) Rebind(query string) string { return db.Rebind(query) }
func (e *engine) Reader() *sql.DB            { return e.pool }
func (e *engine) Close() error               { return e.pool.Close() }

func (e *engine) Write(ctx context.Context, fn func(db.Session) error) error {
	var err error
	for n := range attempts {
		if err = e.once(ctx, fn); !lostRace(err) || ctx.Err() != nil {
			return err
		}
		// Random, so that two that met do not meet again; short, since most races are.
		pause := time.Duration(rand.Int64N(int64(min(n+1, 10)) * int64(3*time.Millisecond)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fault.Wrap(fault.Unavailable, err, "The database is too busy with competing changes. Try again.")
}

func (e *engine) once(ctx context.Context, fn func(db.Session) error) (err error) {
	conn, err := e.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in transaction: %v", p)
		}
	}()
	batch := func(ctx context.Context, statements []db.Statement) error {
		var b pgx.Batch
		for _, s := range statements {
			b.Queue(s.Query, s.Args...)
		}
		return conn.Raw(func(c any) error { return c.(*stdlib.Conn).Conn().SendBatch(ctx, &b).Close() })
	}
	if err := fn(db.Session{Tx: tx, Batch: batch}); err != nil {
		return err
	}
	return db.WritePoint(tx.Commit)
}

// lostRace reports a serialization failure or a deadlock, and a unique
// violation, which under SERIALIZABLE may be a race that the next run sees.
func lostRace(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

func (e *engine) Wake(topics []string) *db.Statement {
	return &db.Statement{Query: "select pg_notify($1, $2 || ' ' || topic) from unnest($3::text[]) topic", Args: []any{channel, e.name, topics}}
}

func (e *engine) Listen(ctx context.Context, deliver func(string)) error {
	conn, err := pgx.ConnectConfig(ctx, e.cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if from, topic, ok := strings.Cut(n.Payload, " "); ok && from != e.name {
			deliver(topic)
		}
	}
}

// Migrating holds an advisory lock, so that of two replicas starting at once one waits.
func (e *engine) Migrating(ctx context.Context, fn func(db.Conn) error) error {
	const key = 0x77656972 // "weir"
	conn, err := e.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock($1)", key); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", key)
	return fn(db.Conn{DB: e.pool})
}
