package db

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// Known tells which of some values a query finds. The query asks for one value at a time, with a placeholder for it at each place.
func Known[T ~string](ctx context.Context, q Querier, query string, some []T) (map[T]bool, error) {
	known := map[T]bool{}
	for _, v := range some {
		args := make([]any, strings.Count(query, "?"))
		for i := range args {
			args[i] = string(v)
		}
		var found string
		err := q.QueryRow(ctx, query+" limit 1", args...).Scan(&found)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		known[v] = err == nil
	}
	return known, nil
}
