package live

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/control"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
	"weir/internal/source"
)

// state is everything that the overview looks at.
type state struct {
	now        time.Time
	services   []catalog.Ref
	declared   map[string]catalog.Declared // by service id; none if the trunk no longer declares it
	envs       map[string]deploy.Environment
	live       []deploy.Rollout
	past       map[string][]deploy.Rollout // by service and environment, newest first
	promotions []deploy.Promotion          // waiting
}

func key(serviceID, environment string) string { return serviceID + "/" + environment }

func (d *Data) look(ctx context.Context) (state, error) {
	s := state{now: d.now(), declared: map[string]catalog.Declared{}, envs: map[string]deploy.Environment{}, past: map[string][]deploy.Rollout{}}
	var err error
	if s.services, err = d.Catalog.Services(ctx); err != nil {
		return s, err
	}
	for _, ref := range s.services {
		decl, err := d.Catalog.Declared(ctx, ref.ID)
		if err == nil {
			s.declared[ref.ID] = decl
		} else if fault.KindOf(err) == "" {
			return s, err
		}
	}
	envs, err := d.Deploy.Environments(ctx)
	if err != nil {
		return s, err
	}
	for _, e := range envs {
		s.envs[key(e.ServiceID, e.Environment)] = e
		past, err := d.Deploy.Rollouts(ctx, deploy.Filter{ServiceID: e.ServiceID, Environment: e.Environment, Limit: 100})
		if err != nil {
			return s, err
		}
		s.past[key(e.ServiceID, e.Environment)] = past
	}
	if s.live, err = d.Deploy.Rollouts(ctx, deploy.Filter{Live: true, Limit: 100}); err != nil {
		return s, err
	}
	s.promotions, err = d.Deploy.Promotions(ctx, deploy.Filter{Live: true, Limit: 200})
	return s, err
}

