package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/base/fault"
)

// both renders one component after the other.
func both(a, b templ.Component) templ.Component { return templ.Join(a, b) }

func now() view { return view{Now: time.Now().UTC()} }

func (s *Site) overview(r *http.Request) (page, error) {
	v, err := s.data.Overview(r.Context())
	if err != nil {
		return page{}, err
	}
	return page{title: "Recovery readiness", nav: "overview", crumbs: []Link{{Text: "Overview"}}, body: both(overviewPage(v), approvals(v)),
		path: "/live", topics: []string{"overview"}, slow: true,
		parts: []part{{"answer", answer(v)}, {"ready", readiness(v)}, {"ask", approvals(v)}, {"needs", needs(v)}, {"matrix", matrix(v)}}}, nil
}

const runsShown = 50

func (s *Site) runs(r *http.Request) (page, error) {
	rows, err := s.data.Runs(r.Context(), r.URL.Query().Get("before"))
	if err != nil {
		return page{}, err
	}
	more := ""
	if len(rows) >= runsShown {
		more = rows[len(rows)-1].ID
	}
	return page{title: "Runs", nav: "runs", crumbs: []Link{{Text: "Runs"}}, body: runsPage(rows, now(), more)}, nil
}

func (s *Site) run(r *http.Request) (page, error) {
	ctx, id := r.Context(), r.PathValue("id")
	run, err := s.data.Run(ctx, id)
	if err != nil {
		return page{}, err
	}
	v := runView{Run: run, Job: pick(run, r.URL.Query().Get("job"))}
	v.Attempt, _ = strconv.Atoi(r.URL.Query().Get("attempt"))
	if v.Attempt < 1 || v.Attempt > v.Job.Attempts {
		v.Attempt = max(1, v.Job.Attempts)
	}
	if v.Attempt == v.Job.Attempts {
		v.Summary = v.Job.Summary
	}
	p := page{title: run.Title, nav: "runs", crumbs: []Link{{Text: "Runs", Href: "/runs"}, {Text: run.Repository + " " + run.Workflow}},
		path: "/runs/" + url.PathEscape(id) + "/live?job=" + url.QueryEscape(v.Job.ID), topics: []string{"run:" + id}, over: !run.Live}
	if !strings.HasSuffix(r.URL.Path, "/live") && v.Job.ID != "" {
		s.readLog(ctx, &v)
	}
	p.body = runPage(v)
	p.parts = []part{{"run-head", runHead(v)}, {"run-strip", runStrip(v)}, {"run-why", runWhy(v)}, {"run-jobs", runJobs(v)}}
	if len(run.Jobs) > 0 {
		p.parts = append(p.parts, part{"run-time", runTimeline(v)})
	}
	return p, nil
}

// readLog reads what there is of the log that a page shows, and says where the
// rest of it will come from.
func (s *Site) readLog(ctx context.Context, v *runView) {
	base := fmt.Sprintf("/runs/%s/log/%s/%d", url.PathEscape(v.Run.ID), url.PathEscape(v.Job.ID), v.Attempt)
	v.Raw = base
	if v.Job.Attempts == 0 {
		v.LogMissing = "No log yet: the job has not started."
		if v.Job.Done {
			v.LogMissing = "No log: the job did not run."
			if v.Job.Reason != "" {
				v.LogMissing += " " + v.Job.Reason
			}
		}
	} else if log, err := s.data.RunLog(ctx, v.Run.ID, v.Job.ID, v.Attempt, 0, false); err != nil {
		v.LogMissing = s.sentence(ctx, err)
	} else {
		err = v.Log.read(log)
		_ = log.Close()
		if err != nil {
			v.LogMissing = s.sentence(ctx, err)
		}
	}
	if !v.Job.Done && v.Attempt >= v.Job.Attempts {
		v.Follow = fmt.Sprintf("%s/live?offset=%d", base, v.Log.Offset)
	}
}

// rawLog is the log as text, without the marks.
func (s *Site) rawLog(w http.ResponseWriter, r *http.Request) {
	attempt, err := strconv.Atoi(r.PathValue("attempt"))
	if err != nil {
		s.fail(w, r, fault.New(fault.NotFound, "There is no such attempt."))
		return
	}
	log, err := s.data.RunLog(r.Context(), r.PathValue("id"), r.PathValue("job"), attempt, 0, false)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `inline; filename="job.log"`)
	_, _ = io.Copy(w, log)
}

