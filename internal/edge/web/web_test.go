package web_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/edge/web"
	"weir/internal/edge/web/webtest"
)

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// site is the pages over a fixture, and a browser that is signed in.
type site struct {
	t      *testing.T
	url    string
	data   *webtest.Data
	client *http.Client
}

func open(t *testing.T) *site {
	t.Helper()
	d := webtest.New(t.TempDir())
	server := serve(t, d)
	s := &site{t: t, url: server.URL, data: d}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(u, []*http.Cookie{{Name: "weir_session", Value: webtest.Session, Path: "/"}})
	s.client = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

func (s *site) do(method, path string, form url.Values, header map[string]string) (*http.Response, string) {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

func (s *site) get(path string) (*http.Response, string) {
	s.t.Helper()
	return s.do(http.MethodGet, path, nil, nil)
}

// post is what a browser sends from a page of this site.
func (s *site) post(path string, form url.Values) (*http.Response, string) {
	s.t.Helper()
	return s.do(http.MethodPost, path, form, map[string]string{"Origin": s.url, "Sec-Fetch-Site": "same-origin"})
}

var paths = []string{"/", "/runs", "/runs?repository=checkout&state=failure&branch=x&actor=y&workflow=z", "/runs?repository=search", "/runs/run_1", "/runs/run_1?tab=tests", "/runs/run_1?tab=tests&q=webhook", "/runs/run_1?tab=time",
	"/runs/run_1?tab=artifacts", "/runs/run_1?tab=summary&job=job_integration_2_3", "/runs/run_1?q=chunked", "/runs/run_1?line=12", "/tests/4f2a9c01", "/runs/run_1?job=job_e2e", "/rollouts", "/rollouts/rollout_live", "/changes", "/changes?state=all", "/changes/change_1",
	"/artifacts", "/artifacts?q=x", "/artifacts?q=CVE-2025-22872", "/artifacts/artifact_1", "/artifacts/artifact_1?q=text", "/artifacts/artifact_1/notes", "/artifacts/artifact_0/notes", "/audit", "/audit?entry=entry_c", "/jump?q=checkout"}

func TestPagesReadWithoutScript(t *testing.T) {
	s := open(t)
	for path, want := range map[string][]string{
		"/":                           {"2 of 4 services in 38 s or less.", "Approve catalog 1.3.0-51ba7f0 to production", "1.1.0-c07d9e2"},
		"/runs/run_1":                 {"Move to Go 1.26.8", "1 error in integration 2/3", "--- FAIL: TestWebhook_ReplayWindow", "What it waits for"},
		"/rollouts/rollout_live":      {"Baking at 25%", "No regression seen.", "0.12 of 1", "Roll back now", "Why now", "View as table"},
		"/changes/change_1":           {"One rule blocks this change", "Can help: ines and kofi"},
		"/artifacts/artifact_1":       {"weir verify localhost:7400", "Provenance", "release.promote", "Components", "6 of 7 links verified now", "Does not hold", "No admission is signed.", "The chain does not hold", "it runs in staging of checkout", "audit of 2026", "CVE-2025-22872", "high, 7.5", "none yet", "4,291 advisories", "BSD-3-Clause", "3 components differ", "v0.46.0 to v0.47.0", "removed, was v0.38.0", "added, v0.31.0"},
		"/artifacts/artifact_1/notes": {"2 changes since", "Features", "Reserve stock atomically", "SHOP-7", "/changes/change_1", "/artifacts/artifact_0/notes", "weir release notes checkout 1.1.0"},
		"/artifacts/artifact_0/notes": {"The first release, 0 changes", "built from the same commits", "No issue"},
		"/audit?entry=entry_c":        {"Inclusion proof", "48,219 entries", "weir.entry/v1"},
		"/jump?q=checkout":            {"2 matches for"},
		"/changes":                    {"Reserve stock atomically"},
		"/runs":                       {"Cache voucher lookups"},
		"/rollouts":                   {"checkout in production"},
		"/artifacts?q=x/net":          {"Which artifacts contain it", "v0.46.0", "nowhere now", "weir artifact where x/net"},
		"/artifacts?q=CVE-2025-22872": {"Incorrect neutralisation", "GO-2025-3595", "production"},
		"/artifacts?q=nothing":        {"No artifact matches", "No component matches"},
		"/jump?q=nothing+of+that":     {"Nothing found for"},
	} {
		resp, body := s.get(path)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %d; want 200", path, resp.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("GET %s does not say %q", path, w)
			}
		}
	}
}

