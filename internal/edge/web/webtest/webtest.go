// Package webtest is a realistic implementation of the pages' data for tests and
// screenshots: a few services, a canary in progress, a run that failed, a change
// that is blocked. It promises nothing beyond what the port says.
package webtest

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/edge/web"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

// Link and Session are what signs in.
const (
	Link    = "one-time-token"
	Session = "session-token"
)

// Start is when everything in the fixture happens.
var Start = time.Date(2025, 11, 18, 14, 20, 56, 0, time.UTC)

// Data answers with a fixture. Its clock stands at Now unless it is moved.
type Data struct {
	mu       sync.Mutex
	now      time.Time
	wake     map[chan struct{}]bool
	Did      []string         // actions, in order
	Refuse   map[string]error // by action
	Hostile  bool             // names and messages are an attack
	Empty    bool             // nothing has happened yet
	rolled   bool
	paused   bool
	used     bool
	logExtra []string
	logEnded bool
	folder   string
	kept     *logs.Dir
}

// New returns a fixture in the middle of a canary, which keeps its logs in a folder.
func New(folder string) *Data {
	return &Data{folder: folder, kept: logs.New(folder), now: Start.Add(11*time.Minute + 12*time.Second), wake: map[chan struct{}]bool{}, Refuse: map[string]error{}}
}

// Move changes the fixture's clock and wakes the readers.
func (d *Data) Move(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
	for c := range d.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Write adds a line to the log of the job that runs; end ends it.
func (d *Data) Write(line string, end bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if line != "" {
		d.logExtra = append(d.logExtra, line)
	}
	d.logEnded = d.logEnded || end
}

func (d *Data) at() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// evil is what an attacker would like a page to run.
const evil = `<img src=x onerror=alert(1)><script>alert(2)</script>"'&{{7*7}}`

func (d *Data) name(s string) string {
	if d.Hostile {
		return evil
	}
	return s
}

func (d *Data) act(ctx context.Context, what, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Refuse[what]; err != nil {
		return err
	}
	d.Did = append(d.Did, identity.From(ctx).Name+" "+what+" "+id)
	return nil
}

// Actions returns what was done.
func (d *Data) Actions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.Did...)
}

// SignIn implements web.Sessions.
func (d *Data) SignIn(_ context.Context, link string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if link != Link || d.used {
		return "", fault.New(fault.Denied, "This sign-in link is not valid: it was used, or it is too old. Ask an admin for a new one.")
	}
	d.used = true
	return Session, nil
}

// Session implements web.Sessions.
func (d *Data) Session(_ context.Context, s string) (identity.Actor, error) {
	if s != Session {
		return identity.Anonymous, fault.New(fault.Denied, "The session has ended.")
	}
	return identity.Actor{ID: "user_1", Name: "Aiko Tanaka", Kind: identity.User, Roles: []string{identity.Admin, identity.Approver}}, nil
}

// SignOut implements web.Sessions.
func (d *Data) SignOut(context.Context, string) error { return nil }

// Pause implements web.Actions.
func (d *Data) Pause(ctx context.Context, id string) error {
	err := d.act(ctx, "pause", id)
	if err == nil {
		d.mu.Lock()
		d.paused = true
		d.mu.Unlock()
		d.Move(0)
	}
	return err
}

// Resume implements web.Actions.
func (d *Data) Resume(ctx context.Context, id string) error {
	d.mu.Lock()
	d.paused = false
	d.mu.Unlock()
	return d.act(ctx, "resume", id)
}

// Promote implements web.Actions.
func (d *Data) Promote(ctx context.Context, id, reason string) error {
	return d.act(ctx, "promote", id+" "+reason)
}

// RollBack implements web.Actions.
func (d *Data) RollBack(ctx context.Context, id string) (string, error) {
	err := d.act(ctx, "rollback", id)
	if err == nil {
		d.mu.Lock()
		d.rolled = true
		d.mu.Unlock()
		d.Move(time.Second)
	}
	return "/rollouts/" + id, err
}

