package engine

import (
	"context"
	"log/slog"
	"time"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// entered reports whether jobs of r may enter an environment. A question that cannot be answered is a no; the next pass asks again.
func (d *driver) entered(r *pipeline.Run, environment string) bool {
	if d.Environments == nil {
		return true
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	hold, err := d.Environments.Entry(ctx, r, environment)
	if err != nil {
		slog.ErrorContext(ctx, "environment's rules not read; its jobs wait", "run", r.ID, "environment", environment, "error", err)
	}
	return err == nil && hold == nil
}

// displaceJobs lets jobs that have just become ready take the place of older ones of their concurrency groups: one of a group runs,
// and the newest waits. It returns r without those of its own that gave way.
func (d *driver) displaceJobs(ctx, jobs context.Context, r pipeline.Run, now time.Time, ready map[string][]int) (pipeline.Run, []pipeline.Action, error) {
	var actions []pipeline.Action
	for group, fresh := range ready {
		cancel := r.Plan.Jobs[fresh[len(fresh)-1]].Concurrency.CancelInProgress
		keep := []pipeline.JobID{r.Jobs[fresh[len(fresh)-1]].ID}
		if held := d.held(&r, group); !held && !cancel {
			keep = append(keep, r.Jobs[fresh[0]].ID) // it is about to run
		}
		var kills []pipeline.Action
		r, kills = r.Displace(now, group, cancel, keep...)
		actions = append(actions, kills...)
		for id, other := range d.runs {
			if id == r.ID || other.RepositoryID != r.RepositoryID || !inGroup(&other, group) {
				continue
			}
			var changed pipeline.Run
			err := d.move(ctx, jobs, id, func(o pipeline.Run, now time.Time) pipeline.Run {
				changed, kills = o.Displace(now, group, cancel)
				return changed
			})
			if err != nil {
				return r, actions, err
			}
			for _, k := range kills {
				d.act(jobs, changed, k, runner.Place{})
			}
		}
	}
	return r, actions, nil
}

// ready lists the jobs that became ready between two states of a run, by concurrency group.
func ready(prev, r *pipeline.Run) map[string][]int {
	var out map[string][]int
	for i := range r.Jobs {
		c := r.Plan.Jobs[i].Concurrency
		if c == nil || !c.Resolved || r.Jobs[i].State != pipeline.Queued || i < len(prev.Jobs) && prev.Jobs[i].State == pipeline.Queued {
			continue
		}
		if out == nil {
			out = map[string][]int{}
		}
		out[c.Group] = append(out[c.Group], i)
	}
	return out
}

// held reports whether a job of a group runs, in r or in another run of its repository.
func (d *driver) held(r *pipeline.Run, group string) bool {
	if d.holds(r, group) {
		return true
	}
	for id, other := range d.runs {
		if id != r.ID && other.RepositoryID == r.RepositoryID && d.holds(&other, group) {
			return true
		}
	}
	return false
}

func inGroup(r *pipeline.Run, group string) bool {
	for i := range r.Jobs {
		if c := r.Plan.Jobs[i].Concurrency; c != nil && c.Resolved && c.Group == group && (r.Jobs[i].State == pipeline.Queued || r.Jobs[i].State == pipeline.Running) {
			return true
		}
	}
	return false
}
