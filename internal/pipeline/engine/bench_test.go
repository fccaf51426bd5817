package engine_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/engine"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner/local"
)

func TestMain(m *testing.M) {
	confine.Main()
	os.Exit(m.Run())
}

// BenchmarkRun100Jobs is one run of 100 jobs of one step through engine, SQLite, logs and confinement, two at a time; Floor is
// the same work without Weir: a workspace and a sandbox for each.
func BenchmarkRun100Jobs(b *testing.B) {
	jobs := 100
	if n, err := strconv.Atoi(os.Getenv("WEIR_BENCH_JOBS")); err == nil {
		jobs = n
	}
	b.Run("floor", func(b *testing.B) {
		data := b.TempDir()
		for b.Loop() {
			work := make(chan int)
			done := make(chan error, 2)
			for range 2 {
				go func() {
					var err error
					for i := range work {
						if e := floor(fmt.Sprintf("%s/%d", data, i)); e != nil {
							err = e
						}
					}
					done <- err
				}()
			}
			for i := range jobs {
				work <- i
			}
			close(work)
			for range 2 {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("weir", func(b *testing.B) {
		d := dbtest.SQLite(b)
		for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, pipelinedb.Migrate} {
			if err := migrate(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
		j := journal.New(d)
		rows := pipelinedb.New(d, j, nil)
		data := b.TempDir()
		r, err := local.New(local.Config{Data: data})
		if err != nil {
			b.Fatal(err)
		}
		blobs, err := dir.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		repo := repository{"r0": {}}
		var text strings.Builder
		text.WriteString("on: push\njobs:\n")
		for i := range jobs {
			fmt.Fprintf(&text, "  j%d: {runs-on: x, steps: [{run: 'true'}]}\n", i)
		}
		e := engine.New(engine.Config{Slots: 2}, engine.Parts{DB: d, Journal: j, Store: rows, Keeper: engine.Keeper{Blobs: blobs, Rows: rows}, Repository: repo,
			Checks: &checks{last: map[string]string{}}, Runner: r, Logs: logs.New(b.TempDir())})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{}, 2)
		go func() { _ = j.Sequence(ctx, "bench"); done <- struct{}{} }()
		go func() { _ = e.Run(ctx); done <- struct{}{} }()
		n := 0
		for b.Loop() {
			n++
			rev := fmt.Sprintf("r%d", n)
			repo[rev] = map[string]string{file: text.String()}
			body := fmt.Sprintf(`{"repository_id":"repo_1","repository":"shop","ref":"refs/heads/main","new":%q,"landed":true}`, rev)
			if err := d.Write(ctx, func(tx *db.Tx) error {
				return j.Append(ctx, tx, journal.Fact{Type: "source.pushed", Subject: "repo_1", Body: []byte(body)})
			}); err != nil {
				b.Fatal(err)
			}
			for {
				runs, err := rows.List(ctx, pipeline.Filter{Org: "default", Revision: rev})
				if err != nil {
					b.Fatal(err)
				}
				if len(runs) == 1 && runs[0].State.Done() {
					if runs[0].State != pipeline.Success {
						b.Fatalf("run %s: %s", runs[0].State, runs[0].Reason)
					}
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		cancel()
		<-done
		<-done
	})
}

func floor(dir string) error {
	if err := os.MkdirAll(dir+"/home", 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/script", []byte("true"), 0o700); err != nil {
		return err
	}
	box, err := confine.Open(context.Background(), confine.Spec{Dir: dir, Network: confine.Egress})
	if err != nil {
		return err
	}
	defer box.Close()
	p, err := box.Start(confine.Cmd{Argv: []string{"bash", "-e", dir + "/script"}, Env: []string{"PATH=/usr/bin:/bin"}})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}