// Overview implements web.Data.
func (d *Data) Overview(ctx context.Context) (web.Overview, error) {
	s, err := d.look(ctx)
	if err != nil {
		return web.Overview{}, err
	}
	v := web.Overview{Now: s.now}
	changes, err := d.Source.List(ctx, "", source.Open)
	if err != nil {
		return v, err
	}
	runs, err := d.Pipeline.List(ctx, pipeline.Filter{Limit: 50})
	if err != nil {
		return v, err
	}
	v.Flow = web.Flow{InReview: len(changes), Waiting: len(s.promotions), RollingOut: len(s.live)}
	for _, r := range runs {
		if !r.State.Done() {
			v.Flow.Building++
		}
	}
	for _, ref := range s.services {
		v.Services = append(v.Services, d.readiness(ctx, s, ref))
	}
	// Those that cannot go back stand first.
	slices.SortStableFunc(v.Services, func(a, b web.Readiness) int { return cmp.Compare(b2i(a.Blocks == ""), b2i(b.Blocks == "")) })
	if v.Needs, err = d.needs(ctx, s); err != nil {
		return v, err
	}
	v.Environments, v.Matrix = matrix(s)
	v.Delivery = delivery(s)
	return v, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// last is the environment that a service's releases reach last.
func (s state) last(serviceID string) string {
	if order := s.declared[serviceID].Order; len(order) > 0 {
		return order[len(order)-1]
	}
	return ""
}

func (d *Data) readiness(ctx context.Context, s state, ref catalog.Ref) web.Readiness {
	name := s.last(ref.ID)
	r := web.Readiness{Service: ref.Name, Href: "/#matrix", Environment: name, State: web.Status{Kind: "off", Word: "Nothing runs yet"}}
	if name == "" {
		r.Note = "The trunk declares no environment for it."
		return r
	}
	r.Objective = time.Duration(s.declared[ref.ID].Environments[name].Recovery.Objective)
	env, ok := s.envs[key(ref.ID, name)]
	if !ok || env.Current == "" {
		r.Note = "nothing runs in " + name + " yet"
		return r
	}
	r.State = healthOf(env)
	past := s.past[key(ref.ID, name)]
	if env.Rollout != "" {
		r.State, r.Href = web.Status{Kind: "run", Word: "Rolling out"}, "/rollouts/"+string(env.Rollout)
	} else if len(past) > 0 {
		r.Href = "/rollouts/" + string(past[0].ID)
	}
	var drills []deploy.Rollout
	var real []deploy.Rollout
	for _, p := range past {
		if p.Intent == deploy.Drill {
			drills = append(drills, p)
		} else {
			real = append(real, p)
		}
	}
	r.Drills, r.Rollbacks = rollbacks(drills), rollbacks(real)
	d.blocks(ctx, env, &r)
	return r
}

// blocks says what would keep an environment from going back now.
func (d *Data) blocks(ctx context.Context, env deploy.Environment, r *web.Readiness) {
	to, ok := previous(env)
	if env.Rollout != "" && env.Current != "" {
		// What runs beside the canary is what to go back to.
		for _, ran := range env.Ran {
			if ran.Spec.ReleaseID == env.Current {
				to, ok = ran.Spec, true
			}
		}
	}
	if !ok {
		// Nothing is wrong with a service that is new, or that has gone all the way back.
		r.Oldest, r.Note = true, "It runs its first release here; the next one makes it the way back."
		if len(env.Ran) > 1 {
			r.Note = "It runs the oldest good release; the way on is forward."
		}
		return
	}
	run := d.running(ctx, env.ServiceID, env.Environment)
	switch {
	case run == nil:
		r.Unknown, r.Note = true, "The host does not answer. `weir host rollback` works on the machine itself."
	case slices.Contains(run.Warm, to.ReleaseID):
		r.Note = specTag(to) + " is warm on the host"
	case slices.Contains(run.Kept, to.ReleaseID), slices.ContainsFunc(run.Slots, func(s deploy.SlotState) bool { return s.ReleaseID == to.ReleaseID }):
		r.Note = specTag(to) + " is kept on the host"
	default:
		r.Blocks = specTag(to) + " is not on the host any more."
		r.BlocksMore = web.Link{Text: "A rollback would have to fetch it first."}
	}
}

// needs is what waits for the reader.
func (d *Data) needs(ctx context.Context, s state) ([]web.Need, error) {
	var out []web.Need
	approves := may(ctx, "release.approve")
	for _, p := range s.promotions {
		label := p.Version
		if rel, err := d.Deploy.Release(ctx, p.ReleaseID); err == nil {
			label = tag(rel.Version, rel.Revision)
		}
		for _, b := range p.Blocks {
			if b.Rule != approvalRule || !approves {
				continue
			}
			n := web.Need{State: web.Status{Kind: "wait", Word: "Awaiting approval"}, Title: fmt.Sprintf("Approve %s %s to %s", p.Service, label, p.Environment), Detail: b.Message, Since: b.Since,
				Promotion: string(p.ID), Version: label, To: p.Service + " in " + p.Environment}
			if len(b.Who) > 0 && len(b.Who) < 8 {
				n.Detail += " Can approve: " + strings.Join(b.Who, ", ") + "."
			}
			out = append(out, n)
		}
	}
	for _, r := range s.live {
		if r.Held || r.State == deploy.Paused {
			st := rolloutState(r)
			out = append(out, web.Need{State: web.Status{Kind: "wait", Word: st.Word}, Title: fmt.Sprintf("%s %s is %s in %s", r.Service, tag(r.Version, r.Revision), strings.ToLower(st.Word), r.Environment),
				Href: "/rollouts/" + string(r.ID), Detail: "It goes on by itself when enough requests were seen, or when somebody promotes it.", Since: r.StepSince})
			if r.State == deploy.Paused {
				out[len(out)-1].Detail = "It goes on when somebody resumes it."
			}
		}
	}
	for _, ref := range s.services {
		for _, name := range s.declared[ref.ID].Order {
			if e := s.envs[key(ref.ID, name)]; e.Exposed() != "" {
				out = append(out, web.Need{State: web.Status{Kind: "bad", Word: "Vulnerable"}, Title: fmt.Sprintf("%s %s runs in %s over the limit of vulnerabilities", e.Service, e.Version, name),
					Href: "/artifacts/" + e.Digest + "#vulns", Detail: e.Exposed(), Since: e.Exposure.Since})
			}
		}
	}
	if may(ctx, "change.review") {
		changes, err := d.Source.List(ctx, "", source.Open)
		if err != nil {
			return nil, err
		}
		me := identity.From(ctx).Name
		for _, c := range changes {
			if c.Author == me || len(out) >= 12 {
				continue
			}
			got, err := d.Source.Get(ctx, c.ID)
			if err != nil || slices.ContainsFunc(got.Reviews, func(r source.Review) bool { return r.Revision == c.Revision }) {
				continue
			}
			out = append(out, web.Need{State: web.Status{Kind: "wait", Word: "To review"}, Title: fmt.Sprintf("Review #%d %s", c.Number, c.Title), Href: "/changes/" + c.ID, Detail: "By " + c.Author + "; nobody has reviewed this patchset.", Since: c.Created})
		}
	}
	intakes, err := d.Config.Artifact.Intakes(ctx, artifact.Filter{Limit: 20})
	if err != nil {
		return nil, err
	}
	for _, i := range intakes {
		if i.State == artifact.Rejected || i.State == artifact.Refused {
			why := i.Failure
			for _, b := range i.Progress.Blocks {
				why = b.Message
			}
			out = append(out, web.Need{State: web.Status{Kind: "block", Word: "Not admitted"}, Title: fmt.Sprintf("%s %s was not admitted", i.Output.Service, tag(i.Output.Version, i.Output.Revision)), Href: "/runs/" + string(i.Output.RunID), Detail: why, Since: i.Updated})
		}
	}
	return out, nil
}

// approvalRule is the rule that people release by approving.
const approvalRule = "environment.approvals"

// matrix is what runs where: a service a line, environments in the order that
// releases pass them.
func matrix(s state) ([]string, []web.MatrixRow) {
	var names []string
	for _, ref := range s.services {
		at := 0
		for _, n := range s.declared[ref.ID].Order {
			if i := slices.Index(names, n); i >= 0 {
				at = i + 1
				continue
			}
			names = slices.Insert(names, at, n)
			at++
		}
	}
	var rows []web.MatrixRow
	for _, ref := range s.services {
		decl := s.declared[ref.ID]
		row := web.MatrixRow{Service: ref.Name, Tier: decl.Tier, Cells: make([]web.Cell, len(names))}
		for i, n := range names {
			if slices.Contains(decl.Order, n) {
				row.Cells[i] = s.cell(ref.ID, n)
			}
		}
		rows = append(rows, row)
	}
	return names, rows
}

func (s state) cell(serviceID, name string) web.Cell {
	env, ok := s.envs[key(serviceID, name)]
	c := web.Cell{State: web.Status{Word: "Nothing runs here yet"}}
	if ok && env.Current != "" {
		c = web.Cell{State: healthOf(env), Version: env.Version, Since: env.Since}
		for _, r := range env.Ran {
			if r.Spec.ReleaseID == env.Current {
				c.Version = specTag(r.Spec)
			}
		}
		if past := s.past[key(serviceID, name)]; len(past) > 0 {
			c.Href = "/rollouts/" + string(past[0].ID)
		}
	}
	for _, p := range s.promotions {
		if p.ServiceID == serviceID && p.Environment == name && len(p.Blocks) > 0 && c.Note == nil {
			c.Note = waiting(p)
		}
	}
	for _, r := range s.live {
		if r.ServiceID != serviceID || r.Environment != name {
			continue
		}
		st := rolloutState(r)
		if r.From != nil && r.Share() > 0 && r.Plan.Strategy == deploy.Steps {
			c.Split = &web.Split{Old: specTag(*r.From), New: specTag(r.To), Percent: 100 * r.Share(), Href: "/rollouts/" + string(r.ID), State: st}
			continue
		}
		note := web.Status{Kind: st.Kind, Word: specTag(r.To) + ": " + strings.ToLower(st.Word)}
		c.Note, c.Href = &note, "/rollouts/"+string(r.ID)
	}
	// What runs here has moved on, or wants to.
	order := s.declared[serviceID].Order
	if i := slices.Index(order, name); i >= 0 && i+1 < len(order) && c.Version != "" {
		next := s.envs[key(serviceID, order[i+1])]
		for _, p := range s.promotions {
			if p.ServiceID == serviceID && p.Environment == order[i+1] && p.ReleaseID == env.Current {
				c.To = "held"
			}
		}
		for _, r := range s.live {
			if r.ServiceID == serviceID && r.Environment == order[i+1] && r.ReleaseID == env.Current {
				c.To = "same"
			}
		}
		if next.Digest == env.Digest && next.Digest != "" {
			c.To = "same"
		}
	}
	return c
}

func waiting(p deploy.Promotion) *web.Status {
	st := web.Status{Kind: "wait", Word: p.Version + " waits"}
	switch p.Blocks[0].Rule {
	case approvalRule:
		st.Word = p.Version + " awaits approval"
	case "environment.after":
		st.Word = p.Version + " waits for its time before"
	case "release.not_bad":
		st = web.Status{Kind: "block", Word: p.Version + " is remembered as bad"}
	case "environment.freeze":
		st = web.Status{Kind: "block", Word: p.Version + " waits: frozen"}
	case "one-rollout":
		st.Word = p.Version + " is next"
	}
	return &st
}

// delivery is what was delivered to last environments. Nothing delivered,
// nothing shown.
func delivery(s state) *web.Delivery {
	const days = 30
	var rollouts []deploy.Rollout
	for _, ref := range s.services {
		rollouts = append(rollouts, s.past[key(ref.ID, s.last(ref.ID))]...)
	}
	d := control.Deliveries(rollouts, days*24*time.Hour, s.now)
	if d.Begun() == 0 {
		return nil
	}
	tile := func(name string, m control.Median, one, many string) web.Tile {
		t := web.Tile{Name: name, Of: "no " + one + " yet"}
		if m.Of > 0 {
			t.Value, t.Unit, t.Of = long(m.Time), "median", "of "+plural(m.Of, one, many)
		}
		return t
	}
	return &web.Delivery{Days: days, Tiles: []web.Tile{
		{Name: "Deployments", Value: number(d.Complete), Unit: "complete", Of: fmt.Sprintf("of %s begun", number(d.Begun()))},
		tile("Change lead time", d.Lead, "deployment", "deployments"),
		tile("Failed deployment recovery", d.Recovery, "failed deployment", "failed deployments"),
		{Name: "Change fail rate", Value: fmt.Sprintf("%d%%", 100*d.Failed/d.Begun()), Of: fmt.Sprintf("%d of %d", d.Failed, d.Begun()), Note: "taken back, or did not start"},
	}}
}

// long says a duration of minutes to days.
func long(d time.Duration) string {
	switch {
	case d < time.Minute:
		return took(d)
	case d < time.Hour:
		return fmt.Sprintf("%d m %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d m", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d", int(d.Hours())/24)
}
