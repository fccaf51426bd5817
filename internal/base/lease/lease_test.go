package lease_test

import (
	"context"
	"errors"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/lease"
)

func TestANewHolderFencesTheOldOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := lease.Migrate(ctx, d); err != nil {
			t.Fatal(err)
		}
		var first lease.Lease
		if err := lease.Hold(ctx, d, "work", "a", func(_ context.Context, l lease.Lease) error { first = l; return nil }); err != nil {
			t.Fatal(err)
		}
		err := lease.Hold(ctx, d, "work", "b", func(ctx context.Context, second lease.Lease) error {
			if second.Epoch <= first.Epoch {
				t.Errorf("second epoch %d; want more than %d", second.Epoch, first.Epoch)
			}
			if err := d.Write(ctx, func(tx *db.Tx) error { return second.Check(ctx, tx) }); err != nil {
				t.Errorf("holder refused: %v", err)
			}
			if err := d.Write(ctx, func(tx *db.Tx) error { return first.Check(ctx, tx) }); !errors.Is(err, lease.ErrFenced) {
				t.Errorf("Check() of the old holder = %v; want ErrFenced", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestALeaseInUseIsNotGivenToAnother(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := lease.Migrate(ctx, d); err != nil {
			t.Fatal(err)
		}
		err := lease.Hold(ctx, d, "work", "a", func(ctx context.Context, _ lease.Lease) error {
			other, stop := context.WithTimeout(ctx, lease.TTL/8)
			defer stop()
			err := lease.Hold(other, d, "work", "b", func(context.Context, lease.Lease) error {
				t.Error("two holders at once")
				return nil
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Hold() = %v; want the deadline", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
