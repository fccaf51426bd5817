package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
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
	q := r.URL.Query()
	get := func(k string) string { v := strings.TrimSpace(q.Get(k)); return v[:min(len(v), 200)] }
	f := RunFilter{Repository: get("repository"), Workflow: get("workflow"), Branch: get("branch"), State: get("state"), Actor: get("actor"), Before: get("before")}
	v, err := s.data.Runs(r.Context(), f)
	if err != nil {
		return page{}, err
	}
	list := runList{Runs: v, Filter: f}
	if len(v.Rows) >= runsShown {
		next := f
		next.Before = v.Rows[len(v.Rows)-1].ID
		list.More = next.url("/runs")
	}
	return page{title: "Runs", nav: "runs", crumbs: []Link{{Text: "Runs"}}, body: runsPage(list, now()), path: string(f.url("/runs/live")), topics: []string{"runs"}, slow: true,
		parts: []part{{"runs-rows", runsRows(list, now())}}}, nil
}

func (s *Site) run(r *http.Request) (page, error) {
	ctx, id, q := r.Context(), r.PathValue("id"), r.URL.Query()
	run, err := s.data.Run(ctx, id)
	if err != nil {
		return page{}, err
	}
	v := runView{Run: run, Job: pick(run, q.Get("job")), Tab: tabOf(q.Get("tab")), Query: strings.TrimSpace(q.Get("q")), JobState: q.Get("jobs"), JobText: strings.TrimSpace(q.Get("find"))}
	v.Page, _ = strconv.Atoi(q.Get("page"))
	v.Attempt, _ = strconv.Atoi(q.Get("attempt"))
	if v.Attempt < 1 || v.Attempt > v.Job.Attempts {
		v.Attempt = max(1, v.Job.Attempts)
	}
	if v.Attempt == v.Job.Attempts {
		v.Summary = v.Job.Summary
	}
	stream := url.Values{"job": {v.Job.ID}}
	for k, text := range map[string]string{"jobs": v.JobState, "find": v.JobText, "page": q.Get("page")} {
		if text != "" {
			stream.Set(k, text)
		}
	}
	p := page{title: run.Title, nav: "runs", crumbs: []Link{{Text: "Runs", Href: "/runs"}, {Text: run.Repository + " " + run.Workflow}},
		path: "/runs/" + url.PathEscape(id) + "/live?" + stream.Encode(), topics: []string{"run:" + id}, over: !run.Live, slow: len(run.Jobs) > manyJobs}
	if !strings.HasSuffix(r.URL.Path, "/live") && v.Job.ID != "" {
		line, _ := strconv.ParseInt(q.Get("line"), 10, 64)
		if err := s.readTab(ctx, &v, line); err != nil {
			return page{}, err
		}
	}
	p.body = runPage(v)
	p.parts = []part{{"run-head", runHead(v)}, {"run-strip", runStrip(v)}, {"run-why", runWhy(v)}, {"run-jobs", runJobs(v)}}
	if len(run.Jobs) > 0 {
		p.parts = append(p.parts, part{"run-time", runTimeline(v)})
	}
	return p, nil
}

// readTab reads what the chosen tab shows.
func (s *Site) readTab(ctx context.Context, v *runView, line int64) (err error) {
	switch v.Tab {
	case "tests":
		f := pipeline.TestFilter{Text: v.Query, Limit: 100}
		if len(f.Text) > 200 {
			f.Text = f.Text[:200]
		}
		v.Tests, err = s.data.RunTests(ctx, v.Run.ID, f)
	case "artifacts":
		v.Artifacts, err = s.data.RunArtifacts(ctx, v.Run.ID)
	case "log":
		s.readLog(ctx, v, line)
		if v.Query != "" && v.LogMissing == "" {
			v.Found, err = s.data.SearchLog(ctx, v.Run.ID, v.Job.ID, v.Attempt, pipeline.LogQuery{Text: v.Query[:min(len(v.Query), 200)], Limit: 50})
		}
	}
	return err
}

// test is one test over time.
func (s *Site) test(r *http.Request) (page, error) {
	t, all, err := s.data.TestHistory(r.Context(), r.PathValue("key"))
	if err != nil {
		return page{}, err
	}
	return page{title: t.Name, nav: "runs", crumbs: []Link{{Text: "Runs", Href: "/runs"}, {Text: t.Name}}, body: testPage(t, all, now())}, nil
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
	rows, err := s.data.Artifacts(r.Context(), strings.TrimSpace(r.URL.Query().Get("q")))
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
	a.Query = strings.TrimSpace(r.URL.Query().Get("q"))
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
