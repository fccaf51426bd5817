package engine_test

import (
	"strings"
	"testing"

	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner/local"
	"weir/internal/pipeline/spec"
)

const calling = `on: push
jobs:
  list:
    runs-on: x
    outputs: {names: '${{ steps.s.outputs.names }}'}
    steps: [{id: s, run: 'echo ''names=["a","b"]'' >> $GITHUB_OUTPUT'}]
  each:
    needs: list
    strategy: {matrix: {name: '${{ fromJSON(needs.list.outputs.names) }}'}}
    runs-on: x
    steps: [{run: 'test -n "${{ matrix.name }}"'}]
  deploy:
    needs: [list, each]
    uses: ./.github/workflows/deploy.yml
    with: {names: '${{ needs.list.outputs.names }}', times: 2}
  after:
    needs: deploy
    runs-on: x
    steps: [{run: 'test "${{ needs.deploy.outputs.url }}" = https://a.2.true'}]
  never:
    if: false
    uses: ./.github/workflows/deploy.yml
    with: {names: x, times: 1}
`

const called = `on:
  workflow_call:
    inputs:
      names: {type: string, required: true}
      times: {type: number, required: true}
      loud: {type: boolean, default: true}
    outputs:
      url: {value: '${{ jobs.b.outputs.url }}'}
env: {WHO: called}
jobs:
  a:
    runs-on: x
    outputs: {first: '${{ steps.s.outputs.first }}'}
    steps: [{id: s, run: 'test $WHO = called; echo first=${{ fromJSON(inputs.names)[0] }} >> $GITHUB_OUTPUT'}]
  b:
    needs: a
    runs-on: x
    outputs: {url: '${{ steps.s.outputs.url }}'}
    steps: [{id: s, run: 'echo url=https://${{ needs.a.outputs.first }}.${{ inputs.times }}.${{ inputs.loud }} >> $GITHUB_OUTPUT'}]
`

// Jobs that depend on what ran before, and those of called workflows, are made during the run, also when the engine restarts.
func TestGroupsMakeTheirJobsDuringTheRun(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		real, err := local.New(local.Config{Data: t.TempDir(), Network: confine.None})
		if err != nil {
			t.Fatal(err)
		}
		w.real = real
		w.repo["r1"] = map[string]string{file: calling, ".github/workflows/deploy.yml": called}
		defer w.start(w.rows)()
		w.push("", "r1")
		runs := w.until("the end", ended(1))
		want := "list=success/1 each=success/0 deploy=success/0 after=success/1 never=skipped/0 each-1=success/1 each-2=success/1 deploy/a=success/1 deploy/b=success/1"
		if got := show(runs); runs[0].State != pipeline.Success || !strings.Contains(got, want) {
			t.Fatalf("runs: %s\nwant %s", got, want)
		}
		w.checked("r1 ci.yml/each", "success")
		w.checked("r1 ci.yml/deploy", "success")
		w.checked("r1 ci.yml/deploy/b", "success")
		w.checked("r1 ci.yml/never", "skipped")
	})
}

func TestAFailedJobOfAGroupFailsItAndRunsAgain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: "on: push\njobs:\n  call:\n    uses: ./.github/workflows/sub.yml\n",
		".github/workflows/sub.yml": "on: workflow_call\njobs:\n  good: {runs-on: x, steps: [{run: ok}]}\n  bad: {runs-on: x, steps: [{run: fail}]}\n"}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the end", ended(1))
	if got := show(runs); runs[0].State != pipeline.Failure || !strings.Contains(got, "call=failure/0 call/good=success/1 call/bad=failure/1") {
		t.Fatalf("runs: %s", got)
	}
	if err := w.service().Rerun(t.Context(), runs[0].ID, "ada"); err != nil {
		t.Fatal(err)
	}
	runs = w.until("the end", func(runs []pipeline.Run) bool { return runs[0].Attempt == 2 && runs[0].State.Done() })
	if got := show(runs); !strings.Contains(got, "call=failure/0 call/good=success/1 call/bad=failure/2") {
		t.Fatalf("runs: %s", got)
	}
}

// What ends a cancelled run may still clean up.
func TestCancelledRunsCleanUpUnlessForced(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: "on: push\njobs:\n  a: {runs-on: x, steps: [{run: hang}]}\n  clean: {needs: a, if: always(), runs-on: x, steps: [{run: ok}]}\n  b: {needs: a, runs-on: x, steps: [{run: ok}]}\n"}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the start", func(runs []pipeline.Run) bool { return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Running })
	if err := w.service().Cancel(t.Context(), runs[0].ID, "ada", ""); err != nil {
		t.Fatal(err)
	}
	runs = w.until("the end", ended(1))
	if got := show(runs); runs[0].State != pipeline.Cancelled || !strings.Contains(got, "a=cancelled/1 clean=success/1 b=cancelled/0") {
		t.Errorf("runs: %s", got)
	}
}

func (w *world) service() *pipeline.Service {
	return &pipeline.Service{Store: w.rows, Logs: w.logs, Authorize: allowed, Check: spec.Check, Slots: 3}
}