// ApproveRelease implements web.Actions.
func (d *Data) ApproveRelease(ctx context.Context, id, verdict, reason string) error {
	return d.act(ctx, "approve", strings.TrimSpace(id+" "+verdict+" "+reason))
}

// ReviewChange implements web.Actions.
func (d *Data) ReviewChange(ctx context.Context, id, verdict, comment string) error {
	return d.act(ctx, "review", strings.TrimSpace(id+" "+verdict+" "+comment))
}

// LandChange implements web.Actions.
func (d *Data) LandChange(ctx context.Context, id string) error { return d.act(ctx, "land", id) }

// CancelRun implements web.Actions.
func (d *Data) CancelRun(ctx context.Context, id string) error { return d.act(ctx, "cancel", id) }

// RerunRun implements web.Actions.
func (d *Data) RerunRun(ctx context.Context, id string) error { return d.act(ctx, "rerun", id) }

// Watch implements web.Data.
func (d *Data) Watch(...string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wake[c] = true
	return c, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.wake, c)
	}
}

// Shell implements web.Data.
func (d *Data) Shell(context.Context) (web.Shell, error) {
	if d.Empty {
		return web.Shell{Organisation: "default", Ledger: web.Ledger{State: st("ok", "Ledger signed"), Entries: 3, Note: "not anchored off this machine"}}, nil
	}
	return web.Shell{Organisation: d.name("Northmoor"), Counts: map[string]web.Count{"changes": {Text: "4"}, "runs": {Text: "2"}, "rollouts": {Text: "1 live", Live: true}},
		Pins: []web.Pin{{Name: d.name("checkout"), Href: "/rollouts/rollout_live", State: st("run", "rolling out")}, {Name: "search", Href: "/#matrix", State: st("ok", "healthy")},
			{Name: "payments", Href: "/#matrix", State: st("block", "promotion blocked")}, {Name: "catalog", Href: "/#matrix", State: st("ok", "healthy")}},
		Ledger: web.Ledger{State: st("ok", "Ledger signed"), Entries: 48219, Note: "not anchored off this machine"}}, nil
}

func st(kind, word string) web.Status { return web.Status{Kind: kind, Word: word} }

const (
	digest   = "sha256:9f2c41d07be83a55c1e0f4b2d96a7718c35ef0a94d21b6e87f3a0c52d81e6b94"
	revision = "c07d9e2a4b8f1536e0d97c21ab40f8863e5d12b7"
)

func drills(from time.Time, seconds ...float64) (out []web.Measured) {
	for i, s := range seconds {
		out = append(out, web.Measured{At: from.Add(-time.Duration(len(seconds)-i) * 5 * 24 * time.Hour), Took: time.Duration(s * float64(time.Second))})
	}
	return out
}

