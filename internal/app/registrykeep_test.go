package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/deploy"
	"weir/internal/edge/api"
	"weir/internal/guard/identity"
)

func TestEnvironmentsPinWhatTheyRunAndCouldGoBackTo(t *testing.T) {
	spec := func(digest string) deploy.Spec { return deploy.Spec{Image: "shop/app", Digest: digest} }
	e := deploy.Environment{Service: "app", Environment: "production", Slots: []deploy.Slot{{Release: spec("now")}, {Release: spec("canary")}},
		Ran: []deploy.Ran{{Spec: spec("bad")}, {Spec: spec("before")}, {Spec: spec("now")}}, Bad: map[string]string{"bad": "it crashed"}}
	var got []string
	for _, p := range pinsOf(e) {
		if p.Repository != "shop/app" || p.Where != "production" {
			t.Errorf("%+v", p)
		}
		got = append(got, p.Digest+": "+p.Why)
	}
	want := []string{"now: it runs in production of app", "canary: it runs in production of app", "before: production of app can go back to it", "now: production of app can go back to it"}
	if !slices.Equal(got, want) {
		t.Errorf("pins: %q; want %q", got, want)
	}
}

func TestRegistryIsKeptAndToldThroughTheAPI(t *testing.T) {
	s := openSystem(t, func(c *Config) { c.Registry.Keep.Untagged = 1 })
	srv := handlerOf(t, s)
	dev, maintainer, admin := account(t, s, "dev", identity.Developer), account(t, s, "main", identity.Maintainer), account(t, s, "boss", identity.Admin)
	refusedWith(t, "push", pushTo(t, srv, "shop/app:one", maintainer), "")
	refusedWith(t, "push again", pushTo(t, srv, "shop/app:one", maintainer), "") // the first has no tag now
	s.keeper.Now = func() time.Time { return time.Now().Add(3 * oneDay) }
	var g api.RegistryGarbage
	get := func(method, path, token, body string, want int, into any) string {
		t.Helper()
		status, raw, _ := send(t, method, srv.URL+"/api/v1"+path, token, body)
		if status != want {
			t.Fatalf("%s %s: %d %s; want %d", method, path, status, raw, want)
		}
		if into != nil {
			if err := json.Unmarshal([]byte(raw), into); err != nil {
				t.Fatal(err)
			}
		}
		return raw
	}
	get("GET", "/registry/garbage", dev, "", 200, &g)
	if !g.DryRun || len(g.Gone) != 1 || g.Kept != 1 || !strings.Contains(g.Gone[0].Why, "it has no tag and was pushed more than 1 day ago") {
		t.Errorf("dry run: %+v", g)
	}
	get("POST", "/registry/garbage/remove", dev, "{}", 403, nil)
	var contents []api.RegistryManifest
	get("GET", "/registry/contents?repository=shop/app", dev, "", 200, &contents)
	if len(contents) != 2 || !contents[0].Keep || contents[1].Keep {
		t.Errorf("contents: %+v", contents)
	}
	get("GET", "/registry/contents", dev, "", 422, nil)
	get("GET", "/registry/contents?repository=nope", dev, "", 404, nil)
	get("POST", "/registry/holds", admin, `{"repository":"shop/app","reference":"`+g.Gone[0].Digest+`","reason":"case 1"}`, 200, nil)
	get("POST", "/registry/garbage/remove", admin, "{}", 200, &g)
	if g.DryRun || len(g.Gone) != 0 {
		t.Errorf("with a hold: %+v", g)
	}
	get("POST", "/registry/holds/release", admin, `{"repository":"shop/app","reference":"`+contents[1].Digest+`","reason":"case 1"}`, 200, nil)
	get("POST", "/registry/garbage/remove", admin, "{}", 200, &g)
	if len(g.Gone) != 1 {
		t.Errorf("without a hold: %+v", g)
	}
	var r api.RegistryRepository
	get("POST", "/registry/quotas", admin, `{"repository":"shop/app","bytes":1000}`, 200, &r)
	if r.Quota != 1000 || !r.OwnQuota {
		t.Errorf("quota: %+v", r)
	}
	get("POST", "/registry/quotas", maintainer, `{"repository":"shop/app","bytes":1000}`, 403, nil)
	refusedWith(t, "push beyond the quota", pushTo(t, srv, "shop/app:two", maintainer), "of its quota of 1000 bytes")
	// Every act is an entry of the ledger.
	for _, want := range []string{"registry.held", "registry.hold_released", "registry.removed", "registry.quota_set"} {
		var n int
		if err := s.db.QueryRow(t.Context(), "select count(*) from ledger_entry where action = ? and actor <> ''", want).Scan(&n); err != nil || n != 1 {
			t.Errorf("the ledger has %d of %s, %v", n, want, err)
		}
	}
}

func TestConfigurationOfTheRegistryIsRefusedWithASentence(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"registry.keep.releases must be from 1":      func(c *Config) { c.Registry.Keep.Releases = 0 },
		"registry.keep.untagged_days must be from 1": func(c *Config) { c.Registry.Keep.Untagged = 0 },
		"registry.scrub_days must be from 1 to 3650": func(c *Config) { c.Registry.ScrubDays = 0 },
		"names no repositories":                      func(c *Config) { c.Registry.Access = []AccessConf{{Pull: []string{"ann"}}} },
	} {
		if _, err := Configure("", change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if r, err := openSystem(t).registryRule(t.Context(), "shop/app"); err != nil || r != (artifact.KeepRule{Releases: 10, Age: 90 * oneDay, Untagged: 7 * oneDay}) {
		t.Errorf("registryRule() = %+v, %v", r, err)
	}
}
