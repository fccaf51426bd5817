package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// load asks a service all the time, half of the requests on new connections.
type load struct {
	cancel   context.CancelFunc
	parts    sync.WaitGroup
	mu       sync.Mutex
	requests int
	failed   []string
	said     map[string]int
}

func newLoad(t testing.TB, url string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, said: map[string]int{}}
	for i := range 2 {
		transport := &http.Transport{DisableKeepAlives: i == 0}
		c := &http.Client{Timeout: 10 * time.Second, Transport: transport}
		l.parts.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				l.one(c, url)
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) one(c *http.Client, url string) {
	res, err := c.Get(url)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed = append(l.failed, time.Now().Format("05.000 ")+err.Error())
		return
	}
	l.said[strings.TrimSpace(string(body))]++
}

func (l *load) stop() { l.cancel(); l.parts.Wait() }

// settle stops the load; no request may have failed.
func (l *load) settle(t testing.TB) {
	t.Helper()
	l.stop()
	t.Logf("%d requests: %v", l.requests, l.said)
	if len(l.failed) > 0 || l.requests == 0 {
		t.Errorf("%d of %d requests failed, such as %q", len(l.failed), l.requests, l.failed[:min(len(l.failed), 3)])
	}
}

// second takes a second release to production.
func (w *world) second() {
	w.t.Helper()
	w.commit("feat: second", tiny("second", ""))
	w.landed(w.propose("second"))
	w.serves("production", "1.1.0")
}

func TestKillingAndUpgradingTheServerFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.start()
	e := w.serves("production", "1.0.0")
	l := newLoad(t, "http://"+e.Address+"/")
	host := w.hostPID()
	w.kill()
	w.start()
	w.serves("production", "1.0.0")

	// Killed in the middle of a rollout, too.
	revision := w.commit("feat: second", tiny("second", ""))
	w.landed(w.propose("second"))
	w.released(revision)
	w.kill()
	w.start()
	w.serves("production", "1.1.0")

	// An upgrade is another binary on the same folder.
	w.stop()
	old := binary
	w.binary = filepath.Join(w.dir, "weir-next")
	if out, err := exec.Command("cp", old, w.binary).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	w.start()
	w.serves("production", "1.1.0")
	if err := w.rollback("production"); err != nil {
		t.Fatal(err)
	}
	w.serves("production", "1.0.0")
	l.settle(t)
	if now := w.hostPID(); now != host || host == 0 {
		t.Errorf("the host was process %d and is %d; it should outlive the server", host, now)
	}
}

func (w *world) rollback(environment string) error {
	var r client.Rollout
	return w.as("maintainer").Post(context.Background(), "/services/tiny/environments/"+environment+"/rollback", map[string]string{}, &r)
}

func TestHostThatWasKilledIsStartedAgainAndServesFromItsState(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.start()
	e := w.serves("production", "1.0.0")
	before := w.says("production")
	old := w.hostPID()
	orphans := children(old)
	if len(orphans) < 2 {
		t.Fatalf("the host has %d processes; want one for each environment at least", len(orphans))
	}
	w.must(syscall.Kill(old, syscall.SIGKILL))
	await(t, 20*time.Second, "another host process", func() bool { now := w.hostPID(); return now != 0 && now != old })
	await(t, 20*time.Second, "production to answer again", func() bool {
		body, err := get("http://" + e.Address + "/")
		return err == nil && body == before
	})
	await(t, 10*time.Second, "the processes of the old host to end", func() bool {
		for _, pid := range orphans {
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(state), ") Z ") {
				return false
			}
		}
		return true
	})
	w.second() // It takes orders, too.
}

// children are the processes below a process.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		raw, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(raw)) {
			var child int
			if _, err := fmt.Sscan(f, &child); err == nil {
				all = append(append(all, child), children(child)...)
			}
		}
	}
	return all
}

func TestRollbackOnTheMachineNeedsNeitherServerNorDatabaseNorRegistryNorGit(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.start()
	w.second()
	e := w.serves("production", "1.1.0")
	l := newLoad(t, "http://"+e.Address+"/")
	w.stop()
	away := filepath.Join(w.dir, "away")
	w.must(os.MkdirAll(away, 0o700))
	gone := []string{"weir.db", "weir.db-wal", "weir.db-shm", "blobs", "git", "keys", "instance.json", "trusted_root.json"}
	for _, name := range gone {
		if err := os.Rename(filepath.Join(w.data, name), filepath.Join(away, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	began := time.Now()
	out, errs, status := weir(t, nil, "host", "rollback", "tiny", "production", "--dir", w.hostDir())
	if status != 0 || !strings.Contains(out, "tiny production is back on 1.0.0 after") {
		t.Fatalf("host rollback: %d\n%s%s", status, out, errs)
	}
	t.Logf("%s (%s with the command)", strings.TrimSpace(out), time.Since(began).Round(time.Millisecond))
	if body, err := get("http://" + e.Address + "/"); err != nil || !strings.HasPrefix(body, "tiny 1.0.0 ") {
		t.Errorf("production says %q, %v", body, err)
	}
	out, errs, status = weir(t, nil, "host", "rollback", "tiny", "production", "--dir", w.hostDir())
	if status == 0 || !strings.Contains(errs, "earlier") {
		t.Errorf("a second rollback: %d\n%s%s", status, out, errs)
	}

	for _, name := range gone {
		if err := os.Rename(filepath.Join(away, name), filepath.Join(w.data, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	for range 2 { // It is recorded once, however often the server starts.
		w.start()
		w.serves("production", "1.0.0")
		await(t, 10*time.Second, "the host's event to be acknowledged", func() bool {
			out, _, _ := weir(t, nil, "host", "status", "--dir", w.hostDir(), "--json")
			return !strings.Contains(out, `"pending": true`)
		})
		n := 0
		for _, r := range w.rollouts() {
			if r.Intent == "rollback" {
				n++
				if r.By != "the operator of local (tester)" || r.State != "completed" || r.Version != "1.0.0" || r.FromVersion != "1.1.0" {
					t.Errorf("rollout %+v", r)
				}
			}
		}
		entries := 0
		for _, e := range w.ledger() {
			if e.Action == "rollout.rolled_back" {
				entries++
			}
		}
		if n != 1 || entries != 1 {
			t.Errorf("%d rollbacks and %d ledger entries; want one of each", n, entries)
		}
		w.stop()
	}
	w.start()
	l.settle(t)
}
