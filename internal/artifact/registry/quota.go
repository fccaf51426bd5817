package registry

import (
	"context"
	"fmt"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// room refuses add more bytes in a repository whose quota they would not fit. Inside the transaction that adds them it is exact, as
// transactions are serializable; before an upload it spares the client the way.
func (r *Registry) room(ctx context.Context, q db.Querier, repository string, add int64) error {
	quota, _, err := r.rows.Quota(ctx, q, repository, r.limits.Quota)
	if err != nil || quota == 0 || add <= 0 {
		return err
	}
	used, err := r.rows.Used(ctx, q, repository)
	if err != nil {
		return err
	}
	if used+add > quota {
		more := size(add) + " more do not fit"
		if used >= quota || add == 1 {
			more = "so it is full"
		}
		return artifact.Refuse(artifact.Denied, fault.Denied, "%s has %s of its quota of %s in use, %s; remove what is not needed (weir registry show %s says what retention keeps), or ask an admin for more room (weir registry quota %s --set SIZE)",
			repository, size(used), size(quota), more, repository, repository)
	}
	return nil
}

// open refuses bytes while the disk is nearly full, and returns how many of an upload of a blob of have bytes so far may come.
func (r *Registry) open(ctx context.Context, repository string, have int64) (most int64, err error) {
	if r.limits.Room != nil {
		if err := r.limits.Room(); err != nil {
			return 0, err
		}
	}
	most = r.limits.Blob - have
	quota, _, err := r.rows.Quota(ctx, r.db, repository, r.limits.Quota)
	if err != nil || quota == 0 {
		return most, err
	}
	used, err := r.rows.Used(ctx, r.db, repository)
	if err != nil {
		return 0, err
	}
	return min(most, max(0, quota-used-have)), nil
}

// size writes bytes exactly where they are few, so that used and limit can be told apart.
func size(n int64) string {
	for _, u := range []struct {
		name string
		of   int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= 10*u.of || n >= u.of && n%u.of == 0 {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