// Overview implements web.Data.
func (d *Data) Overview(context.Context) (web.Overview, error) {
	now := d.at()
	if d.Empty {
		return web.Overview{Now: now}, nil
	}
	row := func(name string, objective int, blocks string, note string, times ...float64) web.Readiness {
		r := web.Readiness{Service: d.name(name), Href: "/#matrix", Environment: "production", State: st("ok", "Ready"), Objective: time.Duration(objective) * time.Second, Drills: drills(now, times...), Blocks: blocks, Note: note}
		if blocks != "" {
			r.State = st("bad", "Cannot go back")
		}
		return r
	}
	checkout := row("checkout", 60, "", "1.0.0-4be91c7 is warm on the host")
	checkout.State = st("run", "Rolling out")
	checkout.Rollbacks = []web.Measured{{At: now.Add(-3 * time.Hour), Took: 640 * time.Millisecond}, {At: now.Add(-2 * time.Hour), Took: 412 * time.Millisecond}}
	note := st("wait", "1.3.0-51ba7f0 awaits approval")
	held := st("block", "2.1.0 blocked by verified-signature")
	return web.Overview{
		Now: now,
		Services: []web.Readiness{
			row("payments", 30, "No release before this one is on the host.", "", 27, 31, 28, 34),
			checkout,
			row("search", 60, "", "6.1.0-b84a16e is kept on the host", 31, 29, 38, 27, 26, 31),
			row("catalog", 60, "", "0.9.0-e03b91c is kept on the host", 14, 16, 13, 15, 19, 14),
		},
		Flow: web.Flow{InReview: 4, Building: 2, Waiting: 1, RollingOut: 1},
		Needs: []web.Need{
			{State: st("wait", "Awaiting approval"), Title: "Approve catalog 1.3.0-51ba7f0 to production", Detail: "1 approval is needed, by somebody who did not write it. It ran healthy in staging for 4 h.", Since: now.Add(-22 * time.Minute), Promotion: "promotion_1", Version: "1.3.0-51ba7f0", To: "catalog in production"},
			{State: st("block", "Gate failing"), Title: "payments 2.1.0 does not pass its gate", Href: "/artifacts/artifact_1", Detail: "The provenance names another commit than the release.", Since: now.Add(-2 * time.Hour)},
		},
		Delivery: &web.Delivery{Days: 30, Tiles: []web.Tile{
			{Name: "Deployment frequency", Value: "0.4", Unit: "a day", Of: "12 in 30 days"}, {Name: "Change lead time", Value: "3 h 42 m", Unit: "median", Of: "of 12 changes"},
			{Name: "Failed deployment recovery", Value: "412 ms", Unit: "median", Of: "of 2 rollbacks"}, {Name: "Change fail rate", Value: "17%", Unit: "", Of: "2 of 12"}, {Name: "Deployment rework rate", Of: "not measured"}}},
		Environments: []string{"staging", "production"},
		Matrix: []web.MatrixRow{
			{Service: d.name("checkout"), Tier: 1, Cells: []web.Cell{{State: st("ok", "Healthy"), Version: "1.1.0-c07d9e2", Since: now.Add(-3 * time.Hour), To: "same"},
				{State: st("run", "Canary"), Version: "1.1.0-c07d9e2", Split: &web.Split{Old: "1.0.0-4be91c7", New: "1.1.0-c07d9e2", Percent: 25, Href: "/rollouts/rollout_live", State: st("run", "Canary"), Detail: "6:12 of 10:00 baked, no regression seen"}}}},
			{Service: "catalog", Tier: 2, Cells: []web.Cell{{State: st("ok", "Healthy"), Version: "1.3.0-51ba7f0", Since: now.Add(-4 * time.Hour), To: "held"}, {State: st("ok", "Healthy"), Version: "1.2.4-e94c33d", Note: &note}}},
			{Service: "search", Tier: 2, Cells: []web.Cell{{State: st("ok", "Healthy"), Version: "6.1.1-72fd0c8", Since: now.Add(-7 * time.Hour), To: "same"}, {State: st("ok", "Healthy"), Version: "6.1.1-72fd0c8", Since: now.Add(-5 * time.Hour)}}},
			{Service: "payments", Tier: 1, Cells: []web.Cell{{State: st("ok", "Healthy"), Version: "2.1.0-b84a16e", Since: now.Add(-26 * time.Hour), To: "held"}, {State: st("ok", "Healthy"), Version: "2.0.4-e03b91c", Note: &held}}},
			{Service: "reports", Cells: []web.Cell{{}, {State: st("", "Nothing runs here yet")}}},
		},
	}, nil
}

// Rollouts implements web.Data.
func (d *Data) Rollouts(ctx context.Context) ([]web.RolloutRow, error) {
	if d.Empty {
		return nil, nil
	}
	r, err := d.Rollout(ctx, "rollout_live")
	return []web.RolloutRow{r.RolloutRow,
		{ID: "rollout_back", Service: "checkout", Environment: "production", From: "1.2.0-51ba7f0", To: "1.1.0-c07d9e2", Intent: "rollback", State: st("warn", "Rolled back"), Started: Start.Add(-3 * time.Hour), Ended: Start.Add(-3*time.Hour + 640*time.Millisecond), By: "weir"},
		{ID: "rollout_first", Service: "checkout", Environment: "production", To: "1.0.0-4be91c7", Intent: "planned", State: st("ok", "Complete"), Started: Start.Add(-26 * time.Hour), Ended: Start.Add(-26*time.Hour + 3*time.Second), By: "weir"}}, err
}

