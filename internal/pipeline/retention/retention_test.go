package retention_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/logs/logdb"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/retention"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

type world struct {
	c       *retention.Collector
	logs    *logs.Dir
	entries []pipeline.Entry
}

func open(t *testing.T, d *db.DB) *world {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, pipelinedb.Migrate, logdb.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{}
	store := func() blob.Store {
		b, err := dir.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	w.c = &retention.Collector{DB: d, Rows: pipelinedb.New(d, journal.New(d), nil), Logs: logdb.New(d), Blobs: store(), LogBlobs: store(),
		Rules: pipeline.Retention{Logs: 90 * 24 * time.Hour, Artifacts: 30 * 24 * time.Hour, Releases: 400 * 24 * time.Hour, Newest: 2}, Now: func() time.Time { return now },
		Ledger: func(_ context.Context, _ *db.Tx, e pipeline.Entry) error {
			w.entries = append(w.entries, e)
			return nil
		}}
	w.logs = logs.New(t.TempDir()).Archive(w.c.LogBlobs, w.c.Logs)
	return w
}

// run makes a run that ended some days ago, with a log and an artifact. Its id grows with its youth.
func (w *world) run(t *testing.T, workflow string, days int, release bool) pipeline.Run {
	t.Helper()
	at := now.Add(-time.Duration(days) * 24 * time.Hour)
	id := pipeline.RunID(fmt.Sprintf("run_%05d%s", 10000-days, strings.TrimSuffix(workflow, ".yml")))
	key := "test"
	if release {
		key = "release-shop"
	}
	r := pipeline.Run{ID: id, Org: "default", RepositoryID: "repo_1", Workflow: workflow, Revision: string(id), Event: "push", Trust: pipeline.Landed, State: pipeline.Success, Attempt: 1, Created: at, Started: at, Finished: at,
		Plan: pipeline.Plan{Jobs: []pipeline.JobPlan{{Key: key, JobID: key}}}, Jobs: []pipeline.Job{{ID: pipeline.JobID("job_" + strings.TrimPrefix(string(id), "run_")), Key: key, State: pipeline.Success, Since: at, Rev: 1}}}
	if ok, err := w.c.Rows.Create(t.Context(), r); err != nil || !ok {
		t.Fatalf("Create() = %v, %v", ok, err)
	}
	out, err := w.logs.Create(id, r.Jobs[0].ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(out, "hello from", id)
	out.Close(pipeline.Success)
	digest, size, err := w.c.Blobs.Put(t.Context(), strings.NewReader("artifact of "+string(id)))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.Rows.PutArtifact(t.Context(), "default", id, pipeline.Artifact{Name: "dist", JobID: r.Jobs[0].ID, Digest: digest, Size: size, Created: at}, false); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsPastItsTimeGoesSaveTheNewestAndReleases(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		gone := w.run(t, "ci.yml", 200, false)
		half := w.run(t, "ci.yml", 60, false) // its artifact is past its time, its log is not
		w.run(t, "ci.yml", 50, false)
		w.run(t, "ci.yml", 1, false)
		rare := w.run(t, "rare.yml", 300, false) // old, but among the newest of its workflow
		built := w.run(t, "build.yml", 350, true)
		w.run(t, "build.yml", 340, false)
		w.run(t, "build.yml", 3, false)
		if err := w.logs.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Sealed now; as old as their runs for this test.
		if err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), "update pipeline_log set sealed = 1")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		dry, err := w.c.Collect(t.Context(), "ann", true)
		if err != nil || !dry.DryRun || dry.Logs != 1 || dry.Artifacts != 2 || dry.LogBytes == 0 || dry.Oldest != gone.ID || dry.Newest != half.ID || len(w.entries) != 0 {
			t.Fatalf("a dry run says %+v, %v, with %d entries", dry, err, len(w.entries))
		}
		if _, err := w.logs.Open(gone.ID, gone.Jobs[0].ID, 1, 0); err != nil {
			t.Fatalf("a dry run removed a log: %v", err)
		}
		real, err := w.c.Collect(t.Context(), "ann", false)
		dry.DryRun = false
		if err != nil || real != dry || len(w.entries) != 2 || w.entries[0].Actor != "ann" || w.entries[0].Action != "pipeline.garbage_removed" {
			t.Fatalf("removed %+v, %v; the dry run said %+v; entries %+v", real, err, dry, w.entries)
		}
		if _, err := w.logs.Open(gone.ID, gone.Jobs[0].ID, 1, 0); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "as the retention of logs says") {
			t.Errorf("the log is %v", err)
		}
		for _, r := range []pipeline.Run{half, rare, built} {
			if in, err := w.logs.Open(r.ID, r.Jobs[0].ID, 1, 0); err != nil {
				t.Errorf("the log of %s is gone: %v", r.ID, err)
			} else {
				in.Close()
			}
		}
		for r, want := range map[pipeline.RunID]int{gone.ID: 0, half.ID: 0, rare.ID: 1, built.ID: 1} {
			if all, err := w.c.Rows.Artifacts(t.Context(), r); err != nil || len(all) != want {
				t.Errorf("%s has %d artifacts, %v; want %d", r, len(all), err, want)
			}
		}
		if again, err := w.c.Collect(t.Context(), "ann", false); err != nil || !again.Nothing() || len(w.entries) != 2 {
			t.Errorf("again it removes %+v, %v", again, err)
		}
	})
}

func TestBytesThatSomethingStillNeedsStay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		w.c.Rules.Newest = 0
		old := w.run(t, "ci.yml", 200, false)
		other := w.run(t, "ci.yml", 201, false)
		all, err := w.c.Rows.Artifacts(t.Context(), old.ID)
		if err != nil {
			t.Fatal(err)
		}
		shared := all[0].Digest
		if err := w.c.Rows.PutCache(t.Context(), "default", "repo_1", "landed", "key", shared, 1, now); err != nil {
			t.Fatal(err)
		}
		alone, err := w.c.Rows.Artifacts(t.Context(), other.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{now, now.Add(2 * time.Hour)} {
			w.c.Now = func() time.Time { return at }
			if _, err := w.c.Collect(t.Context(), "ann", false); err != nil {
				t.Fatal(err)
			}
			if _, err := w.c.Blobs.Stat(t.Context(), shared); err != nil {
				t.Errorf("the bytes of a cache are gone: %v", err)
			}
			if _, err := w.c.Blobs.Stat(t.Context(), alone[0].Digest); fault.Is(err, fault.NotFound) != at.After(now) {
				t.Errorf("at %v the bytes of a removed artifact are %v", at, err)
			}
		}
	})
}