func (s *Site) rollouts(r *http.Request) (page, error) {
	rows, err := s.data.Rollouts(r.Context())
	if err != nil {
		return page{}, err
	}
	return page{title: "Rollouts", nav: "rollouts", crumbs: []Link{{Text: "Rollouts"}}, body: rolloutsPage(rows, now())}, nil
}

func (s *Site) rollout(r *http.Request) (page, error) {
	id := r.PathValue("id")
	v, err := s.data.Rollout(r.Context(), id)
	if err != nil {
		return page{}, err
	}
	return page{title: v.Service + " " + v.To + " to " + v.Environment, nav: "rollouts",
		crumbs: []Link{{Text: "Rollouts", Href: "/rollouts"}, {Text: v.Service + " " + v.To}}, body: both(rolloutPage(v), askRollout(v)),
		path: "/rollouts/" + url.PathEscape(id) + "/live", topics: []string{"rollout:" + id}, over: !v.Live,
		parts: []part{{"ask", askRollout(v)}, {"helm", helm(v)}, {"traffic", traffic(v)}, {"metrics", metrics(v)}, {"decisions", decisions(v)}}}, nil
}

func (s *Site) changes(r *http.Request) (page, error) {
	state := r.URL.Query().Get("state")
	if state != "landed" && state != "all" {
		state = "open"
	}
	rows, err := s.data.Changes(r.Context(), state)
	if err != nil {
		return page{}, err
	}
	return page{title: "Changes", nav: "changes", crumbs: []Link{{Text: "Changes"}}, body: changesPage(rows, state, now())}, nil
}

func (s *Site) change(r *http.Request) (page, error) {
	id := r.PathValue("id")
	c, err := s.data.Change(r.Context(), id)
	if err != nil {
		return page{}, err
	}
	v := now()
	return page{title: c.Title, nav: "changes", crumbs: []Link{{Text: "Changes", Href: "/changes"}, {Text: fmt.Sprintf("%s #%d", c.Repository, c.Number)}},
		body: both(changePage(c, v), askChange(c)), path: "/changes/" + url.PathEscape(id) + "/live", topics: []string{"change:" + id}, over: !c.Open,
		parts: []part{{"ask", askChange(c)}, {"change-head", changeHead(c, v)}, {"change-rules", changeRules(c)}, {"change-checks", changeChecks(c)}, {"change-reviews", changeReviews(c, v)}}}, nil
}

func (s *Site) artifacts(r *http.Request) (page, error) {
	rows, err := s.data.Artifacts(r.Context())
	if err != nil {
		return page{}, err
	}
	return page{title: "Artifacts", nav: "artifacts", crumbs: []Link{{Text: "Artifacts"}}, body: artifactsPage(rows, now())}, nil
}

func (s *Site) artifact(r *http.Request) (page, error) {
	a, err := s.data.Artifact(r.Context(), r.PathValue("id"))
	if err != nil {
		return page{}, err
	}
	return page{title: a.Service + " " + a.Tag, nav: "artifacts", crumbs: []Link{{Text: "Artifacts", Href: "/artifacts"}, {Text: a.Service + " " + a.Version}}, body: artifactPage(a, now())}, nil
}

func (s *Site) audit(r *http.Request) (page, error) {
	q := r.URL.Query()
	f := AuditFilter{Actor: strings.TrimSpace(q.Get("actor")), Action: strings.TrimSpace(q.Get("action")), Subject: strings.TrimSpace(q.Get("subject")), Open: q.Get("entry")}
	if b := q.Get("before"); b != "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil || n < 0 {
			return page{}, fault.New(fault.Invalid, "before must be the position of an entry, not %q.", b)
		}
		f.Before = n
	}
	a, err := s.data.Audit(r.Context(), f)
	if err != nil {
		return page{}, err
	}
	a.Filter = f
	return page{title: "Audit ledger", nav: "audit", crumbs: []Link{{Text: "Audit ledger"}}, body: auditPage(a, now())}, nil
}

func (s *Site) jump(r *http.Request) (page, error) {
	words := strings.TrimSpace(r.URL.Query().Get("q"))
	if len(words) > 200 {
		return page{}, fault.New(fault.Invalid, "That is longer than 200 characters. Jump with a name, a number or an id.")
	}
	var hits []Hit
	if words != "" {
		var err error
		if hits, err = s.data.Find(r.Context(), words); err != nil {
			return page{}, err
		}
	}
	return page{title: "Jump", crumbs: []Link{{Text: "Jump"}}, body: jumpPage(words, hits)}, nil
}
