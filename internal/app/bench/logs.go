package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/db/sqlite"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/logs/logdb"
)

// ingest writes 200 MB of log with twenty secrets to mask, and seals it: the way of a job's output from the pipe to the blob store.
func ingest(ctx context.Context, _ string, t *table) (err error) {
	folder, err := os.MkdirTemp("", "weir-bench-logs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	d, err := sqlite.Open(ctx, &url.URL{Scheme: "sqlite", Path: filepath.Join(folder, "weir.db")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := logdb.Migrate(ctx, d); err != nil {
		return err
	}
	blobs, err := dir.Open(filepath.Join(folder, "blobs"))
	if err != nil {
		return err
	}
	l := logs.New(filepath.Join(folder, "logs")).Archive(blobs, logdb.New(d))
	w, err := l.Create("run_1", "job_1", 1)
	if err != nil {
		return err
	}
	for i := range 20 {
		w.Mask(fmt.Sprintf("secret-%d-with-some-length", i))
	}
	var block strings.Builder
	for i := range 400 {
		fmt.Fprintf(&block, "%04d compile internal/package/of/some/depth: ok in 0.%03ds, s3 upload of sec-%d\n", i, i, i)
	}
	chunk := []byte(block.String())
	const total = 200 << 20
	began := time.Now()
	sealed := make(chan error, 1)
	sealing, stop := context.WithCancel(ctx)
	defer stop()
	go func() { sealed <- l.Run(sealing) }()
	for n := 0; n < total; n += len(chunk) {
		_, _ = w.Write(chunk)
	}
	if err := w.Close(pipeline.Success); err != nil {
		return err
	}
	written := time.Since(began)
	stop()
	<-sealed
	if err := l.Seal(ctx); err != nil {
		return err
	}
	all := time.Since(began)
	t.add("log_mb_per_s", total/1e6/written.Seconds(), "MB/s masked, written", 100)
	t.add("log_sealed_mb_per_s", total/1e6/all.Seconds(), "MB/s until all is compressed and stored", 0)
	began = time.Now()
	m, err := l.Search(ctx, pipeline.LogRef{Run: "run_1", Job: "job_1", Attempt: 1}, pipeline.LogQuery{Text: "no such words"})
	if err != nil || len(m.Matches) > 0 {
		return errors.Join(err, fmt.Errorf("%d matches", len(m.Matches)))
	}
	t.add("log_search_mb_per_s", total/1e6/time.Since(began).Seconds(), "MB/s", 0)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.add("log_heap_mb", float64(mem.HeapSys-mem.HeapReleased)/1e6, "MB after it", 0)
	return nil
}
