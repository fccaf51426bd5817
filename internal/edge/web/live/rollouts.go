package live

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"weir/internal/control"
	"weir/internal/deploy"
	"weir/internal/edge/web"
)

// Rollouts implements web.Data.
func (d *Data) Rollouts(ctx context.Context) ([]web.RolloutRow, error) {
	all, err := d.Deploy.Rollouts(ctx, deploy.Filter{Limit: 100})
	if err != nil {
		return nil, err
	}
	rows := make([]web.RolloutRow, len(all))
	for i, r := range all {
		rows[i] = rolloutRow(r)
	}
	return rows, nil
}

func rolloutRow(r deploy.Rollout) web.RolloutRow {
	return web.RolloutRow{ID: string(r.ID), Service: r.Service, Environment: r.Environment, From: fromTag(r), To: tag(r.Version, r.Revision), Intent: string(r.Intent), State: rolloutState(r), Started: r.Created, Ended: r.Finished, By: whoever(r.By)}
}

func fromTag(r deploy.Rollout) string {
	if r.From != nil {
		return specTag(*r.From)
	}
	return r.FromVersion
}

// Rollout implements web.Data.
func (d *Data) Rollout(ctx context.Context, id string) (web.Rollout, error) {
	r, log, err := d.Deploy.Rollout(ctx, deploy.RolloutID(id))
	if err != nil {
		return web.Rollout{}, err
	}
	samples, err := d.samples(ctx, r.ID)
	if err != nil {
		return web.Rollout{}, err
	}
	past, err := d.Deploy.Rollouts(ctx, deploy.Filter{ServiceID: r.ServiceID, Environment: r.Environment, Limit: 100})
	if err != nil {
		return web.Rollout{}, err
	}
	now := d.now()
	v := web.Rollout{RolloutRow: rolloutRow(r), Now: now, Live: r.State.Live(), Strategy: strategyWord(r.Plan.Strategy), Digest: r.Digest, Revision: r.Revision, Weight: 100 * r.Share()}
	d.origin(ctx, r, &v)
	v.Steps = steps(r, log, samples, now)
	v.Metrics = metrics(r, log, samples)
	v.NoMetrics = noMetrics(r)
	if v.From != "" && r.Plan.Strategy == deploy.Steps {
		v.Baseline = fmt.Sprintf("Baseline is %s in fresh processes, with as many requests as the canary, in the same minutes. Rates are since the rollout began.", v.From)
	}
	for i := len(log) - 1; i >= 0; i-- {
		l := log[i]
		v.Decisions = append(v.Decisions, web.Said{At: l.At, State: decisionState(l.Kind), Bold: strings.TrimSuffix(l.Bold, ".") + ".", Text: l.Reason, By: person(l.By)})
	}
	if run := d.running(ctx, r.ServiceID, r.Environment); run != nil {
		v.Address = run.Address
	}
	speak(r, samples, now, &v)
	d.helm(ctx, r, past, &v)
	return v, nil
}

// origin links the change that a rollout brings. A page without it is still a page.
func (d *Data) origin(ctx context.Context, r deploy.Rollout, v *web.Rollout) {
	rel, err := d.Deploy.Release(ctx, r.ReleaseID)
	if err != nil {
		return
	}
	l, err := d.Source.LandingOf(ctx, rel.RepositoryID, r.Revision)
	if err != nil || l.ChangeID == "" {
		return
	}
	if c, err := d.Source.Get(ctx, l.ChangeID); err == nil {
		v.Change = web.Link{Text: fmt.Sprintf("#%d %s", c.Change.Number, c.Change.Title), Href: "/changes/" + l.ChangeID}
	}
}

func (d *Data) running(ctx context.Context, serviceID, environment string) *deploy.Running {
	if d.Running == nil {
		return nil
	}
	return d.Config.Running(ctx, serviceID, environment)
}

// whoever names Weir where nobody else did it.
func whoever(by string) string {
	if person(by) == "" {
		return "Weir"
	}
	return by
}

// person leaves out the parts of Weir itself: what nobody did, Weir did.
func person(by string) string {
	if strings.HasPrefix(by, "weir/") || by == "" {
		return ""
	}
	return by
}

func strategyWord(s deploy.Strategy) string {
	switch s {
	case deploy.Steps:
		return "canary"
	case deploy.First:
		return "first release: all at once, after health"
	case deploy.Direct:
		return "straight to a release that ran here"
	}
	return string(s)
}

