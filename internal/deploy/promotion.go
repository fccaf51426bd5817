package deploy

import "time"

// PromotionID names a promotion.
type PromotionID string

// Promotion is a release that wants one environment.
type Promotion struct {
	ID           PromotionID    `json:"id"`
	Org          string         `json:"org"`
	ServiceID    string         `json:"service_id"`
	Service      string         `json:"service"`
	Environment  string         `json:"environment"`
	ReleaseID    ReleaseID      `json:"release_id"`
	Version      string         `json:"version"`
	Digest       string         `json:"digest"`
	ConfigDigest string         `json:"config_digest"`
	State        PromotionState `json:"state"`
	Blocks       []Block        `json:"blocks"`      // what it waits for
	DecisionID   string         `json:"decision_id"` // the last that policy gave
	Created      time.Time      `json:"created"`
	Updated      time.Time      `json:"updated"`
	RolloutID    RolloutID      `json:"rollout_id,omitempty"`
	Copy         *Copy          `json:"copy,omitempty"` // to the environment's own registry, if it names one
}

// PromotionState is how far a promotion is.
type PromotionState string

const (
	Waiting    PromotionState = "waiting"
	Allowed    PromotionState = "allowed" // its rollout exists
	Superseded PromotionState = "superseded"
)

// Block is one reason why something does not go on.
type Block struct {
	Rule    string    `json:"rule"`
	Message string    `json:"message"`
	Source  string    `json:"source"` // where the rule is written
	Since   time.Time `json:"since"`
	Who     []string  `json:"who,omitempty"` // people, roles or parts that can release it
}

// sameBlocks ignores times, and keeps the old ones.
func sameBlocks(old, now []Block) bool {
	if len(old) != len(now) {
		return false
	}
	for i := range old {
		if old[i].Rule != now[i].Rule || old[i].Message != now[i].Message {
			return false
		}
	}
	return true
}

// since carries over when a rule began to block.
func since(old, now []Block, at time.Time) []Block {
	out := make([]Block, len(now))
	for i, b := range now {
		out[i] = b
		if out[i].Since.IsZero() {
			out[i].Since = at
		}
		for _, o := range old {
			if o.Rule == b.Rule {
				out[i].Since = o.Since
			}
		}
	}
	return out
}

// Environment is one service in one environment.
type Environment struct {
	Org         string    `json:"org"`
	ServiceID   string    `json:"service_id"`
	Service     string    `json:"service"`
	Environment string    `json:"environment"`
	Targets     []string  `json:"targets"`
	Current     ReleaseID `json:"current"` // what all requests go to, apart from a canary
	Version     string    `json:"version"`
	Digest      string    `json:"digest"`
	Since       time.Time `json:"since"` // of Current
	// HealthySince is when Current was last not healthy; zero while it is not.
	HealthySince time.Time `json:"healthy_since"`
	Rollout      RolloutID `json:"rollout"` // the live one, or ""
	Last         RolloutID `json:"last"`    // the last that ended
	// Generation and Slots are what targets are told to be.
	Generation int64             `json:"generation"`
	Slots      []Slot            `json:"slots"`
	Ran        []Ran             `json:"ran"` // releases that all requests went to, newest last
	Bad        map[string]string `json:"bad"` // digests remembered as bad, with the reason
	// Exposure is what policy said last of the vulnerabilities of Current; nil if it was not asked.
	Exposure *Exposure `json:"exposure,omitempty"`
	// Noted is the last event of each target that is part of this state.
	Noted map[string]string `json:"noted,omitempty"`
}

// Ran is a release that was complete in an environment.
type Ran struct {
	Spec Spec      `json:"spec"`
	At   time.Time `json:"at"`
}

// ranHere finds a release by id, version or digest.
func (e Environment) ranHere(to string) (Spec, bool) {
	for i := len(e.Ran) - 1; i >= 0; i-- {
		s := e.Ran[i].Spec
		if string(s.ReleaseID) == to || s.Version == to || s.Digest == to {
			return s, true
		}
	}
	return Spec{}, false
}

// previous is the newest good release before the current one.
func (e Environment) previous() (Spec, bool) {
	var best Spec
	for _, r := range e.Ran {
		if r.Spec.ReleaseID < e.Current && e.Bad[r.Spec.Digest] == "" && r.Spec.ReleaseID > best.ReleaseID {
			best = r.Spec
		}
	}
	return best, best.ReleaseID != ""
}

// now makes a release the current one.
func (e Environment) now(s Spec, at time.Time) Environment {
	ran := make([]Ran, 0, len(e.Ran)+1)
	for _, r := range e.Ran {
		if r.Spec.ReleaseID != s.ReleaseID {
			ran = append(ran, r)
		}
	}
	ran = append(ran, Ran{s, at})
	e.Ran = ran[max(0, len(ran)-50):]
	e.Exposure = nil
	e.Current, e.Version, e.Digest, e.Since, e.HealthySince = s.ReleaseID, s.Version, s.Digest, at, at
	return e
}
