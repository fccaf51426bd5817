package pipelinedb_test

import (
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/pipeline"
)

func TestRunsAreFilteredByWhatTheyRan(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		a := sample("r1", "", 0)
		a.Workflow, a.Ref, a.Actor = ".github/workflows/ci.yml", "refs/heads/main", "ann"
		b := sample("r2", "", 0)
		b.Workflow, b.Ref, b.Actor, b.State = ".github/workflows/nightly.yml", "refs/heads/x", "bob", pipeline.Failure
		create(t, s, a)
		create(t, s, b)
		for _, c := range []struct {
			f    pipeline.Filter
			want pipeline.RunID
		}{
			{pipeline.Filter{Workflow: "ci.yml"}, a.ID}, {pipeline.Filter{Workflow: ".github/workflows/nightly.yml"}, b.ID}, {pipeline.Filter{Branch: "main"}, a.ID},
			{pipeline.Filter{Branch: "refs/heads/x"}, b.ID}, {pipeline.Filter{State: pipeline.Failure}, b.ID}, {pipeline.Filter{Actor: "ann"}, a.ID}, {pipeline.Filter{Actor: "ann", State: pipeline.Failure}, ""},
		} {
			c.f.Org = "default"
			got, err := s.List(t.Context(), c.f)
			if err != nil || len(got) > 1 || (len(got) == 1) != (c.want != "") || len(got) == 1 && got[0].ID != c.want {
				t.Errorf("List(%+v) = %d runs, %v; want %q", c.f, len(got), err, c.want)
			}
		}
	})
}
