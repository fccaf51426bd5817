package app

import (
	"context"
	"time"

	"weir/internal/artifact/artifactdb"
	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs/logdb"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/retention"
)

// retention removes what the configuration no longer keeps.
func (s *System) retention(rows *pipelinedb.Store, artifacts, logs, registry blob.Store) *retention.Collector {
	days := func(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }
	keep := s.Config.Keep
	return &retention.Collector{DB: s.db, Rows: rows, Logs: logdb.New(s.db), Blobs: artifacts, LogBlobs: logs, Holder: s.data.holder(),
		Others: []retention.Share{{Name: "registry", Blobs: registry, Known: artifactdb.Registry{DB: s.db}.Known}},
		Rules:  pipeline.Retention{Logs: days(keep.Logs), Artifacts: days(keep.Artifacts), Releases: days(keep.Releases), Newest: keep.Newest},
		Ledger: func(ctx context.Context, tx *db.Tx, e pipeline.Entry) error {
			return s.append(ctx, tx, e.Actor, e.Action, e.Subject, e.Data)
		}}
}
