package engine_test

import (
	"encoding/json"
	"strings"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/deploy"
	"weir/internal/guard/identity"
)

func TestWhatRunsOverALimitIsToldOnceAndGoesOnRunning(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.start()
		r.admit("1.0.0")
		r.until("staging to run 1.0.0", r.runs("staging", "1.0.0"))
		ctx := identity.With(t.Context(), identity.System("deploy"))
		facts := func() (all []deploy.ExposureFact) {
			rows, err := d.Query(ctx, "select body from fact where type = ? order by id", deploy.FactExposed)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var body string
				var f deploy.ExposureFact
				if err := rows.Scan(&body); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal([]byte(body), &f); err != nil {
					t.Fatal(err)
				}
				all = append(all, f)
			}
			return all
		}
		look := func(exposed string) deploy.Environment {
			t.Helper()
			r.gate.mu.Lock()
			r.gate.exposed = exposed
			r.gate.mu.Unlock()
			for range 2 { // a second look at the same says nothing new
				if err := r.service.Examine(ctx, nil, "svc_1", "staging"); err != nil {
					t.Fatal(err)
				}
			}
			e, err := r.store.Environment(ctx, "svc_1", "staging")
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		if e := look("CVE-1"); e.Exposure != nil || len(facts()) != 0 {
			t.Errorf("without a limit there is %+v, %+v", e.Exposure, facts())
		}
		r.trunk.lands(t, "rev2", strings.Replace(weirYAML, "artifact: {", "artifact: {vulnerabilities: {block: high}, ", 1))
		if e := look(""); e.Exposed() != "" || e.Exposure == nil || len(facts()) != 0 {
			t.Errorf("inside the limit: %+v, %+v", e.Exposure, facts())
		}
		over := look("CVE-1")
		if got := facts(); over.Exposed() != "CVE-1" || len(got) != 1 || !got[0].Over || got[0].Environment != "staging" || got[0].Says != "CVE-1" || got[0].Version != "1.0.0" {
			t.Errorf("over the limit: %+v, %+v", over.Exposure, got)
		}
		more := look("CVE-1, CVE-2")
		if got := facts(); !more.Exposure.Since.Equal(over.Exposure.Since) || len(got) != 2 || got[1].Says != "CVE-1, CVE-2" {
			t.Errorf("more is over the limit: %+v, %+v", more.Exposure, got)
		}
		if e := look(""); e.Exposed() != "" || len(facts()) != 3 || facts()[2].Over {
			t.Errorf("inside the limit again: %+v, %+v", e.Exposure, facts())
		}
		if !r.runs("staging", "1.0.0")() {
			t.Error("what runs was stopped")
		}
		// A release that was looked at is not what runs now.
		look("CVE-1")
		r.admit("1.1.0")
		r.until("staging to run 1.1.0", r.runs("staging", "1.1.0"))
		if e, err := r.store.Environment(ctx, "svc_1", "staging"); err != nil || e.Exposed() != "" {
			t.Errorf("another release has %+v, %v", e.Exposure, err)
		}
	})
}
