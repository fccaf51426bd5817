// Package lease says who may be the only one doing something.
//
// A lease has a fencing epoch that grows with every holder. Work done under a
// lease checks the epoch in its own transaction, so a holder that was cut off
// and does not know it yet can change nothing. A single node is a cluster whose
// lease never moves: the same node takes its own lease back at once.
package lease

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
)

//go:embed migrations
var migrations embed.FS

// TTL is how long a lease outlives its holder's last sign of life.
const TTL = 10 * time.Second

// Migrate makes the table.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "lease", migrations) }

// A Lease is held by one holder at one epoch.
type Lease struct {
	Name   string
	Holder string
	Epoch  int64
}

// ErrFenced says that the lease has gone to somebody else.
var ErrFenced = fault.New(fault.Conflict, "This replica no longer holds the lease for that work; another one has taken over.")

// Check refuses, inside a transaction, if the lease is no longer held at this epoch.
func (l Lease) Check(ctx context.Context, tx *db.Tx) error {
	var epoch int64
	if err := tx.QueryRow(ctx, "select epoch from lease where name = ?", l.Name).Scan(&epoch); err != nil {
		return fmt.Errorf("check lease %s: %w", l.Name, err)
	}
	if epoch != l.Epoch {
		return fmt.Errorf("lease %s at epoch %d, now %d: %w", l.Name, l.Epoch, epoch, ErrFenced)
	}
	return nil
}

// Hold waits for the lease, runs fn while it is held, and gives it back. The
// context of fn ends when the lease is lost; Hold then waits for it again. It
// returns when ctx ends or fn returns by itself.
func Hold(ctx context.Context, d *db.DB, name, holder string, fn func(context.Context, Lease) error) error {
	for {
		l, ok, err := acquire(ctx, d, name, holder)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "lease not taken", "lease", name, "error", err)
		}
		if ok {
			err := whileHeld(ctx, d, l, fn)
			if ctx.Err() != nil || !errors.Is(err, errLost) {
				return err
			}
			slog.WarnContext(ctx, "lease lost", "lease", name, "epoch", l.Epoch)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(TTL / 10):
		}
	}
}

var errLost = errors.New("lease lost")

func whileHeld(ctx context.Context, d *db.DB, l Lease, fn func(context.Context, Lease) error) error {
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		last := time.Now()
		for {
			select {
			case <-held.Done():
				return
			case <-time.After(TTL / 4):
			}
			switch ok, err := renew(held, d, l); {
			case err == nil && ok:
				last = time.Now()
			case err == nil, time.Since(last) > TTL*3/4:
				lose(errLost)
				return
			}
		}
	}()
	err := fn(held, l)
	lost := errors.Is(context.Cause(held), errLost)
	lose(nil)
	<-renewing
	if lost || errors.Is(err, ErrFenced) {
		return errLost
	}
	release(context.WithoutCancel(ctx), d, l)
	return err
}

func acquire(ctx context.Context, d *db.DB, name, holder string) (Lease, bool, error) {
	l := Lease{Name: name, Holder: holder}
	ok := false
	err := d.Write(ctx, func(tx *db.Tx) error {
		ok = false
		now := time.Now()
		var (
			current string
			epoch   int64
			expires int64
		)
		err := tx.QueryRow(ctx, "select holder, epoch, expires from lease where name = ?", name).Scan(&current, &epoch, &expires)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case current != holder && expires > now.UnixMicro():
			return nil
		}
		l.Epoch, ok = epoch+1, true
		_, err = tx.Exec(ctx, `insert into lease (org, name, holder, epoch, expires) values ('default', ?, ?, ?, ?)
			on conflict (name) do update set holder = excluded.holder, epoch = excluded.epoch, expires = excluded.expires`,
			name, holder, l.Epoch, now.Add(TTL).UnixMicro())
		return err
	})
	return l, ok && err == nil, err
}

func renew(ctx context.Context, d *db.DB, l Lease) (bool, error) {
	var n int64
	err := d.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "update lease set expires = ? where name = ? and epoch = ?", time.Now().Add(TTL).UnixMicro(), l.Name, l.Epoch)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n == 1, err
}

func release(ctx context.Context, d *db.DB, l Lease) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// Failing to give it back costs the next holder one TTL, nothing else.
	_ = d.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update lease set expires = 0 where name = ? and epoch = ?", l.Name, l.Epoch)
		return err
	})
}