func noMetrics(r deploy.Rollout) string {
	switch r.Plan.Strategy {
	case deploy.First:
		return "It is the first release here: there is no baseline to compare it with."
	case deploy.Direct:
		return "A rollback goes to a release that ran here before; traffic goes first."
	case deploy.Steps:
		return "The first figures come with the first requests to canary and baseline."
	}
	return "Healthy processes take over from the ones before. Only a canary is compared with a baseline."
}

// steps are the shares of the plan and the whole, with when each began and ended.
func steps(r deploy.Rollout, log []deploy.Decision, samples []control.Sample, now time.Time) []web.Step {
	shares := []float64{1}
	if r.Plan.Strategy == deploy.Steps {
		shares = append(append([]float64{}, r.Plan.Steps...), 1)
	}
	out := make([]web.Step, len(shares))
	for i, s := range shares {
		out[i] = web.Step{Percent: math.Round(s*10000) / 100, State: web.Status{Kind: "off", Word: "Not started"}}
		if i < len(shares)-1 {
			out[i].Bake = r.Plan.Bake
			out[i].Note = clock(r.Plan.Bake) + " bake"
		}
	}
	at := -1
	for _, d := range log {
		switch d.Kind {
		case "step":
			if at+1 < len(out) {
				at++
				out[at].Entered = d.At
			}
		case "promoted":
			if at >= 0 && out[at].Left.IsZero() {
				out[at].Left = d.At
				out[at].State = web.Status{Kind: "ok", Word: "Passed"}
				out[at].Note = clock(d.At.Sub(out[at].Entered)) + " baked" + compared(samples, d.At)
			}
		case "completed":
			last := &out[len(out)-1]
			last.Entered, last.Left, last.State, last.Note = d.At, d.At, web.Status{Kind: "ok", Word: "All requests"}, ""
		}
	}
	cur := max(at, 0)
	switch {
	case r.State == deploy.Promoting:
		out[len(out)-1].State = web.Status{Kind: "run", Word: "Getting ready"}
	case r.State == deploy.Starting:
		next := min(r.Step, len(out)-1)
		out[next].State = web.Status{Kind: "run", Word: "Getting ready"}
	case r.State == deploy.Baking, r.State == deploy.Paused:
		out[cur].State = web.Status{Kind: "run", Word: "Baking"}
		if r.Held {
			out[cur].State = web.Status{Kind: "wait", Word: "Held"}
		}
		if r.State == deploy.Paused {
			out[cur].State = web.Status{Kind: "wait", Word: "Paused"}
		}
		baked := now.Sub(out[cur].Entered)
		out[cur].Note = clock(min(baked, r.Plan.Bake)) + " of " + clock(r.Plan.Bake) + compared(samples, now)
	case r.State == deploy.RollingBack, r.State == deploy.RolledBack, r.State == deploy.Failed:
		if at >= 0 && out[at].Left.IsZero() {
			out[at].State = web.Status{Kind: "warn", Word: "Taken back"}
			out[at].Note = "after " + clock(r.Decided.Sub(out[at].Entered)) + compared(samples, r.Decided)
		} else if at < 0 {
			out[0].State = web.Status{Kind: "bad", Word: "Did not start"}
		}
	}
	return out
}

// compared counts the requests that canary and baseline had seen at a moment.
func compared(samples []control.Sample, at time.Time) string {
	for i := len(samples) - 1; i >= 0; i-- {
		if !samples[i].Time.After(at) {
			return ", " + plural(samples[i].Canary.Requests+samples[i].Baseline.Requests, "request", "requests") + " compared"
		}
	}
	return ""
}