// Rollout implements web.Data.
func (d *Data) Rollout(_ context.Context, id string) (web.Rollout, error) {
	if id != "rollout_live" {
		return web.Rollout{}, fault.New(fault.NotFound, "There is no rollout %s. List the rollouts with `weir rollout list`.", id)
	}
	d.mu.Lock()
	now, rolled, paused := d.now, d.rolled, d.paused
	d.mu.Unlock()
	r := web.Rollout{
		RolloutRow: web.RolloutRow{ID: id, Service: d.name("checkout"), Environment: "production", From: "1.0.0-4be91c7", To: "1.1.0-c07d9e2", Intent: "planned", State: st("run", "Baking at 25%"), Started: Start, By: d.name("Maya Lindqvist")},
		Now:        now, Live: true, Strategy: "canary", Digest: digest, Revision: revision, Change: web.Link{Text: d.name("#12 Retry card authorisation once on gateway timeout"), Href: "/changes/change_1"},
		Say: "No regression seen. 0.12 of the evidence that rolls back.", Next: "Moves to 50% by itself at 14:35:56 if 420 requests were compared by then and no boundary is crossed; holds there if not; rolls back by itself if one is crossed.",
		Hint: "Roll back asks once: traffic returns to 1.0.0-4be91c7, warm on the host. Its last two rollbacks took 0.64 s and 0.41 s. Promoting early asks for a reason.", Weight: 25,
		Steps: []web.Step{
			{Percent: 5, State: st("ok", "Passed"), Entered: Start, Left: Start.Add(5 * time.Minute), Bake: 5 * time.Minute, Note: "5:00 baked, 1,204 requests compared"},
			{Percent: 25, State: st("run", "Baking"), Entered: Start.Add(5 * time.Minute), Bake: 10 * time.Minute, Note: fmt.Sprintf("%s of 10:00, 38,688 requests compared", short(now.Sub(Start.Add(5*time.Minute))))},
			{Percent: 50, State: st("off", "Not started"), Bake: 10 * time.Minute, Note: "10:00 bake"},
			{Percent: 100, State: st("off", "Not started"), Note: "then 1.0.0-4be91c7 stays warm"}},
		Baseline: "Baseline is 1.0.0-4be91c7 in 1 fresh process, same weight, same minute.", Address: "127.0.0.1:41873",
		CanPause: !paused, CanResume: paused, CanPromote: true, CanRollBack: true, PromoteTo: "50%", BackTo: "1.0.0-4be91c7",
		Metrics: []web.Metric{d.metric("Error rate", "%", 0.19, 0.06, 0.44, 0.12, now), d.metric("Latency above 250 ms", "%", 1.9, .5, 4.1, 0.31, now)},
		Decisions: []web.Said{
			{At: Start.Add(11*time.Minute + 8*time.Second), State: st("run", "Waiting"), Bold: "Keep baking.", Text: d.name("0.12 of the evidence that rolls back; 38,688 of 420 requests seen, 3:48 of bake left.")},
			{At: Start.Add(5 * time.Minute), State: st("ok", "Advanced"), Bold: "Moved 5% to 25%.", Text: "The bake of 5:00 is over and 1,204 requests would have shown a fault of 5% with a chance of 90%."},
			{At: Start.Add(2*time.Minute + 30*time.Second), State: st("wait", "Held"), Bold: "Waited.", Text: "Errors touched 0.80%: 5 of 624 requests in one window. Too few to tell a fault from chance."},
			{At: Start, State: st("ok", "Started"), Bold: "Sent 5% to 1.1.0-c07d9e2.", Text: "The digest is the one that ran in staging, byte for byte."},
			{At: Start.Add(-18 * time.Second), State: st("ok", "Passed"), Bold: "Admitted to production.", Text: "Approved by Sofia Conti; every rule passes.", By: "decision_01H"}},
	}
	switch {
	case rolled:
		r.Live, r.State, r.Ended = false, st("warn", "Rolled back"), now
		r.Steps[1].State = st("warn", "Taken back")
		r.Say, r.Next = "checkout is back on 1.0.0-4be91c7, 412 ms after the decision.", "Aiko Tanaka took it back. Nothing else happens by itself."
		r.Weight, r.CanPause, r.CanPromote, r.CanRollBack = 0, false, false, false
		r.Hint = ""
		r.Decisions = append([]web.Said{{At: now, State: st("warn", "Rolled back"), Bold: "Rolled back.", Text: "Traffic went to 1.0.0-4be91c7 in 412 ms.", By: "Aiko Tanaka"}}, r.Decisions...)
	case paused:
		r.State = st("wait", "Paused at 25%")
		r.Say = "Paused by Aiko Tanaka."
	}
	return r, nil
}

