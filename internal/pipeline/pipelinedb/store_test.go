package pipelinedb_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/pipelinedb"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, d *db.DB) *pipelinedb.Store {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, pipelinedb.Migrate, pipelinedb.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return pipelinedb.New(d, journal.New(d), nil)
}

func sample(rev, change string, patchset int) pipeline.Run {
	r := pipeline.Run{ID: pipeline.RunID(id.New("run")), Org: "default", RepositoryID: "repo_1", Repository: "shop", Workflow: "ci.yml", Name: "CI", Title: "title", Event: "push",
		Ref: "refs/heads/main", Base: "b", Revision: rev, Trust: pipeline.Landed, ChangeID: change, Patchset: patchset, Actor: "ann", State: pipeline.Pending, Attempt: 1, Created: now,
		Diagnostics: []pipeline.Diagnostic{{File: "ci.yml", Line: 1, Col: 2, Severity: pipeline.Warning, Message: "m"}},
		GitHub:      map[string]any{"ref": "x"}}
	if change != "" {
		r.Trust = pipeline.Change
	}
	for _, k := range []string{"a", "b"} {
		r.Plan.Jobs = append(r.Plan.Jobs, pipeline.JobPlan{Key: k, JobID: k, Steps: []pipeline.StepPlan{{Run: "true"}}})
		r.Jobs = append(r.Jobs, pipeline.Job{ID: pipeline.JobID(id.New("job")), Key: k, State: pipeline.Waiting, Since: now, Rev: 1})
	}
	return r
}

func create(t *testing.T, s *pipelinedb.Store, r pipeline.Run) pipeline.Run {
	t.Helper()
	if created, err := s.Create(t.Context(), r); err != nil || !created {
		t.Fatalf("Create() = %v, %v", created, err)
	}
	return load(t, s, r.ID)
}

func load(t *testing.T, s *pipelinedb.Store, id pipeline.RunID) pipeline.Run {
	t.Helper()
	r, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARunComesBackAsItWasStored(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		r := sample("r1", "", 0)
		got := create(t, s, r)
		r.Version = 1
		if !reflect.DeepEqual(got, r) {
			t.Errorf("loaded %+v\nwant   %+v", got, r)
		}
		next, _ := got.Next(now, pipeline.Language{})
		next, _ = next.Claim(now, 1, 7, func(int) bool { return true })
		next, ok := next.Finish(now.Add(time.Second), next.Jobs[0].ID, 1, 7, pipeline.Result{State: pipeline.Success, Outputs: map[string]string{"o": "1"}, Confined: true, Network: "egress",
			Steps: []pipeline.Step{{Number: 1, Name: "s", State: pipeline.Success, Started: now}}, Annotations: []pipeline.Annotation{{Level: "error", Message: "x"}}, Summary: "# s"})
		if !ok {
			t.Fatal("not finished")
		}
		if err := s.Save(t.Context(), nil, got, next); err != nil {
			t.Fatal(err)
		}
		next.Version = 2
		if again := load(t, s, r.ID); !reflect.DeepEqual(again, next) {
			t.Errorf("loaded %+v\nwant   %+v", again, next)
		}
	})
}

func TestOneRunPerRevisionWorkflowTrustAndChange(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		create(t, s, sample("r1", "", 0))
		if created, err := s.Create(t.Context(), sample("r1", "", 0)); err != nil || created {
			t.Errorf("a second Create() = %v, %v; want false", created, err)
		}
		create(t, s, sample("r1", "chg_1", 1))
		create(t, s, sample("r2", "", 0))
	})
}

func TestSaveRefusesAStaleRunAndALostLease(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		r := create(t, s, sample("r1", "", 0))
		next, _ := r.Next(now, pipeline.Language{})
		if err := s.Save(t.Context(), func(context.Context, *db.Tx) error { return lease.ErrFenced }, r, next); !errors.Is(err, lease.ErrFenced) {
			t.Errorf("fenced Save() = %v", err)
		}
		if err := s.Save(t.Context(), nil, r, next); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context(), nil, r, next); !errors.Is(err, pipeline.ErrChanged) {
			t.Errorf("stale Save() = %v; want ErrChanged", err)
		}
	})
}

func TestANewerPatchsetAsksOlderRunsToStop(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		old, other := create(t, s, sample("r1", "chg_1", 1)), create(t, s, sample("r1", "chg_2", 1))
		create(t, s, sample("r2", "chg_1", 2))
		if r := load(t, s, old.ID); r.Cancel == nil || !strings.Contains(r.Cancel.Reason, "patchset 2") || r.Version != 2 {
			t.Errorf("older run: cancel %+v, version %d", r.Cancel, r.Version)
		}
		if r := load(t, s, other.ID); r.Cancel != nil {
			t.Error("the run of another change was stopped")
		}
		refs, err := s.Active(t.Context())
		if err != nil || len(refs) != 3 || refs[0].ID != old.ID {
			t.Errorf("Active() = %v, %v", refs, err)
		}
	})
}