// speak says the verdict and what comes next.
func speak(r deploy.Rollout, samples []control.Sample, now time.Time, v *web.Rollout) {
	words := ""
	if n := len(samples); n > 0 {
		words = samples[n-1].Words
	}
	next := "100%"
	if r.Step+1 < len(r.Plan.Steps) {
		next = percent(r.Plan.Steps[r.Step+1])
	}
	v.PromoteTo = next
	back := "rolls back by itself the moment a boundary is crossed"
	switch r.State {
	case deploy.Pending, deploy.Starting, deploy.Promoting:
		v.Say = fmt.Sprintf("Processes of %s are being made ready.", v.To)
		v.Next = "Requests go to them once every one of them answers."
	case deploy.Baking:
		v.Say = words
		until := r.StepSince.Add(r.Plan.Bake)
		switch {
		case now.Before(until):
			v.Next = fmt.Sprintf("Goes on to %s by itself at %s if enough requests were seen by then, holds if not, %s.", next, until.UTC().Format("15:04:05"), back)
		case r.Held:
			v.Next = fmt.Sprintf("The bake is over. It holds here until enough requests were seen, then goes on to %s by itself; %s.", next, back)
		default:
			v.Next = fmt.Sprintf("The bake is over. It goes on to %s by itself; %s.", next, back)
		}
		if v.Say == "" {
			v.Say = "No request was compared yet."
		}
	case deploy.Paused:
		v.Say = "Paused. " + words
		v.Next = "The clock stands still until somebody resumes or promotes. It is judged all the same, and " + back + "."
	case deploy.Completed:
		v.Say = fmt.Sprintf("All requests go to %s.", v.To)
		if r.Plan.Strategy == deploy.Direct && !r.Decided.IsZero() {
			v.Say = fmt.Sprintf("%s is back on %s, %s after the decision.", r.Service, v.To, took(r.Finished.Sub(r.Decided)))
		} else if !r.Created.IsZero() && !r.Finished.IsZero() {
			v.Next = fmt.Sprintf("It took %s from start to end.", took(r.Finished.Sub(r.Created)))
		}
		v.Weight = 100
	case deploy.RollingBack:
		v.Say = fmt.Sprintf("Requests go back to %s.", orNothing(v.From))
		v.Next = r.Reason
	case deploy.RolledBack, deploy.Failed:
		v.Say = fmt.Sprintf("%s is back on %s.", r.Service, orNothing(v.From))
		if !r.Decided.IsZero() && r.Finished.After(r.Decided) {
			v.Say = fmt.Sprintf("%s is back on %s, %s after the decision.", r.Service, orNothing(v.From), took(r.Finished.Sub(r.Decided)))
		}
		v.Next = r.Reason
	}
}

func orNothing(version string) string {
	if version == "" {
		return "nothing"
	}
	return version
}

// helm says what the reader can do.
func (d *Data) helm(ctx context.Context, r deploy.Rollout, past []deploy.Rollout, v *web.Rollout) {
	forward := r.State.Live() && r.Intent != deploy.Rollback && r.State != deploy.RollingBack
	v.CanPause = forward && (r.State == deploy.Baking || r.State == deploy.Starting && r.Plan.Strategy == deploy.Steps) && may(ctx, "rollout.pause")
	v.CanResume = r.State == deploy.Paused && may(ctx, "rollout.pause")
	v.CanPromote = (r.State == deploy.Baking || r.State == deploy.Paused) && may(ctx, "rollout.promote")
	mayBack := may(ctx, "rollout.rollback")
	switch {
	case forward && r.From != nil:
		v.CanRollBack, v.BackTo = mayBack, v.From
	case r.State == deploy.Completed:
		env, err := d.Deploy.Environment(ctx, r.ServiceID, r.Environment)
		if err == nil && env.Current == r.ReleaseID && env.Rollout == "" {
			if s, ok := previous(env); ok {
				v.CanRollBack, v.BackTo = mayBack, specTag(s)
			}
		}
	}
	if forward && !mayBack {
		v.Locked = "Rolling back is for maintainers, approvers and admins. Ask one of them."
	}
	if !v.CanRollBack {
		return
	}
	v.Hint = "Roll back asks once: traffic goes to " + v.BackTo + " first, without a build or an approval."
	if times := rollbacks(past); len(times) > 0 {
		last := times[len(times)-1]
		v.Hint += fmt.Sprintf(" The last rollback here took %s.", took(last.Took))
	}
	if v.CanPromote {
		v.Hint += " Promoting early asks for a reason."
	}
}

// previous is the newest good release before the current one: what a rollback without a version goes to.
func previous(e deploy.Environment) (best deploy.Spec, ok bool) {
	for _, r := range e.Ran {
		if r.Spec.ReleaseID < e.Current && e.Bad[r.Spec.Digest] == "" && r.Spec.ReleaseID > best.ReleaseID {
			best, ok = r.Spec, true
		}
	}
	return best, ok
}

// rollbacks are the measured ones among rollouts, oldest first: from the decision
// until every request went to the other release.
func rollbacks(newestFirst []deploy.Rollout) []web.Measured {
	var out []web.Measured
	for i := len(newestFirst) - 1; i >= 0; i-- {
		r := newestFirst[i]
		back := r.State == deploy.RolledBack || r.State == deploy.Completed && r.Intent == deploy.Rollback
		if back && !r.Decided.IsZero() && r.Finished.After(r.Decided) {
			out = append(out, web.Measured{At: r.Finished, Took: r.Finished.Sub(r.Decided)})
		}
	}
	return out
}
