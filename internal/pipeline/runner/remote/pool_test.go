package remote

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

type rows map[string]pipeline.Agent

func (r rows) SaveAgent(_ context.Context, _ string, a pipeline.Agent) error {
	r[a.Name] = a
	return nil
}
func (r rows) Agents(context.Context, string) (all []pipeline.Agent, _ error) {
	for _, a := range r {
		all = append(all, a)
	}
	return all, nil
}
func (r rows) ForgetAgent(_ context.Context, _, name string) error {
	delete(r, name)
	return nil
}

func newPool(t *testing.T, known rows, labels ...string) *Pool {
	t.Helper()
	p, err := New(t.Context(), Config{Org: "default", Rows: known, Local: runner.NewLocal(nil, 1), Labels: labels, Lost: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	p.Ready(true)
	return p
}

func hello(instance string, have []Key, labels ...string) []byte {
	b, _ := json.Marshal(Hello{Instance: instance, Labels: labels, Slots: 1, Have: have})
	return b
}

func TestLabelsDecideWhereAJobRuns(t *testing.T) {
	p := newPool(t, rows{"away": {Name: "away", Labels: []string{"self-hosted", "gpu"}}})
	if _, err := p.Connect(t.Context(), "here", hello("i1", nil, "self-hosted", "linux", "big")); err != nil {
		t.Fatal(err)
	}
	place, ok := p.Take([]string{"self-hosted", "BIG"})
	if !ok || place.Name != "here@i1" {
		t.Errorf("big runs at %q, %v; want the agent", place.Name, ok)
	}
	if _, ok := p.Take([]string{"big"}); ok || p.Fits([]string{"big"}) {
		t.Error("an agent with one slot took two jobs")
	}
	place.Free()
	place.Free()
	if !p.Fits([]string{"big"}) {
		t.Error("a slot that was given back is not free")
	}
	if _, ok := p.Take([]string{"gpu"}); ok {
		t.Error("a job for an agent that is away ran elsewhere")
	}
	if place, ok := p.Take([]string{"ubuntu-latest"}); !ok || place.Name != "" {
		t.Errorf("a job with labels that no agent has runs at %q, %v; want this process", place.Name, ok)
	}
	if place, ok := p.Take(nil); ok {
		t.Errorf("a release job ran at %q while this process is busy", place.Name)
	}
	if err := p.Forget(t.Context(), "here"); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "is connected. Stop it first") {
		t.Errorf("Forget() of a connected agent = %v", err)
	}

	p = newPool(t, rows{}, "ubuntu-latest", "linux")
	if p.Fits([]string{"windows"}) || !p.Fits([]string{"linux"}) {
		t.Error("this process's own labels were not looked at")
	}
}

func TestOnlyTheProcessThatHasAnAttemptMaySpeakForIt(t *testing.T) {
	p := newPool(t, rows{})
	s, err := p.Connect(t.Context(), "a", hello("i1", nil, "x"))
	if err != nil {
		t.Fatal(err)
	}
	place, ok := p.Take([]string{"x"})
	if !ok {
		t.Fatal("no slot")
	}
	dir := logs.New(t.TempDir())
	log, err := dir.Create("run_1", "job_1", 1)
	if err != nil {
		t.Fatal(err)
	}
	type ended struct {
		res pipeline.Result
		err error
	}
	done := make(chan ended, 1)
	go func() {
		res, err := place.Runner.Run(t.Context(), runner.Job{RunID: "run_1", JobID: "job_1", Attempt: 1}, &runnertest.Host{}, log)
		done <- ended{res, err}
	}()
	for { // the first frames may be from before the attempt
		raw, err := s.Next(t.Context())
		var f Frame
		if err != nil || json.Unmarshal(raw, &f) != nil {
			t.Fatal(err)
		}
		if len(f.Want) == 1 && f.Want[0].Job != nil {
			break
		}
	}
	for who, instance := range map[string]string{"a": "i2", "b": "i1"} {
		if _, err := p.Job(who, instance, "job_1.1"); !fault.Is(err, fault.NotFound) {
			t.Errorf("Job(%s, %s) = %v; want a refusal", who, instance, err)
		}
	}
	a, err := p.Job("a", "i1", "job_1.1")
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("1 | hello\n")
	if end, err := a.Log(t.Context(), 0, line); err != nil || end != int64(len(line)) {
		t.Errorf("Log() = %d, %v", end, err)
	}
	if end, err := a.Log(t.Context(), 0, slices.Concat(line, line)); err != nil || end != int64(2*len(line)) {
		t.Errorf("Log() of what is half there = %d, %v", end, err)
	}
	if end, err := a.Log(t.Context(), 100, line); err != nil || end != int64(2*len(line)) {
		t.Errorf("Log() with a gap = %d, %v; want where the log ends", end, err)
	}
	for _, bad := range []string{"no newline", "1 = success\n", "no time\n"} {
		if _, err := a.Log(t.Context(), int64(2*len(line)), []byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Log(%q) = %v; want a refusal", bad, err)
		}
	}
	if err := a.Finish(t.Context(), []byte(`{"result":{"State":"running"}}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Finish(running) = %v", err)
	}
	for range 2 {
		if err := a.Finish(t.Context(), []byte(`{"result":{"State":"success"}}`)); err != nil {
			t.Errorf("Finish() = %v", err)
		}
	}
	if e := <-done; e.err != nil || e.res.State != pipeline.Success {
		t.Errorf("Run() = %+v, %v", e.res, e.err)
	}
	place.Free()
	place.Stored()
	if _, err := p.Job("a", "i1", "job_1.1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after it was stored, Job() = %v", err)
	}
	p.Ready(false)
	if _, err := p.Job("a", "i1", "job_1.1"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("while nobody leads, Job() = %v; want: try again", err)
	}
}

func TestAnAgentThatComesBackAsAnotherProcessHasLostItsJobs(t *testing.T) {
	p := newPool(t, rows{})
	s, err := p.Connect(t.Context(), "a", hello("i1", nil, "x"))
	if err != nil {
		t.Fatal(err)
	}
	place, _ := p.Take([]string{"x"})
	log, err := logs.New(t.TempDir()).Create("run_1", "job_1", 1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := place.Runner.Run(t.Context(), runner.Job{JobID: "job_1", Attempt: 1}, &runnertest.Host{}, log)
		done <- err
	}()
	for {
		if _, err := p.Job("a", "i1", "job_1.1"); err == nil {
			break
		}
		if _, err := s.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Connect(t.Context(), "a", hello("i2", nil, "x")); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second process of a connected agent: %v; want a refusal", err)
	}
	s.Close()
	if _, err := p.Connect(t.Context(), "a", hello("i2", nil, "x")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "the agent a was restarted") {
		t.Errorf("Run() = %v; want the attempt lost", err)
	}
}