func TestTheSBOMOfAnArtifactIsAFileToKeep(t *testing.T) {
	s := open(t)
	resp, body := s.get("/artifacts/artifact_1/sbom.json")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/vnd.cyclonedx+json" || !strings.Contains(resp.Header.Get("Content-Disposition"), ".cdx.json") || !strings.Contains(body, "CycloneDX") {
		t.Errorf("GET sbom.json = %d, %v: %s", resp.StatusCode, resp.Header, body)
	}
	if resp, body := s.get("/artifacts/none/sbom.json"); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "There is no artifact none") {
		t.Errorf("GET of no artifact's SBOM = %d: %s", resp.StatusCode, body)
	}
}

func TestReleaseNotesAreAFileToKeep(t *testing.T) {
	s := open(t)
	resp, body := s.get("/artifacts/artifact_1/notes.md")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/markdown") || !strings.Contains(resp.Header.Get("Content-Disposition"), `"checkout-1.1.0.md"`) || body != "# checkout 1.1.0\n" {
		t.Errorf("GET notes.md = %d, %v: %s", resp.StatusCode, resp.Header, body)
	}
	for _, file := range []string{"notes", "notes.md"} {
		if resp, body := s.get("/artifacts/none/" + file); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "There is no artifact none") {
			t.Errorf("GET of no artifact's %s = %d: %s", file, resp.StatusCode, body)
		}
	}
}

func TestComponentsOfAnArtifactAreFoundByName(t *testing.T) {
	s := open(t)
	row := "<code>std</code>"
	if _, body := s.get("/artifacts/artifact_1"); !strings.Contains(body, row) {
		t.Errorf("the page does not list %s", row)
	}
	_, body := s.get("/artifacts/artifact_1?q=X/Text")
	if strings.Contains(body, row) || strings.Count(body, "golang.org/x/text") < 2 {
		t.Error("the page does not list x/text alone")
	}
	if _, body := s.get("/artifacts/artifact_1?q=nosuch"); !strings.Contains(body, "No component has that in its name.") {
		t.Error("the page does not say that nothing matches")
	}
}

func TestEmptyPagesSayWhatMakesThemFill(t *testing.T) {
	s := open(t)
	s.data.Empty = true
	for path, want := range map[string]string{
		"/": "Push a repository with a weir.yaml", "/runs": "A push to a repository with a workflow", "/rollouts": "The first release that policy admits", "/changes": "git push -o change",
		"/artifacts": "is built, signed and admitted", "/audit": "The first action is its first entry",
	} {
		if _, body := s.get(path); !strings.Contains(body, want) {
			t.Errorf("GET %s, empty, does not say %q", path, want)
		}
	}
}

func TestHostileWordsAreText(t *testing.T) {
	s := open(t)
	s.data.Hostile = true
	escape := regexp.MustCompile(`<img src=x|<script>alert|\x1b|\x07`)
	inline := regexp.MustCompile(`<style|<script[^>]*>[^<]|\son[a-z]+="| style="|javascript:`)
	for _, path := range append(paths, "/runs/run_1/live", "/runs/run_1/log/job_e2e/1/live") {
		if strings.HasSuffix(path, "/live") {
			s.data.Write("", true)
			continue
		}
		_, body := s.get(path)
		if m := escape.FindString(body); m != "" {
			t.Errorf("GET %s lets %q through", path, m)
		}
		if m := inline.FindString(body); m != "" {
			t.Errorf("GET %s has something inline: %q", path, m)
		}
	}
	s.data.Write("1763476300000000 | <script>alert(3)</script>", true)
	_, body := s.get("/runs/run_1/log/job_e2e/1/live")
	if strings.Contains(body, "<script>") || !strings.Contains(body, `\u0026lt;script\u0026gt;alert(3)`) {
		t.Errorf("the log's stream sends a script: %s", body)
	}
}

func TestRawLogIsNoPage(t *testing.T) {
	s := open(t)
	s.data.Hostile = true
	resp, _ := s.get("/runs/run_1/log/job_integration_2_3/1")
	if got := resp.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("a raw log is %q; want text/plain", got)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("a raw log may be sniffed: %q", got)
	}
}

func TestPolicyHeaderIsExact(t *testing.T) {
	s := open(t)
	for _, path := range append(paths, "/signin", "/assets/none", "/runs/run_nope") {
		resp, _ := s.get(path)
		if got := resp.Header.Get("Content-Security-Policy"); got != policy {
			t.Errorf("GET %s has policy %q; want %q", path, got, policy)
		}
	}
}

func TestAnonymousIsSentToSignIn(t *testing.T) {
	s := open(t)
	s.client.Jar = nil
	for _, path := range paths {
		resp, body := s.get(path)
		want := "/signin?next=" + url.QueryEscape(path)
		if path == "/" {
			want = "/signin"
		}
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("GET %s = %d to %q; want 303 to %q", path, resp.StatusCode, got, want)
		}
		if strings.Contains(body, "Northmoor") {
			t.Errorf("GET %s tells somebody unknown whose it is", path)
		}
	}
	for _, path := range []string{"/live", "/rollouts/rollout_live/live", "/runs/run_1/log/job_e2e/1/live"} {
		if resp, _ := s.get(path); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET %s = %d; want 401", path, resp.StatusCode)
		}
	}
	if resp, _ := s.post("/rollouts/rollout_live/rollback", url.Values{}); resp.StatusCode != http.StatusSeeOther || len(s.data.Actions()) != 0 {
		t.Errorf("somebody unknown rolled back: %d, %v", resp.StatusCode, s.data.Actions())
	}
}

