package engine_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/engine"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner/local"
)

// pointers are where the trunk and tags of the one repository are.
type pointers struct {
	head string
	tags map[string]string
}

func (p *pointers) Trunk(context.Context, string) (string, string, error) {
	return "refs/heads/main", p.head, nil
}

func (p *pointers) Tag(_ context.Context, _, name string) (string, error) {
	if at := p.tags[name]; at != "" {
		return at, nil
	}
	return "", fault.New(fault.NotFound, "There is no tag %s.", name)
}

func (p *pointers) Repository(_ context.Context, name string) (string, string, error) {
	if name != "shop" {
		return "", "", fault.New(fault.NotFound, "There is no repository %s.", name)
	}
	return "repo_1", "shop", nil
}

type given struct{ vars, secrets map[string]string }

func (g given) Vars(context.Context, string, string) (map[string]string, error) { return g.vars, nil }
func (g given) Secrets(_ context.Context, _, environment string) (map[string]string, error) {
	all := maps.Clone(g.secrets)
	if environment != "" {
		all["WHERE"] = environment
	}
	return all, nil
}

const manual = `on:
  push: {branches: [main], tags: ['v*', '!v0*']}
  schedule: [{cron: '*/5 * * * *'}]
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [low, high], default: low}
      count: {type: number, required: true}
      dry: {type: boolean}
jobs:
  a:
    if: inputs.level != 'skip' && vars.REGION == 'eu'
    runs-on: x
    environment: production
    steps:
      - run: |
          echo "secret is ${{ secrets.token }} in ${{ secrets.WHERE }}"
          echo "level ${{ inputs.level }} ${{ github.event.inputs.count }} ${{ inputs.count == 3 }} ${{ inputs.dry }}"
`

func TestRunsStartByTagByHandAndBySchedule(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		real, err := local.New(local.Config{Data: t.TempDir(), Network: confine.None})
		if err != nil {
			t.Fatal(err)
		}
		w.real = real
		w.refs = &pointers{head: "r1", tags: map[string]string{"v1": "r1", "v0.1": "r1"}}
		w.schedules = &pipelinedb.Schedules{DB: d}
		w.settings = given{map[string]string{"REGION": "eu"}, map[string]string{"TOKEN": "hunter2hunter2"}}
		w.repo["r1"] = map[string]string{file: manual}
		defer w.start(w.rows)()
		w.push("", "r1")
		w.until("the push", ended(1))
		w.fact("source.pushed", map[string]any{"repository_id": "repo_1", "repository": "shop", "ref": "refs/tags/v0.1", "old": "", "new": "tagobject", "actor": "ada"})
		w.fact("source.pushed", map[string]any{"repository_id": "repo_1", "repository": "shop", "ref": "refs/tags/v1", "old": "", "new": "tagobject", "actor": "ada"})
		runs := w.until("the tag", ended(2))
		if runs[0].Ref != "refs/tags/v1" || runs[0].Revision != "r1" || runs[0].Trust != pipeline.Landed || runs[0].GitHub["ref_type"] != "tag" {
			t.Errorf("run of the tag: %+v", runs[0])
		}
		s := w.service()
		s.Dispatch = w.engine.Dispatch
		start := func(r pipeline.StartRequest) (pipeline.Run, error) {
			r.Repository, r.By = "shop", "ada"
			return s.Start(t.Context(), r)
		}
		for want, r := range map[string]pipeline.StartRequest{
			"needs the input count (number)":    {Workflow: "ci.yml"},
			"is a number":                       {Workflow: "ci", Inputs: map[string]string{"count": "x"}},
			"is one of low, high":               {Workflow: "ci", Inputs: map[string]string{"count": "1", "level": "max"}},
			"has no input nope; it has":         {Workflow: "ci", Inputs: map[string]string{"count": "1", "nope": "1"}},
			"There is no workflow none":         {Workflow: "none"},
			"There is no tag x, and runs start": {Workflow: "ci", Ref: "x"},
			"is a boolean; \"maybe\" is none":   {Workflow: "ci", Inputs: map[string]string{"count": "1", "dry": "maybe"}},
		} {
			if _, err := start(r); err == nil || !strings.Contains(fault.Sentence(err), want) {
				t.Errorf("start %+v: %v; want %q", r, err, want)
			}
		}
		for range 2 {
			if _, err := start(pipeline.StartRequest{Workflow: "ci", Ref: "v1", Inputs: map[string]string{"count": "3", "level": "high"}}); err != nil {
				t.Fatal(err)
			}
		}
		runs = w.until("the runs by hand", ended(4))
		if runs[0].State != pipeline.Success {
			t.Fatalf("runs: %s", show(runs))
		}
		var out strings.Builder
		in, err := s.Log(t.Context(), runs[0].ID, "a", 0, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&out, in); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "level high 3 true false") || !strings.Contains(got, "secret is *** in ***") || strings.Contains(got, "hunter2") {
			t.Errorf("log: %s", got)
		}
		all, err := w.schedules.All(t.Context())
		if err != nil || len(all) != 1 || all[0].Cron != "*/5 * * * *" || all[0].Workflow != file {
			t.Errorf("schedules %+v, %v", all, err)
		}
	})
}

func TestTimesThatWereSleptThroughAreNotMadeUp(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	all := []pipeline.Schedule{{Cron: "*/5 * * * *"}, {Cron: "0 6 * * *", Zone: "Europe/Berlin"}, {Cron: "0 0 30 2 *"}}
	for _, c := range []struct {
		from, now, next string
		due             []string
	}{
		{"2026-11-23T04:57:30Z", "2026-11-23T04:58:00Z", "2026-11-23T05:00:00Z", nil},
		{"2026-11-23T04:59:30Z", "2026-11-23T05:00:00Z", "2026-11-23T05:05:00Z", []string{"*/5 * * * *", "0 6 * * *"}},
		{"2026-11-23T01:00:00Z", "2026-11-23T05:02:00Z", "2026-11-23T05:05:00Z", nil},
		{"2026-11-23T01:00:00Z", "2026-11-23T05:00:20Z", "2026-11-23T05:05:00Z", []string{"*/5 * * * *", "0 6 * * *"}},
	} {
		due, next := engine.Due(all, at(c.from), at(c.now))
		var got []string
		for _, d := range due {
			got = append(got, d.Cron)
		}
		if !slices.Equal(got, c.due) || !next.Equal(at(c.next)) {
			t.Errorf("%s to %s: due %v, next %s; want %v, %s", c.from, c.now, got, fmt.Sprint(next), c.due, c.next)
		}
	}
}

// A change runs without secrets, whoever wrote its workflow.
func TestAChangeGetsNoSecrets(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	real, err := local.New(local.Config{Data: t.TempDir(), Network: confine.None})
	if err != nil {
		t.Fatal(err)
	}
	w.real = real
	w.settings = given{nil, map[string]string{"TOKEN": "hunter2hunter2"}}
	w.repo["main"] = map[string]string{file: "on: pull_request\njobs:\n  a: {runs-on: x, steps: [{run: 'test -z \"${{ secrets.TOKEN }}\"'}]}\n"}
	w.repo["p1"] = map[string]string{"a": "1"}
	defer w.start(w.rows)()
	w.change("main", "p1", 1)
	if runs := w.until("the end", ended(1)); runs[0].State != pipeline.Success {
		t.Errorf("runs: %s", show(runs))
	}
}
