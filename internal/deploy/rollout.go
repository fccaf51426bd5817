package deploy

import (
	"encoding/json"
	"fmt"
	"time"
)

// RolloutID names a rollout.
type RolloutID string

// Rollout moves one environment to one release.
type Rollout struct {
	ID            RolloutID `json:"id"`
	Org           string    `json:"org"`
	ServiceID     string    `json:"service_id"`
	Service       string    `json:"service"`
	Environment   string    `json:"environment"`
	ReleaseID     ReleaseID `json:"release_id"`
	Version       string    `json:"version"`
	Digest        string    `json:"digest"`
	Revision      string    `json:"revision"`
	FromReleaseID ReleaseID `json:"from_release_id"` // "" for the first
	FromVersion   string    `json:"from_version"`
	Intent        Intent    `json:"intent"`
	Plan          Plan      `json:"plan"`
	Step          int       `json:"step"` // of Plan.Steps
	State         State     `json:"state"`
	Resume        State     `json:"resume,omitempty"` // what Paused goes back to
	Ending        State     `json:"ending,omitempty"` // what RollingBack ends as
	Held          bool      `json:"held,omitempty"`   // this step is over its bake and undecided, which was said
	Generation    int64     `json:"generation"`       // of the environment's desired state that this waits for
	Reason        string    `json:"reason,omitempty"` // why it ended as it did
	By            string    `json:"by"`
	DecisionID    string    `json:"decision_id"` // of policy, that let it start
	Targets       []string  `json:"targets"`
	Created       time.Time `json:"created"`
	StepSince     time.Time `json:"step_since"` // since requests are as the step wants them
	Decided       time.Time `json:"decided"`    // when it was decided to go back
	Finished      time.Time `json:"finished"`
	CommitTime    time.Time `json:"commit_time"`
	From          *Spec     `json:"from,omitempty"`
	To            Spec      `json:"to"`
}

// Intent says why there is a rollout.
type Intent string

const (
	Planned  Intent = "planned"
	Hotfix   Intent = "hotfix"
	Rollback Intent = "rollback"
	Drill    Intent = "drill"
	Config   Intent = "config"
)

// State is how far a rollout is. See the diagram in doc.go.
type State string

const (
	Pending     State = "pending"
	Starting    State = "starting"
	Baking      State = "baking"
	Paused      State = "paused"
	Promoting   State = "promoting"
	Completed   State = "completed"
	RollingBack State = "rolling_back"
	RolledBack  State = "rolled_back"
	Failed      State = "failed"
)

// Live reports whether the rollout still has something to do.
func (s State) Live() bool { return s != Completed && s != RolledBack && s != Failed }

// Share is the canary's share of requests in this state.
func (r Rollout) Share() float64 {
	switch r.State {
	case Promoting, Completed:
		return 1
	case RollingBack, RolledBack, Failed, Pending:
		return 0
	}
	if r.Plan.Strategy == Steps && r.Step < len(r.Plan.Steps) {
		return r.Plan.Steps[r.Step]
	}
	return 0
}

// Sight is what was seen of the environment's targets, as one.
type Sight struct {
	Known   bool   // every target answered
	Applied int64  // the generation whose traffic is in force everywhere
	Failed  string // why the rollout's own release cannot run, if so
	Ready   bool   // every process that gets requests is ready
}

// Verdict is what the judge says of a canary.
type Verdict struct {
	Outcome Outcome         `json:"outcome"`
	Words   string          `json:"words"`
	Figures json.RawMessage `json:"figures,omitempty"`
}

// Outcome of a comparison.
type Outcome string

const (
	Hold Outcome = "hold" // nothing can be told yet, or there are no data
	Pass Outcome = "pass" // enough was seen, and it is no worse
	Stop Outcome = "stop" // it is worse
)

// Decision is one line of a rollout's log. Lines are appended and never changed.
type Decision struct {
	Rollout RolloutID       `json:"rollout"`
	At      time.Time       `json:"at"`
	Kind    string          `json:"kind"` // started, step, held, paused, resumed, promoted, verdict, rolled_back, completed, failed
	Bold    string          `json:"bold"`
	Reason  string          `json:"reason"`
	By      string          `json:"by"`
	Figures json.RawMessage `json:"figures,omitempty"`
}

// Move is what came of a look at a rollout: its new state and what has to be stored and done with it.
type Move struct {
	Rollout   Rollout
	Slots     []Slot // the environment's new desired state, nil if it stays
	Decisions []Decision
	Ask       bool   // the next step is due: policy is asked, then Enter
	Bad       string // why the release is to be remembered as bad, "" if not
}

// Changed reports whether there is anything to store.
func (m Move) Changed(r Rollout) bool {
	return m.Slots != nil || len(m.Decisions) > 0 || m.Rollout.State != r.State || m.Rollout.Step != r.Step
}

func (m *Move) say(now time.Time, kind, bold, reason string, figures json.RawMessage) {
	m.Decisions = append(m.Decisions, Decision{m.Rollout.ID, now, kind, bold, reason, "", figures})
}

