package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
)

// Record is an entry as it stands in the ledger.
type Record struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"` // entry | hashedrekord
	Position int64           `json:"position"`
	Actor    string          `json:"actor"`
	Action   string          `json:"action"`
	Subject  string          `json:"subject"`
	Time     time.Time       `json:"time"`
	Leaf     json.RawMessage `json:"leaf"`
	Hash     string          `json:"hash"` // RFC 6962 leaf hash, base64
}

// Filter selects records. Zero fields select all.
type Filter struct {
	Actor, Action, Subject string
	Before                 int64 // positions below this one; 0 means from the newest
	From                   int64 // positions at or above this one
	Limit                  int   // at most 500
	Ascending              bool
}

// List returns sequenced records, newest first unless ascending.
func (l *Log) List(ctx context.Context, f Filter) ([]Record, error) {
	where, args := []string{"position is not null"}, []any{}
	add := func(cond string, v any) { where, args = append(where, cond), append(args, v) }
	if f.Actor != "" {
		add("actor = ?", f.Actor)
	}
	if f.Action != "" {
		add("action = ?", f.Action)
	}
	if f.Subject != "" {
		add("subject = ?", f.Subject)
	}
	if f.Before > 0 {
		add("position < ?", f.Before)
	}
	if f.From > 0 {
		add("position >= ?", f.From)
	}
	if f.Limit <= 0 || f.Limit > 500 {
		f.Limit = 500
	}
	order := "desc"
	if f.Ascending {
		order = "asc"
	}
	args = append(args, f.Limit)
	rows, err := l.db.Query(ctx, "select id, kind, position, actor, action, subject, at, leaf from ledger_entry where "+
		strings.Join(where, " and ")+" order by position "+order+" limit ?", args...)
	return db.Collect(rows, err, scan)
}

func scan(r *sql.Rows) (Record, error) {
	var (
		rec  Record
		at   int64
		leaf string
	)
	err := r.Scan(&rec.ID, &rec.Kind, &rec.Position, &rec.Actor, &rec.Action, &rec.Subject, &at, &leaf)
	rec.Time, rec.Leaf = db.Time(at), json.RawMessage(leaf)
	rec.Hash = tlog.RecordHash([]byte(leaf)).String()
	return rec, err
}