func TestPostFromElsewhereIsRefused(t *testing.T) {
	s := open(t)
	for name, header := range map[string]map[string]string{
		"another site":     {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
		"another origin":   {"Origin": "https://evil.example"},
		"a sandbox":        {"Origin": "null"},
		"no browser":       {},
		"a sibling domain": {"Sec-Fetch-Site": "same-site"},
	} {
		resp, body := s.do(http.MethodPost, "/rollouts/rollout_live/rollback", url.Values{}, header)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "came from another site and was refused") {
			t.Errorf("POST from %s = %d; want 403 and the sentence", name, resp.StatusCode)
		}
	}
	if did := s.data.Actions(); len(did) != 0 {
		t.Errorf("something was done: %v", did)
	}
}

func TestButtonsDoWhatTheySay(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		path string
		form url.Values
		want string
		to   string
	}{
		{"/rollouts/rollout_live/pause", nil, "Aiko Tanaka pause rollout_live", "/rollouts/rollout_live"},
		{"/rollouts/rollout_live/promote", url.Values{"reason": {" enough seen "}}, "Aiko Tanaka promote rollout_live enough seen", "/rollouts/rollout_live"},
		{"/rollouts/rollout_live/rollback", nil, "Aiko Tanaka rollback rollout_live", "/rollouts/rollout_live"},
		{"/promotions/promotion_1", url.Values{"verdict": {"approve"}}, "Aiko Tanaka approve promotion_1 approve", "/"},
		{"/changes/change_1/review", url.Values{"verdict": {"approve"}, "comment": {"good"}}, "Aiko Tanaka review change_1 approve good", "/changes/change_1"},
		{"/changes/change_1/land", nil, "Aiko Tanaka land change_1", "/changes/change_1"},
		{"/runs/run_1/cancel", nil, "Aiko Tanaka cancel run_1", "/runs/run_1"},
	} {
		if c.form == nil {
			c.form = url.Values{}
		}
		resp, _ := s.post(c.path, c.form)
		did := s.data.Actions()
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != c.to || len(did) == 0 || did[len(did)-1] != c.want {
			t.Errorf("POST %s = %d to %q, did %q; want 303 to %q, did %q", c.path, resp.StatusCode, resp.Header.Get("Location"), did, c.to, c.want)
		}
	}
}

func TestRefusedActionShowsItsSentence(t *testing.T) {
	s := open(t)
	s.data.Refuse["rollback"] = fault.New(fault.Conflict, "checkout cannot go back: 1.0.0 is not on the host any more.")
	s.data.Refuse["approve"] = fault.New(fault.Denied, "Aiko wrote part of 1.3.0 and cannot approve it. Ask somebody else.")
	s.data.Refuse["land"] = fault.New(fault.Conflict, "Change #12 cannot land yet: a migration needs its owner's approval.")
	for path, want := range map[string]struct {
		status   int
		sentence string
	}{
		"/rollouts/rollout_live/rollback": {http.StatusConflict, "1.0.0 is not on the host any more."},
		"/promotions/promotion_1":         {http.StatusForbidden, "Ask somebody else."},
		"/changes/change_1/land":          {http.StatusConflict, "a migration needs its owner&#39;s approval."},
		"/rollouts/rollout_live/promote":  {http.StatusUnprocessableEntity, "needs a reason. Nothing was promoted"},
	} {
		resp, body := s.post(path, url.Values{"reason": {"  "}})
		if resp.StatusCode != want.status || !strings.Contains(body, want.sentence) || !strings.Contains(body, `role="alert"`) {
			t.Errorf("POST %s = %d; want %d and the page with %q", path, resp.StatusCode, want.status, want.sentence)
		}
	}
}

func TestMissingThingsSayWhereToLook(t *testing.T) {
	s := open(t)
	for path, want := range map[string]string{
		"/runs/run_nope": "List the runs with `weir runs`.", "/rollouts/x": "There is no rollout x.", "/changes/x": "There is no change x.", "/artifacts/x": "There is no artifact x.",
	} {
		resp, body := s.get(path)
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d; want 404 and %q", path, resp.StatusCode, want)
		}
	}
	if resp, body := s.get("/audit?before=x"); resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "must be the position of an entry") {
		t.Errorf("GET /audit?before=x = %d; want 422 and a sentence", resp.StatusCode)
	}
}

