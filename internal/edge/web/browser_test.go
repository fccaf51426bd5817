package web_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/edge/web"
	"weir/internal/edge/web/webtest"
)

// root is the repository's.
const root = "../../.."

// TestPagesInChromium looks at the pages as a person does: pictures of all in
// both themes and at 380 px go to test-results, and what a reader would miss,
// trip over or not reach with a keyboard is a failure.
func TestPagesInChromium(t *testing.T) {
	needed := os.Getenv("WEIR_TEST_BROWSER") != ""
	missing := ""
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		missing = "chromium is not installed (make deps installs it)"
	}
	if _, err := os.Stat(filepath.Join(root, "node_modules/playwright-core/package.json")); err != nil {
		missing = "node_modules has no playwright-core (npm ci --ignore-scripts fetches it)"
	}
	if _, err := os.Stat("assets/dist/manifest.json"); err != nil {
		missing = "the assets were not built (make build builds them)"
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing = "node is not installed"
	}
	if missing != "" {
		if needed {
			t.Fatal(missing)
		}
		t.Skip("not looked at in a browser: " + missing)
	}
	out, err := filepath.Abs(filepath.Join(root, "test-results"))
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, webtest.New(t.TempDir()))
	which := os.Getenv("WEIR_TEST_PAGE")
	if which == "" {
		which = "all"
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/browser.mjs", server.URL, out, webtest.Session, which)
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	facts, done := map[string]string{}, false
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Kind, Where, What, Name, Value string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Errorf("the browser said %q", lines.Text())
			continue
		}
		switch l.Kind {
		case "finding":
			t.Errorf("%s: %s", l.Where, l.What)
		case "fact":
			facts[l.Name] = l.Value
		case "done":
			done = true
		}
	}
	if err := cmd.Wait(); err != nil || !done {
		t.Fatalf("the browser did not finish: %v; it found %v", err, facts)
	}
	for name, value := range facts {
		if strings.HasPrefix(name, "big: ") {
			t.Logf("%s: %s", name, value)
		}
		if name == "big: the line is in view" && value != "true" {
			t.Errorf("%s: %s", name, value)
		}
		if strings.HasPrefix(name, "big: nodes") {
			if n, err := strconv.Atoi(value); err != nil || n > 60_000 {
				t.Errorf("%s: %s; a page of so many elements is slow", name, value)
			}
		}
	}
	if which != "all" {
		t.Log(facts)
		return
	}
	for name, want := range map[string]string{
		"no script: verdict":                        "No regression seen.",
		"no script: the question shows":             "true",
		"live: layout shift":                        "0",
		"live: same element":                        "true",
		"live: table stays open":                    "true",
		"live: word":                                "Live",
		"keys: m asks why":                          "true",
		"keys: an open question survives an update": "enough",
		"keys: r asks once":                         "true",
		"keys: focus":                               "Roll back now",
		"keys: rolled back":                         "checkout is back on 1.0.0-4be91c7",
		"log: line":                                 "hello <b>world</b>",
		"log: search":                               "2 lines",
		"log: end":                                  "Ended",
		"range: address":                            "true",
		"range: lines":                              "true",
		"range: after a reload":                     "true",
		"range: in view":                            "true",
		"range: opens its step":                     "true",
		"sign-in: sent to":                          "/signin",
		"sign-in: refused":                          "This sign-in link is not valid",
		"sign-in: cookie":                           "httpOnly true sameSite Lax",
	} {
		if got := facts[name]; !strings.Contains(got, want) {
			t.Errorf("%s: got %q; want %q", name, got, want)
		}
	}
}

// serve runs the pages over a fixture, with two doors for the browser's test.
func serve(t *testing.T, d *webtest.Data) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_test/move", func(w http.ResponseWriter, r *http.Request) {
		by, err := time.ParseDuration(r.FormValue("by"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		d.Move(by)
	})
	mux.HandleFunc("GET /_test/log", func(w http.ResponseWriter, r *http.Request) {
		line := ""
		if l := r.FormValue("line"); l != "" {
			line = "1763476300000000 | " + l
		}
		d.Write(line, r.FormValue("end") != "")
	})
	server := httptest.NewUnstartedServer(mux)
	mux.Handle("/", web.New(web.Config{Data: d, URL: "http://" + server.Listener.Addr().String(), Name: "weir.northmoor.internal"}))
	server.Start()
	t.Cleanup(server.Close)
	return server
}
