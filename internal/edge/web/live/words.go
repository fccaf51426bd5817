package live

import (
	"math"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
)

func number[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// percent of a share between 0 and 1: "25%", "0.5%".
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*10000)/100, 'f', -1, 64) + "%"
}

// clock is minutes and seconds.
func clock(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	s := int(d.Seconds()) % 60
	return strconv.Itoa(int(d.Minutes())) + ":" + strings.Repeat("0", 2-len(strconv.Itoa(s))) + strconv.Itoa(s)
}

// took says a measured time.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(math.Round(d.Seconds()*10)/10, 'f', -1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

// tag is a version as people read it: "1.4.0-ab12cd3".
func tag(version, revision string) string {
	if version == "" || revision == "" || strings.Contains(version, "-") {
		return version
	}
	return artifact.TagFor(version, revision)
}

func specTag(s deploy.Spec) string { return tag(s.Version, s.Revision) }

// healthOf is the state of an environment in a word.
func healthOf(e deploy.Environment) web.Status {
	switch {
	case e.Current == "":
		return web.Status{Kind: "off", Word: "Nothing runs yet"}
	case e.HealthySince.IsZero():
		return web.Status{Kind: "bad", Word: "Not healthy"}
	}
	return web.Status{Kind: "ok", Word: "Healthy"}
}

// stateOf is a pipeline's state in a word.
func stateOf(s pipeline.State) web.Status {
	switch s {
	case pipeline.Success:
		return web.Status{Kind: "ok", Word: "Passed"}
	case pipeline.Failure:
		return web.Status{Kind: "bad", Word: "Failed"}
	case pipeline.Cancelled:
		return web.Status{Kind: "skip", Word: "Cancelled"}
	case pipeline.Skipped:
		return web.Status{Kind: "skip", Word: "Skipped"}
	case pipeline.Lost:
		return web.Status{Kind: "warn", Word: "Lost"}
	case pipeline.Refused:
		return web.Status{Kind: "block", Word: "Refused"}
	case pipeline.Running:
		return web.Status{Kind: "run", Word: "Running"}
	case pipeline.Queued:
		return web.Status{Kind: "wait", Word: "Queued"}
	}
	return web.Status{Kind: "off", Word: "Waiting"}
}

// rolloutState is how far a rollout is.
func rolloutState(r deploy.Rollout) web.Status {
	at := percent(r.Share())
	switch r.State {
	case deploy.Pending:
		return web.Status{Kind: "wait", Word: "About to start"}
	case deploy.Starting:
		if r.Plan.Strategy == deploy.Steps {
			return web.Status{Kind: "run", Word: "Getting ready for " + at}
		}
		return web.Status{Kind: "run", Word: "Processes start"}
	case deploy.Baking:
		if r.Held {
			return web.Status{Kind: "wait", Word: "Held at " + at}
		}
		return web.Status{Kind: "run", Word: "Baking at " + at}
	case deploy.Paused:
		return web.Status{Kind: "wait", Word: "Paused at " + at}
	case deploy.Promoting:
		return web.Status{Kind: "run", Word: "Going to 100%"}
	case deploy.Completed:
		if r.Intent == deploy.Rollback {
			return web.Status{Kind: "ok", Word: "Back"}
		}
		return web.Status{Kind: "ok", Word: "Complete"}
	case deploy.RollingBack:
		return web.Status{Kind: "warn", Word: "Going back"}
	case deploy.RolledBack:
		return web.Status{Kind: "warn", Word: "Rolled back"}
	case deploy.Failed:
		return web.Status{Kind: "bad", Word: "Failed to start"}
	}
	return web.Status{Kind: "off", Word: string(r.State)}
}

// decisionState is the mark beside a line of a rollout's log.
func decisionState(kind string) web.Status {
	switch kind {
	case "held", "paused":
		return web.Status{Kind: "wait", Word: "Held"}
	case "verdict", "rolled_back":
		return web.Status{Kind: "warn", Word: "Went back"}
	case "failed":
		return web.Status{Kind: "bad", Word: "Failed"}
	case "started", "step":
		return web.Status{Kind: "run", Word: "Moved"}
	}
	return web.Status{Kind: "ok", Word: "Went on"}
}

// rulesOf are policy's results in the pages' form.
func rulesOf(results []policy.RuleResult) []web.Rule {
	out := make([]web.Rule, len(results))
	for i, r := range results {
		out[i] = web.Rule{Name: r.Rule, Message: r.Message, Source: r.Source, Allow: r.Allow, Missing: r.Missing, Who: r.Who}
	}
	return out
}