func TestSignInTakesOneClickAndWorksOnce(t *testing.T) {
	s := open(t)
	s.client.Jar = nil
	// A preview of the link uses nothing up.
	for range 2 {
		if resp, body := s.get("/signin?link=" + webtest.Link); resp.StatusCode != http.StatusOK || !strings.Contains(body, webtest.Link) {
			t.Fatalf("GET /signin = %d", resp.StatusCode)
		}
	}
	resp, _ := s.post("/signin", url.Values{"link": {webtest.Link}, "next": {"/rollouts"}})
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/rollouts" {
		t.Fatalf("POST /signin = %d to %q; want 303 to /rollouts", resp.StatusCode, resp.Header.Get("Location"))
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure || c.Value != webtest.Session || c.Path != "/" {
		t.Errorf("the session's cookie is %v; want HttpOnly, SameSite=Lax, not Secure over http", c)
	}
	resp, body := s.post("/signin", url.Values{"link": {webtest.Link}})
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "it was used, or it is too old") {
		t.Errorf("the link worked twice: %d", resp.StatusCode)
	}
	if resp, body := s.post("/signin", url.Values{}); resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "Paste the sign-in link") {
		t.Errorf("POST /signin without a link = %d; want 422 and what to do", resp.StatusCode)
	}
}

func TestCookieIsSecureUnderHTTPS(t *testing.T) {
	h := web.New(web.Config{Data: webtest.New(t.TempDir()), URL: "https://weir.example.com"})
	r := httptest.NewRequest(http.MethodPost, "https://weir.example.com/signin", strings.NewReader("link="+webtest.Link))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://weir.example.com")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	c := w.Result().Cookies()[0]
	if !c.Secure || c.Name != "__Host-weir_session" {
		t.Errorf("the session's cookie under https is %v; want Secure and bound to the host", c)
	}
}

func TestSignInGoesNowhereElse(t *testing.T) {
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "", "javascript:alert(1)", "/\r\nX: y"} {
		s := open(t)
		resp, _ := s.post("/signin", url.Values{"link": {webtest.Link}, "next": {next}})
		if got := resp.Header.Get("Location"); got != "/" {
			t.Errorf("signing in with next=%q went to %q; want /", next, got)
		}
	}
}

func TestLogStreamGoesOnWhereThePageStands(t *testing.T) {
	s := open(t)
	_, page := s.get("/runs/run_1?job=job_e2e")
	m := regexp.MustCompile(`data-log="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the page of a running job does not say where its log goes on")
	}
	lines, err := strconv.Atoi(regexp.MustCompile(`line=(\d+)`).FindStringSubmatch(m[1])[1])
	if err != nil {
		t.Fatal(err)
	}
	s.data.Write("1763476300000000 | one more", false)
	s.data.Write("1763476300000001 - {\"number\":3,\"name\":\"go test\",\"state\":\"success\"}", true)
	resp, body := s.get(strings.ReplaceAll(m[1], "&amp;", "&"))
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("the log's stream is %q", got)
	}
	if strings.Contains(body, "AcceptsSigned") {
		t.Error("the stream sends again what the page shows")
	}
	want := `id=\"L` + strconv.Itoa(lines+1) + `\"`
	if !strings.Contains(body, "one more") || !strings.Contains(body, want) || !strings.Contains(body, "event: end") || !strings.Contains(body, "sum-3") {
		t.Errorf("the stream sends %s; want line %d, the end of step 3 and the end", body, lines+1)
	}
}

func TestStreamSendsOnlyWhatChanged(t *testing.T) {
	d := webtest.New(t.TempDir())
	server := httptest.NewUnstartedServer(nil)
	server.Config.Handler = web.New(web.Config{Data: d, URL: "http://" + server.Listener.Addr().String(), Pulse: time.Hour})
	server.Start()
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/rollouts/rollout_live/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "weir_session", Value: webtest.Session})
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := message(t, resp.Body)
	for _, id := range []string{"#helm", "#traffic", "#metrics", "#decisions", "#side-nav"} {
		if !strings.Contains(first, `hx-target="`+id+`"`) {
			t.Errorf("the first message lacks %s", id)
		}
	}
	d.Move(30 * time.Second)
	next := message(t, resp.Body)
	if !strings.Contains(next, `hx-target="#traffic"`) || strings.Contains(next, `hx-target="#decisions"`) {
		t.Error("the second message should hold the traffic, which moved, and not the decisions, which did not")
	}
}

// message reads one server-sent event.
func message(t *testing.T, r io.Reader) string {
	t.Helper()
	var b strings.Builder
	buf := make([]byte, 1)
	for !strings.HasSuffix(b.String(), "\n\n") {
		if _, err := r.Read(buf); err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		b.Write(buf)
	}
	return b.String()
}