// Next says what r needs now. It reads no clock and touches nothing.
func (r Rollout) Next(now time.Time, s Sight, v Verdict) Move {
	m := Move{Rollout: r}
	switch r.State {
	case Pending:
		return r.start(now)
	case Starting, Promoting:
		switch {
		case s.Failed != "":
			return r.back(now, Failed, "failed", "Failed to start", s.Failed, nil)
		case !s.Known || s.Applied < r.Generation:
			if r.Plan.Strategy == Steps && r.State == Starting && r.Step > 0 && v.Outcome == Stop {
				return r.stopped(now, v)
			}
			return m
		case r.Plan.Strategy == Steps && r.State == Starting:
			m.Rollout.State, m.Rollout.StepSince, m.Rollout.Held = Baking, now, false
			m.say(now, "step", fmt.Sprintf("%s of requests", percent(r.Plan.Steps[r.Step])), fmt.Sprintf("They go to %s since now, as many to a fresh baseline of %s. At least %s.", r.Version, r.FromVersion, r.Plan.Bake), nil)
			return m
		}
		return r.complete(now)
	case Baking, Paused:
		switch {
		case v.Outcome == Stop:
			return r.stopped(now, v)
		case s.Failed != "":
			return r.back(now, RolledBack, "rolled_back", "Rolled back", s.Failed, nil)
		case r.State == Paused || now.Before(r.StepSince.Add(r.Plan.Bake)):
			return m
		case v.Outcome == Pass:
			m.Ask = true
			return m
		case !r.Held:
			m.Rollout.Held = true
			m.say(now, "held", "Held", v.Words, v.Figures)
		}
		return m
	case RollingBack:
		if s.Known && s.Applied >= r.Generation {
			m.Rollout.State, m.Rollout.Finished = r.Ending, now
			m.say(now, string(r.Ending), sentenceOf(r.Ending), fmt.Sprintf("All requests go to %s since now, %s after the decision.", orNothing(r.FromVersion), now.Sub(r.Decided).Round(time.Millisecond)), nil)
		}
	}
	return m
}

func sentenceOf(s State) string {
	if s == Failed {
		return "Failed"
	}
	return "Back"
}

func orNothing(version string) string {
	if version == "" {
		return "nothing"
	}
	return version
}

func (r Rollout) start(now time.Time) Move {
	m := Move{Rollout: r}
	m.Rollout.State = Starting
	switch r.Plan.Strategy {
	case Steps:
		m.Slots = split(*r.From, r.To, r.Plan.Steps[0])
		m.say(now, "started", "Started", fmt.Sprintf("%s starts next to %s, with a fresh baseline to compare it with.", r.Version, r.FromVersion), nil)
	case First:
		m.Slots = all(r.To)
		m.say(now, "started", "Started", fmt.Sprintf("%s is the first release in %s. There is no baseline to compare it with: it gets all requests once it is healthy.", r.Version, r.Environment), nil)
	case Direct:
		m.Slots = all(r.To)
		m.Rollout.Decided = now
		m.say(now, "started", "Rollback", fmt.Sprintf("From %s to %s, which ran here before: no build, no approval.", r.FromVersion, r.Version), nil)
	default:
		m.Slots = all(r.To)
		m.say(now, "started", "Started", fmt.Sprintf("Healthy processes of %s take over from %s.", r.Version, r.FromVersion), nil)
	}
	return m
}

// Enter goes on to the next share, or to all requests. Policy has agreed, or a person has promoted.
func (r Rollout) Enter(now time.Time, kind, reason string, figures json.RawMessage) Move {
	m := Move{Rollout: r}
	m.Rollout.Held, m.Rollout.Resume = false, ""
	if next := r.Step + 1; next < len(r.Plan.Steps) {
		m.Rollout.State, m.Rollout.Step = Starting, next
		m.Slots = split(*r.From, r.To, r.Plan.Steps[next])
		m.say(now, kind, "On to "+percent(r.Plan.Steps[next]), reason, figures)
		return m
	}
	m.Rollout.State = Promoting
	m.Slots = all(r.To)
	m.say(now, kind, "On to 100%", reason, figures)
	return m
}

func (r Rollout) complete(now time.Time) Move {
	m := Move{Rollout: r}
	m.Rollout.State, m.Rollout.Finished = Completed, now
	reason := fmt.Sprintf("All requests go to %s since now.", r.Version)
	if r.Plan.Strategy == Direct {
		reason = fmt.Sprintf("All requests go to %s since now, %s after the decision.", r.Version, now.Sub(r.Decided).Round(time.Millisecond))
	}
	m.say(now, "completed", "Complete", reason, nil)
	return m
}

func (r Rollout) stopped(now time.Time, v Verdict) Move {
	m := r.back(now, RolledBack, "verdict", "Rolled back", v.Words, v.Figures)
	m.Bad = v.Words
	return m
}

// back takes requests off the release first; everything else follows.
func (r Rollout) back(now time.Time, ending State, kind, bold, reason string, figures json.RawMessage) Move {
	m := Move{Rollout: r}
	m.Rollout.Ending, m.Rollout.Reason, m.Rollout.Decided = ending, reason, now
	m.Rollout.State = RollingBack
	m.say(now, kind, bold, reason, figures)
	m.Slots = []Slot{}
	if r.From != nil {
		m.Slots = all(*r.From)
	}
	return m
}

// Back is back, as a person decided it.
func (r Rollout) Back(now time.Time, reason string) Move {
	return r.back(now, RolledBack, "rolled_back", "Rolled back", reason, nil)
}

// Pause stops the clock of a canary. It is judged all the same, and can still be rolled back.
func (r Rollout) Pause(now time.Time) Move {
	m := Move{Rollout: r}
	m.Rollout.State, m.Rollout.Resume = Paused, r.State
	m.say(now, "paused", "Paused", fmt.Sprintf("At %s of requests. It is still judged.", percent(r.Share())), nil)
	return m
}

// Continue is the reverse of Pause.
func (r Rollout) Continue(now time.Time) Move {
	m := Move{Rollout: r}
	m.Rollout.State, m.Rollout.Resume = r.Resume, ""
	m.say(now, "resumed", "Resumed", "", nil)
	return m
}

func percent(share float64) string { return fmt.Sprintf("%.4g%%", 100*share) }