func short(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func (d *Data) metric(name, unit string, mid, spread, limit, evidence float64, now time.Time) web.Metric {
	m := web.Metric{Name: name, Unit: unit, State: st("ok", "No worse so far"), Evidence: evidence, HasEvidence: true, Seen: 38688, Needed: 420, CanaryOf: "19 of 9,672", BaselineOf: "18 of 9,680",
		Marks: []web.Mark{{At: Start.Add(5 * time.Minute), Text: "25%"}}}
	f := func(v float64) *float64 { return &v }
	i := 0
	for t := Start; !t.After(now); t = t.Add(6 * time.Second) {
		x := float64(i)
		p := web.Point{At: t, Canary: f(math.Max(0, mid+spread*(math.Sin(x/3.1)+.7*math.Sin(x/1.7)+.4*math.Sin(x*2.3)))), Baseline: f(math.Max(0, mid*.95+spread*.6*(math.Sin(x/4.3)+.6*math.Sin(x/2.1+1))))}
		if i > 3 {
			p.Bad = f(limit * (1 + 9/math.Sqrt(x*x+9)))
		}
		m.Points = append(m.Points, p)
		i++
	}
	last := m.Points[len(m.Points)-1]
	m.Canary, m.Baseline = last.Canary, last.Baseline
	return m
}

// Runs implements web.Data.
func (d *Data) Runs(ctx context.Context, f web.RunFilter) (web.Runs, error) {
	if d.Empty {
		return web.Runs{}, nil
	}
	r, err := d.Run(ctx, "run_1")
	done := r.RunRow
	done.ID, done.State, done.Took, done.Title = "run_0", st("ok", "Passed"), 4*time.Minute+12*time.Second, "Cache voucher lookups"
	v := web.Runs{Repositories: []string{r.Repository, "search"}}
	if f.Repository != "search" {
		v.Rows = []web.RunRow{r.RunRow, done}
	}
	return v, err
}

// Run implements web.Data.
func (d *Data) Run(_ context.Context, id string) (web.Run, error) {
	if id == "run_big" {
		return d.bigRun(), nil
	}
	if id != "run_1" && id != "run_0" {
		return web.Run{}, fault.New(fault.NotFound, "There is no run %s. List the runs with `weir runs`.", id)
	}
	now, t0 := d.at(), Start.Add(6*time.Minute+45*time.Second)
	sec := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
	job := func(key, kind, word string, from, to int, needs ...string) web.Job {
		j := web.Job{ID: "job_" + strings.NewReplacer(" ", "_", "/", "_").Replace(key), Key: key, Name: key, Needs: needs, State: st(kind, word), Since: sec(from), Queued: 2 * time.Second}
		if from >= 0 {
			j.Started, j.Attempt, j.Attempts = sec(from), 1, 1
			j.Confined, j.Network = true, "egress"
		}
		if to >= 0 {
			j.Finished, j.Done = sec(to), true
		}
		return j
	}
	jobs := []web.Job{
		job("lint", "ok", "Passed", 3, 25), job("unit", "ok", "Passed", 3, 71), job("build", "ok", "Passed", 4, 95, "lint"),
		job("integration 1/3", "ok", "Passed", 97, 219, "build"), job("integration 2/3", "bad", "Failed", 97, 204, "build"), job("integration 3/3", "ok", "Passed", 97, 227, "build"),
		job("e2e", "run", "Running", 98, -1, "build"), job("release-checkout", "off", "Waiting", -1, -1, "unit", "integration 1/3", "integration 2/3", "integration 3/3", "e2e"),
	}
	jobs[0].Caches = []web.CacheUse{{Key: d.name("go-1.26.8-4f2a"), Found: "go-1.26.8-4f2a", Restored: 184 << 20}, {Key: "npm-77c1", Found: "npm-0b2e", Restored: 12 << 20}, {Key: "npm-77c1", Kept: true, Saved: 13 << 20}, {Key: "lint-1"}}
	jobs[4].Reason = "step 3, go test, exited with 1"
	jobs[4].Annotations = []web.Annotation{{Level: "error", Title: "TestWebhook_ReplayWindow", File: "internal/webhook/webhook_test.go", Line: 148, Message: d.name("POST /v2/webhooks: got 400, want 202\nbody: \"malformed chunked encoding\"")}}
	jobs[4].Summary = "## Coverage\n\n| package | covered |\n|---|---:|\n| webhook | 81% |\n\n" + d.name("<b>fine</b>")
	for i := range jobs {
		if !jobs[i].Started.IsZero() {
			jobs[i].Used = now.Sub(jobs[i].Started)
			if !jobs[i].Finished.IsZero() {
				jobs[i].Used = jobs[i].Finished.Sub(jobs[i].Started)
			}
		}
	}
	jobs[7].Done, jobs[7].State, jobs[7].Reason = true, st("skip", "Skipped"), "integration 2/3 failed"
	return web.Run{RunRow: web.RunRow{ID: id, Title: d.name("Move to Go 1.26.8 to clear CVE-2025-22871"), Workflow: ".github/workflows/ci.yml", Repository: d.name("checkout"), State: st("bad", "Failing, 1 job still runs"), Ref: d.name("maya/go-1.26.8"), Revision: revision, Actor: d.name("Maya Lindqvist"), Created: t0},
		Now: now, Live: true, Event: "pull_request", Attempt: 1, Typical: 5*time.Minute + 48*time.Second, TypicalOf: 20, Tests: count,
		Failures: []web.Failure{{Result: d.tests()[0], History: d.history("ooooooooooooooooooof")[1:]}}, Change: web.Link{Text: "checkout #12", Href: "/changes/change_1"}, Started: t0, Jobs: jobs, CanCancel: true,
		Waits: []web.Wait{{What: "e2e", For: "attempt 1 to finish; it may take 60 minutes", Who: "the job itself, or whoever may cancel the run: weir runs cancel " + id, Since: sec(98)}}}, nil
}

// RunLog implements web.Data.
func (d *Data) RunLog(ctx context.Context, run, job string, attempt int, offset int64, follow bool) (io.ReadCloser, error) {
	text, err := d.text(run, job)
	if err != nil {
		return nil, err
	}
	text = text[min(offset, int64(len(text))):]
	if !follow || job != "job_e2e" {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, text)
		sent := 0
		for {
			d.mu.Lock()
			more, ended := d.logExtra[sent:], d.logEnded
			d.mu.Unlock()
			for _, l := range more {
				if _, err := io.WriteString(w, l+"\n"); err != nil {
					return
				}
				sent++
			}
			if ended {
				_ = w.Close()
				return
			}
			select {
			case <-ctx.Done():
				_ = w.CloseWithError(ctx.Err())
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return r, nil
}

// text is the log of a job.
func (d *Data) text(run, job string) (string, error) {
	if job == "job_release-checkout" {
		return "", fault.New(fault.NotFound, "Job release-checkout of run %s has not run: integration 2/3 failed.", run)
	}
	return d.log(job), nil
}

// keep writes a log where the reader by line finds it.
func (d *Data) keep(run, job string) (pipeline.LogRef, error) {
	if run == "run_big" {
		return d.keepBig(job)
	}
	text, err := d.text(run, job)
	if err != nil {
		return pipeline.LogRef{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if job == "job_e2e" && len(d.logExtra) > 0 {
		text += strings.Join(d.logExtra, "\n") + "\n"
	}
	path := filepath.Join(d.folder, run, job+".1.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return pipeline.LogRef{}, err
	}
	return pipeline.LogRef{Run: pipeline.RunID(run), Job: pipeline.JobID(job), Attempt: 1}, os.WriteFile(path, []byte(text), 0o600)
}

// LogOutline implements web.Data.
func (d *Data) LogOutline(ctx context.Context, run, job string, _ int) (pipeline.LogOutline, error) {
	ref, err := d.keep(run, job)
	if err != nil {
		return pipeline.LogOutline{}, err
	}
	return d.kept.Outline(ctx, ref)
}

// LogLines implements web.Data.
func (d *Data) LogLines(ctx context.Context, run, job string, _ int, from int64, limit int) ([]pipeline.LogLine, error) {
	ref, err := d.keep(run, job)
	if err != nil {
		return nil, err
	}
	return d.kept.Lines(ctx, ref, from, limit)
}

// SearchLog implements web.Data.
func (d *Data) SearchLog(ctx context.Context, run, job string, _ int, q pipeline.LogQuery) (pipeline.LogMatches, error) {
	ref, err := d.keep(run, job)
	if err != nil {
		return pipeline.LogMatches{}, err
	}
	return d.kept.Search(ctx, ref, q)
}

var count = pipeline.TestCount{Total: 2418, Failed: 1, Passed: 2415, Skipped: 2, Flaky: 2, Duration: 11*time.Minute + 4*time.Second}

func (d *Data) tests() []pipeline.TestResult {
	test := func(pkg, name, job string, o pipeline.TestOutcome, took time.Duration) pipeline.TestResult {
		return pipeline.TestResult{Test: pipeline.Test{Key: "4f2a9c01", Package: pkg, Name: d.name(name)}, Outcome: o, Duration: took, RunID: "run_1", JobID: "job_integration_2_3", Job: job, Attempt: 1, Revision: revision, At: Start}
	}
	failed := test("internal/webhook", "TestWebhook_ReplayWindow", "integration 2/3", pipeline.TestFailed, 310*time.Millisecond)
	failed.File, failed.Line, failed.LogLine, failed.Message = "webhook_test.go", 148, 16, d.name("got 400, want 202")
	failed.Detail = d.name("webhook_test.go:148: POST /v2/webhooks: got 400, want 202\nwebhook_test.go:149: body: \"malformed chunked encoding\"")
	flaky := test("internal/webhook", "TestWebhook_OrderPreserved", "integration 2/3", pipeline.TestPassed, 530*time.Millisecond)
	flaky.Flaky = true
	return []pipeline.TestResult{failed, flaky, test("internal/ledger", "TestLedgerExport_FullDay", "integration 3/3", pipeline.TestPassed, 27600*time.Millisecond),
		test("internal/settle", "TestSettlement_RaceConditions", "integration 1/3", pipeline.TestPassed, 19200*time.Millisecond)}
}

// history reads outcomes from letters, the oldest first.
func (d *Data) history(letters string) (out []pipeline.TestResult) {
	for _, l := range letters {
		r := d.tests()[2]
		switch l {
		case 'f':
			r.Outcome = pipeline.TestFailed
		case '~':
			r.Flaky = true
		}
		out = append([]pipeline.TestResult{r}, out...)
	}
	return out
}

// RunTests implements web.Data.
func (d *Data) RunTests(_ context.Context, _ string, f pipeline.TestFilter) (web.Tests, error) {
	all := d.tests()
	v := web.Tests{Count: count, Results: all[:2], Slowest: all[2:], Sources: []string{"the log of integration 2/3", "e2e: test-results-e2e/junit.xml"}, History: map[string][]pipeline.TestResult{all[0].Key: d.history("oo~ooooo~oooooooooof")}}
	if f.Text != "" {
		v.Results, v.Slowest = nil, nil
		for _, r := range all {
			if strings.Contains(strings.ToLower(r.Package+" "+r.Name), strings.ToLower(f.Text)) {
				v.Results = append(v.Results, r)
			}
		}
	}
	return v, nil
}

// TestHistory implements web.Data.
func (d *Data) TestHistory(_ context.Context, key string) (pipeline.Test, []pipeline.TestResult, error) {
	all := d.tests()
	if key != all[0].Key {
		return pipeline.Test{}, nil, fault.New(fault.NotFound, "There is no test %s.", key)
	}
	return all[0].Test, append(all[:1:1], d.history("oo~oo")...), nil
}

// RunArtifacts implements web.Data.
func (d *Data) RunArtifacts(context.Context, string) ([]web.RunArtifact, error) {
	return []web.RunArtifact{{Name: d.name("coverage"), Job: "unit", Digest: digest, Size: 48213, Created: d.at()}}, nil
}

// OpenArtifact implements web.Data.
func (d *Data) OpenArtifact(_ context.Context, run, name string) (io.ReadCloser, int64, error) {
	if name != "coverage" {
		return nil, 0, fault.New(fault.NotFound, "Run %s has no artifact named %q.", run, name)
	}
	return io.NopCloser(strings.NewReader("<html>")), 6, nil
}

func (d *Data) log(job string) string {
	t := Start.Add(8 * time.Minute)
	var b strings.Builder
	line := func(ms int, tag, text string) {
		fmt.Fprintf(&b, "%d %s %s\n", t.Add(time.Duration(ms)*time.Millisecond).UnixMicro(), tag, text)
	}
	line(0, "#", "Runner embedded, confined, network egress")
	line(1, "+", `{"number":1,"name":"Check out the revision"}`)
	line(300, "|", "HEAD is now at c07d9e2")
	line(310, "-", `{"number":1,"name":"Check out the revision","state":"success"}`)
	line(311, "+", `{"number":2,"name":"Set up Go"}`)
	line(900, "|", "go version go1.26.8 linux/amd64")
	line(901, "-", `{"number":2,"name":"Set up Go","state":"success"}`)
	line(902, "+", `{"number":3,"name":"go test -race ./internal/webhook/..."}`)
	for _, l := range []string{"=== RUN   TestWebhook_AcceptsSigned", "\x1b[32m--- PASS: TestWebhook_AcceptsSigned\x1b[0m (0.04s)", "=== RUN   TestWebhook_ReplayWindow",
		"    \x1b[36mgateway-sim\x1b[0m | mode=legacy window=300s events=3", "    \x1b[36mgateway-sim\x1b[0m | POST /v2/webhooks transfer-encoding=chunked",
		"    \x1b[36mgateway-sim\x1b[0m | \x1b[33mWARN\x1b[0m legacy writer ends chunked lines with a bare LF", "    \x1b[34mpayments\x1b[0m    | 400 POST /v2/webhooks 1.8ms"} {
		line(950, "|", l)
	}
	if d.Hostile {
		line(951, "|", evil)
		line(951, "|", "\x1b]0;title\x07\x1b[31m"+evil+"\x1b[2J\x1b[999;999H")
	}
	if job == "job_integration_2_3" {
		line(960, "!", `{"level":"error","file":"webhook_test.go","line":148,"message":"POST /v2/webhooks: got 400, want 202"}`)
		line(961, "|", "    webhook_test.go:149: body: \"malformed chunked encoding\"")
		line(962, "|", "--- FAIL: TestWebhook_ReplayWindow (0.31s)")
		line(970, "|", "=== RUN   TestWebhook_OrderPreserved")
		line(990, "|", "\x1b[32m--- PASS: TestWebhook_RetryBackoff\x1b[0m (0.53s)")
		line(1200, "|", "FAIL  northmoor.dev/payments/internal/webhook  88.412s")
		line(1201, "|", "exit status 1")
		line(107000, "-", `{"number":3,"name":"go test -race ./internal/webhook/...","state":"failure","reason":"exited with 1"}`)
		line(107001, "=", "failure")
	}
	return b.String()
}
