package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"weir/internal/base/fault"
)

// act is one button: it does something and says which page to show next.
type act struct {
	do   func(ctx context.Context, r *http.Request, id string) (next string, err error)
	page pageFunc // where its refusal is shown
	// to is that page's address.
	to func(id string) string
}

func (s *Site) actions(mux *http.ServeMux) {
	rollout := func(do func(ctx context.Context, id string) error) act {
		return act{page: s.rollout, to: at("/rollouts/"), do: func(ctx context.Context, _ *http.Request, id string) (string, error) { return "", do(ctx, id) }}
	}
	run := func(do func(ctx context.Context, id string) error) act {
		return act{page: s.run, to: at("/runs/"), do: func(ctx context.Context, _ *http.Request, id string) (string, error) { return "", do(ctx, id) }}
	}
	for pattern, a := range map[string]act{
		"/rollouts/{id}/pause":  rollout(s.data.Pause),
		"/rollouts/{id}/resume": rollout(s.data.Resume),
		"/rollouts/{id}/promote": {page: s.rollout, to: at("/rollouts/"), do: func(ctx context.Context, r *http.Request, id string) (string, error) {
			reason := strings.TrimSpace(r.FormValue("reason"))
			if reason == "" {
				return "", fault.New(fault.Invalid, "Promoting before the evidence is there needs a reason. Nothing was promoted; say why and promote again.")
			}
			return "", s.data.Promote(ctx, id, reason)
		}},
		"/rollouts/{id}/rollback": {page: s.rollout, to: at("/rollouts/"), do: func(ctx context.Context, _ *http.Request, id string) (string, error) {
			return s.data.RollBack(ctx, id)
		}},
		"/runs/{id}/cancel": run(s.data.CancelRun),
		"/runs/{id}/rerun":  run(s.data.RerunRun),
		"/changes/{id}/review": {page: s.change, to: at("/changes/"), do: func(ctx context.Context, r *http.Request, id string) (string, error) {
			return "", s.data.ReviewChange(ctx, id, r.FormValue("verdict"), r.FormValue("comment"))
		}},
		"/changes/{id}/land": {page: s.change, to: at("/changes/"), do: func(ctx context.Context, _ *http.Request, id string) (string, error) {
			return "", s.data.LandChange(ctx, id)
		}},
		"/promotions/{id}": {page: s.overview, to: func(string) string { return "/" }, do: func(ctx context.Context, r *http.Request, id string) (string, error) {
			return "", s.data.ApproveRelease(ctx, id, r.FormValue("verdict"), strings.TrimSpace(r.FormValue("reason")))
		}},
	} {
		mux.Handle("POST "+pattern, s.private(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				s.problem(w, r, http.StatusRequestEntityTooLarge, "The form is larger than 1 MiB or broken. Nothing was changed.")
				return
			}
			id := r.PathValue("id")
			next, err := a.do(r.Context(), r, id)
			if err != nil {
				back := r.Clone(r.Context())
				back.Method = http.MethodGet
				back.URL = &url.URL{Path: a.to(id)}
				s.render(w, back, a.page, statusOf(err), s.sentence(r.Context(), err))
				return
			}
			if next == "" {
				next = a.to(id)
			}
			http.Redirect(w, r, local(next), http.StatusSeeOther)
		})))
		// Somebody reloads the address of a refused action.
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, a.to(r.PathValue("id")), http.StatusSeeOther)
		})
	}
}

func at(prefix string) func(string) string {
	return func(id string) string { return prefix + url.PathEscape(id) }
}
