package secret

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// SharedTopic wakes servers that wait for keys of another.
const SharedTopic = "keys:shared"

// handedOut is how long the private halves of new keys stand in the database, sealed.
const handedOut = time.Hour

// Share puts new keys where the other servers of the installation find them, sealed under the key of the secrets, which all of them have. What was handed out before is
// not sealed again: its public part is brought up to date.
func (s *Store) Share(ctx context.Context, x evidence.Shared) error {
	shown, err := json.Marshal(x.Public)
	if err != nil {
		return err
	}
	private, err := json.Marshal(x.Private)
	if err != nil {
		return err
	}
	sealed := ""
	if len(x.Private) > 0 {
		sealed = base64.StdEncoding.EncodeToString(s.seal.Seal(nil, nil, private, sharedBound(x.Kind, x.Number)))
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		tx.Wake(SharedTopic)
		_, err := tx.Exec(ctx, `insert into shared_key (org, kind, number, shown, sealed, changed) values ('default', ?, ?, ?, ?, ?)
			on conflict (org, kind, number) do update set shown = excluded.shown`, x.Kind, x.Number, string(shown), sealed, db.Micros(s.now()))
		if err != nil {
			return fmt.Errorf("share generation %d of %s keys: %w", x.Number, x.Kind, err)
		}
		return nil
	})
}

// Shared lists what servers have shared, the oldest generation of each kind first, and stops handing out what is old.
func (s *Store) Shared(ctx context.Context) ([]evidence.Shared, error) {
	old := db.Micros(s.now().Add(-handedOut))
	var n int
	if err := s.db.QueryRow(ctx, "select count(*) from shared_key where sealed <> '' and changed < ?", old).Scan(&n); err != nil {
		return nil, err
	}
	if n > 0 {
		if err := s.db.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "update shared_key set sealed = '' where changed < ?", old)
			return err
		}); err != nil {
			return nil, err
		}
	}
	rows, err := s.db.Query(ctx, "select kind, number, shown, sealed from shared_key where org = 'default' order by kind, number")
	type row struct {
		evidence.Shared
		shown, sealed string
	}
	all, err := db.Collect(rows, err, func(r *sql.Rows) (x row, err error) { return x, r.Scan(&x.Kind, &x.Number, &x.shown, &x.sealed) })
	if err != nil {
		return nil, fmt.Errorf("list shared keys: %w", err)
	}
	out := make([]evidence.Shared, 0, len(all))
	for _, x := range all {
		if err := json.Unmarshal([]byte(x.shown), &x.Public); err != nil {
			return nil, fmt.Errorf("read generation %d of %s keys: %w", x.Number, x.Kind, err)
		}
		if x.sealed != "" {
			raw, err := base64.StdEncoding.DecodeString(x.sealed)
			if err == nil {
				raw, err = s.seal.Open(nil, nil, raw, sharedBound(x.Kind, x.Number))
			}
			if err != nil {
				return nil, fault.New(fault.Conflict, "Another server has made new keys (generation %d of %s) that this one cannot open: the file keys/secret.key is not the same here. Copy it from there, or the new keys themselves.", x.Number, x.Kind)
			}
			if err := json.Unmarshal(raw, &x.Private); err != nil {
				return nil, fmt.Errorf("read generation %d of %s keys: %w", x.Number, x.Kind, err)
			}
		}
		out = append(out, x.Shared)
	}
	return out, nil
}

func sharedBound(kind string, number int) []byte {
	return fmt.Appendf(nil, "weir shared keys v1\x00%s\x00%d", kind, number)
}