func TestListPagesFromTheNewest(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		var ids []pipeline.RunID
		for _, rev := range []string{"r1", "r2", "r3"} {
			ids = append(ids, create(t, s, sample(rev, "", 0)).ID)
		}
		first, err := s.List(t.Context(), pipeline.Filter{Org: "default", RepositoryID: "repo_1", Limit: 2})
		if err != nil || len(first) != 2 || first[0].ID != ids[2] {
			t.Fatalf("List() = %v, %v", first, err)
		}
		rest, err := s.List(t.Context(), pipeline.Filter{Org: "default", Before: first[1].ID})
		if err != nil || len(rest) != 1 || rest[0].ID != ids[0] {
			t.Errorf("List(before) = %v, %v", rest, err)
		}
		if none, err := s.List(t.Context(), pipeline.Filter{Org: "other"}); err != nil || len(none) != 0 {
			t.Errorf("another organisation sees %d runs", len(none))
		}
		if _, err := s.Load(t.Context(), "run_x"); !fault.Is(err, fault.NotFound) {
			t.Errorf("Load() of nothing = %v", err)
		}
	})
}

func TestArtifactsBelongToTheirJob(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		r := create(t, s, sample("r1", "", 0))
		put := func(job pipeline.JobID, digest string, overwrite bool) error {
			return s.PutArtifact(t.Context(), "default", r.ID, pipeline.Artifact{Name: "dist", JobID: job, Digest: blob.Digest(digest), Size: 1, Created: now}, overwrite)
		}
		if err := errors.Join(put("job_1", "one", false), put("job_1", "two", false)); err != nil {
			t.Fatal(err) // a second attempt uploads again
		}
		if err := put("job_2", "three", false); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "overwrite: true") {
			t.Errorf("another job's upload = %v", err)
		}
		if err := put("job_2", "four", true); err != nil {
			t.Fatal(err)
		}
		all, err := s.Artifacts(t.Context(), r.ID)
		if err != nil || len(all) != 1 || all[0].Digest != "four" || !all[0].Created.Equal(now) {
			t.Errorf("Artifacts() = %+v, %v", all, err)
		}
	})
}

func TestCachesAreFoundByScopeThenPrefixThenAge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for i, c := range []struct{ scope, key, digest string }{
			{"landed", "go-1", "l1"}, {"landed", "go-2", "l2"}, {"chg_1", "go-9", "evil"}, {"landed", "GO-3", "upper"}, {"landed", "go-1", "ignored"}, {"landed", "g%_x", "odd"},
		} {
			if err := s.PutCache(t.Context(), "default", "repo_1", c.scope, c.key, blob.Digest(c.digest), 1, now.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			scopes   []string
			key      string
			prefixes []string
			want     string
		}{
			{[]string{"landed"}, "go-1", nil, "l1"},
			{[]string{"landed"}, "go-x", []string{"go-"}, "l2"},
			{[]string{"landed"}, "none", []string{"%", "g%"}, "odd"},
			{[]string{"chg_1", "landed"}, "go-1", nil, "l1"},
			{[]string{"chg_1", "landed"}, "go-x", []string{"go-"}, "evil"},
			{[]string{"chg_2"}, "go-1", []string{"go-"}, ""},
		} {
			_, d, err := s.FindCache(t.Context(), "default", "repo_1", c.scopes, c.key, c.prefixes)
			if err != nil || string(d) != c.want {
				t.Errorf("FindCache(%v, %s, %v) = %s, %v; want %s", c.scopes, c.key, c.prefixes, d, err, c.want)
			}
		}
	})
}

func TestTheSameRevisionUnderANewBaseRunsAgainAndOnlyOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		create(t, s, sample("r1", "change_1", 1))
		moved := sample("r1", "change_1", 2)
		moved.Base = "b2"
		create(t, s, moved)
		again := sample("r1", "change_1", 2)
		again.Base = "b2"
		if created, err := s.Create(t.Context(), again); err != nil || created {
			t.Errorf("Create() = %v, %v; want no second run under the same base", created, err)
		}
	})
}

// A run may get jobs while it is read.
func TestARunIsReadWithAPlanForEachOfItsJobs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		r := create(t, s, sample("r1", "", 0))
		grown := make(chan error)
		go func() {
			for range 60 {
				if err := s.Update(t.Context(), r.ID, pipeline.Entry{Actor: "a", Action: "b", Subject: string(r.ID)}, func(r pipeline.Run) (pipeline.Run, error) {
					k := id.New("k")
					r.Plan.Rev++
					r.Plan.Jobs = append(r.Plan.Jobs, pipeline.JobPlan{Key: k, JobID: k})
					r.Jobs = append(r.Jobs, pipeline.Job{ID: pipeline.JobID(id.New("job")), Key: k, State: pipeline.Waiting, Since: now, Rev: 1})
					return r, nil
				}); err != nil {
					grown <- err
					return
				}
			}
			close(grown)
		}()
		for {
			select {
			case err := <-grown:
				if r := load(t, s, r.ID); err != nil || len(r.Jobs) != 62 || len(r.Plan.Jobs) != 62 {
					t.Errorf("%d jobs and %d plans in the end, %v; want 62", len(r.Jobs), len(r.Plan.Jobs), err)
				}
				return
			default:
				if r := load(t, s, r.ID); len(r.Jobs) > len(r.Plan.Jobs) {
					t.Fatalf("%d jobs and %d plans", len(r.Jobs), len(r.Plan.Jobs))
				}
			}
		}
	})
}
