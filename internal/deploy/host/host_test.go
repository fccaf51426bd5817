package host

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

func TestReleaseRunsConfinedBehindTheProxy(t *testing.T) {
	reg := newFakeRegistry(t)
	dir := t.TempDir()
	r := start(t, config(dir, reg))
	e := r.apply(stable(release("1.0.0", reg.pushApp(t, "a"), map[string]string{"GREETING": "hello"}), 10000))
	url := "http://" + e.Address
	if got := get(t, url+"/"); got != "1.0.0" {
		t.Errorf("answer = %q", got)
	}
	if got := get(t, url+"/env"); !strings.Contains(got, "GREETING=hello") || !strings.Contains(got, "PORT=8080") || strings.Contains(got, "SHELL") {
		t.Errorf("environment = %q", got)
	}
	_, socketErr := os.Stat(r.host.Socket())
	if socketErr != nil {
		t.Fatal(socketErr)
	}
	for what, want := range map[string]string{
		"/read?path=" + filepath.Join(dir, "state.json"):     "read 0 ",
		"/read?path=/etc/passwd":                             "read 0 ",
		"/read?path=/proc/1/environ":                         "read 0 ",
		"/write?path=/x":                                     "write open /x: ",
		"/write?path=/app":                                   "write open /app: ",
		"/write?path=/tmp/x":                                 "write <nil>",
		"/dial?net=unix&to=" + r.host.Socket():               "dial dial unix",
		"/dial?net=tcp&to=" + e.Address:                      "dial dial tcp",
		"/fetch?url=" + reg.URL + "/v2/":                     "fetch Get",
		"/fetch?url=http://169.254.169.254/latest/meta-data": "fetch 403 a sandboxed program may not reach 169.254.169.254:80",
	} {
		if got := get(t, url+what); !strings.HasPrefix(got, want) || strings.HasPrefix(want, "dial") && !strings.Contains(got, "connect") {
			t.Errorf("%s: %q; want %q", what, got, want)
		}
	}
	if r.counters()[deploy.Stable].Requests < 5 {
		t.Errorf("counters = %+v; want the requests counted", r.counters())
	}
}

// load asks as fast as it can on connections that are kept and on new ones, until stopped.
func load(url string) (stop func() (requests, failed int64, seen map[string]int)) {
	var n, bad atomic.Int64
	var mu sync.Mutex
	seen := map[string]int{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 1}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr}
			for ctx.Err() == nil {
				res, err := c.Get(url)
				n.Add(1)
				if err != nil {
					bad.Add(1)
					continue
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 {
					bad.Add(1)
					continue
				}
				mu.Lock()
				seen[string(b)]++
				mu.Unlock()
			}
		})
	}
	return func() (int64, int64, map[string]int) {
		cancel()
		wg.Wait()
		return n.Load(), bad.Load(), seen
	}
}

func TestNoRequestIsLostWhileTrafficMoves(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	a, b := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil)
	e := r.apply(stable(a, 10000))
	stop := load("http://" + e.Address)
	slow := make(chan string)
	go func() { slow <- get(t, "http://"+e.Address+"/slow?for=1s") }()
	for range 4 {
		r.apply(stable(a, 5000), slot(deploy.Canary, b, 2500), slot(deploy.Baseline, a, 2500))
		r.apply(stable(b, 10000))
		r.apply(stable(a, 10000))
	}
	n, bad, seen := stop()
	if bad != 0 {
		t.Errorf("%d of %d requests failed", bad, n)
	}
	if seen["1.0.0"] == 0 || seen["1.1.0"] == 0 || len(seen) != 2 {
		t.Errorf("answers %v; want both versions", seen)
	}
	if got := <-slow; got != "1.0.0" {
		t.Errorf("request that ran while traffic moved: %q", got)
	}
}

func TestSharesFollowWeightsAndAreCountedByRole(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	a, b := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), map[string]string{"FAIL": "1"})
	r.apply(stable(a, 10000))
	e := r.apply(stable(a, 5000), slot(deploy.Canary, b, 2500), slot(deploy.Baseline, a, 2500))
	groups := map[string]bool{}
	for _, s := range e.Slots {
		groups[s.Group] = true
	}
	if len(groups) != 3 {
		t.Fatalf("slots %+v; want three groups", e.Slots)
	}
	before := r.counters()[deploy.Stable].Requests
	const n = 2000
	for range n {
		get(t, "http://"+e.Address+"/")
	}
	c := r.counters()
	for role, share := range map[deploy.Role]float64{deploy.Stable: .5, deploy.Canary: .25, deploy.Baseline: .25} {
		got := float64(c[role].Requests)
		if role == deploy.Stable {
			got -= float64(before)
		}
		if got < n*share*.85 || got > n*share*1.15 {
			t.Errorf("%s had %v of %d requests; want about %v", role, got, n, n*share)
		}
	}
	if c[deploy.Canary].Errors != c[deploy.Canary].Requests || c[deploy.Stable].Errors+c[deploy.Baseline].Errors != 0 {
		t.Errorf("errors = %+v; want all of the canary's and none else", c)
	}
}

func TestCanaryThatDiesIsServedByStableAndCountedAgainstIt(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	a, b := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil)
	r.apply(stable(a, 10000))
	e := r.apply(stable(a, 0), slot(deploy.Canary, b, 10000))
	http.Get("http://" + e.Address + "/exit")
	if got := get(t, "http://"+e.Address+"/"); got != "1.0.0" && got != "1.1.0" {
		t.Errorf("answer while the canary restarts = %q", got)
	}
	r.settle("a restart", func(e protocol.Environment) bool {
		for _, s := range e.Slots {
			if s.Role == deploy.Canary && s.Restarts == 1 && s.Ready == 1 {
				return true
			}
		}
		return false
	})
	if c := r.counters()[deploy.Canary]; c.Errors == 0 {
		t.Errorf("counters %+v; want the broken requests counted", c)
	}
}

func TestReleaseThatDoesNotStartLeavesWhatRan(t *testing.T) {
	reg := newFakeRegistry(t)
	c := config(t.TempDir(), reg)
	c.ReadyTimeout = 300 * time.Millisecond
	r := start(t, c)
	a := release("1.0.0", reg.pushApp(t, "a"), nil)
	r.apply(stable(a, 10000))
	for name, test := range map[string]struct {
		release protocol.Release
		want    string
	}{
		"crash":     {release("1.1.0", a.Digest, map[string]string{"CRASH": "1"}), "checkout 1.1.0 did not become ready in 3 attempts: it ended (exit code 3), saying: cannot go on: CRASH is set"},
		"not ready": {release("1.2.0", a.Digest, map[string]string{"NEVER_READY": "1"}), "checkout 1.2.0 did not become ready in 3 attempts: it was not ready within 300ms: /readyz answers 503"},
		"no image":  {release("1.3.0", sum([]byte("nothing")), nil), "answered 404 Not Found to /v2/shop/checkout/manifests/"},
	} {
		d := r.desire(stable(test.release, 10000))
		if err := r.put(d); err != nil {
			t.Fatal(err)
		}
		e := r.settle("the failure", func(e protocol.Environment) bool {
			last := e.Slots[len(e.Slots)-1]
			return last.State == protocol.Failed && last.Version == test.release.Version
		})
		if got := e.Slots[len(e.Slots)-1].Reason; !strings.Contains(got, test.want) {
			t.Errorf("%s: reason %q; want %q", name, got, test.want)
		}
		if got := get(t, "http://"+e.Address+"/"); got != "1.0.0" {
			t.Errorf("%s: answer = %q; want what ran before", name, got)
		}
	}
}

func TestEvidenceIsVerifiedBeforeEachStart(t *testing.T) {
	reg := newFakeRegistry(t)
	c := config(t.TempDir(), reg)
	var refuse atomic.Value
	refuse.Store("")
	c.Verify = func(_ context.Context, image, digest string, bundles [][]byte) error {
		if why := refuse.Load().(string); why != "" {
			return errors.New(why)
		}
		if len(bundles) != 1 || string(bundles[0]) != "bundle" {
			return fmt.Errorf("%d bundles", len(bundles))
		}
		return nil
	}
	r := start(t, c)
	a := release("1.0.0", reg.pushApp(t, "a"), nil)
	reg.attest(a.Digest, []byte("bundle"))
	e := r.apply(stable(a, 10000))
	refuse.Store("the signature is by somebody else")
	b := release("1.1.0", a.Digest, nil)
	if err := r.put(r.desire(stable(b, 10000))); err != nil {
		t.Fatal(err)
	}
	e = r.settle("the refusal", func(e protocol.Environment) bool { return e.Slots[len(e.Slots)-1].State == protocol.Failed })
	want := "The evidence of shop/checkout@" + a.Digest + " does not verify, so it was not started: the signature is by somebody else"
	if got := e.Slots[len(e.Slots)-1].Reason; got != want {
		t.Errorf("reason %q; want %q", got, want)
	}
}

func TestCorruptOrHostileImageNeverStarts(t *testing.T) {
	reg := newFakeRegistry(t)
	dir := t.TempDir()
	r := start(t, config(dir, reg))
	reg2 := func(e ...entry) string { return reg.push(t, e...) }
	outside := filepath.Join(dir, "outside")
	for name, test := range map[string]struct{ digest, want string }{
		"escape":  {reg2(entry{tar.Header{Name: "../../outside", Mode: 0o644, Typeflag: tar.TypeReg}, []byte("x")}), "leads out of the image"},
		"link":    {reg2(entry{Header: tar.Header{Name: "a", Linkname: dir, Typeflag: tar.TypeSymlink}}, entry{tar.Header{Name: "a/outside", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("x")}), "is corrupt"},
		"kind":    {reg2(entry{Header: tar.Header{Name: "a", Typeflag: tar.TypeCont}}), "is none of the things that an image may hold"},
		"dev":     {reg2(entry{Header: tar.Header{Name: "dev", Linkname: "/etc", Typeflag: tar.TypeSymlink}}), "/dev is not a folder"},
		"garbage": {reg.put([]byte("not a manifest")), "its manifest cannot be read"},
	} {
		if err := r.put(r.desire(stable(release("9.9.9", test.digest, map[string]string{"N": name}), 10000))); err != nil {
			t.Fatal(err)
		}
		e := r.settle("the refusal", func(e protocol.Environment) bool {
			return len(e.Slots) == 1 && e.Slots[0].Digest == test.digest && e.Slots[0].State == protocol.Failed
		})
		if !strings.Contains(e.Slots[0].Reason, test.want) || !strings.Contains(e.Slots[0].Reason, "It was not started") {
			t.Errorf("%s: %q; want %q", name, e.Slots[0].Reason, test.want)
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a layer wrote outside of its image")
	}

	// Changed in the registry, and changed on the machine.
	good := reg.pushApp(t, "a")
	reg.mu.Lock()
	raw := reg.content[good]
	reg.content[good] = append([]byte(" "), raw...)
	reg.mu.Unlock()
	r.put(r.desire(stable(release("1.0.0", good, nil), 10000)))
	e := r.settle("the refusal", func(e protocol.Environment) bool {
		return e.Slots[0].Digest == good && e.Slots[0].State == protocol.Failed
	})
	if !strings.Contains(e.Slots[0].Reason, "is corrupt: its manifest has the digest") {
		t.Errorf("reason %q", e.Slots[0].Reason)
	}
	reg.mu.Lock()
	reg.content[good] = raw
	reg.mu.Unlock()
	r.apply(stable(release("1.0.0", good, nil), 10000))
	if err := os.WriteFile(filepath.Join(r.host.images.path(good), "root", "label"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.put(r.desire(stable(release("1.0.1", good, nil), 10000)))
	e = r.settle("the refusal", func(e protocol.Environment) bool { return e.Slots[len(e.Slots)-1].State == protocol.Failed })
	if got := e.Slots[len(e.Slots)-1].Reason; !strings.Contains(got, "on this host is corrupt (label is not what was pulled), so it was not started") {
		t.Errorf("reason %q", got)
	}
}

func TestConnectionThatBreaksWhilePullingIsTriedAgain(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	good := reg.pushApp(t, "a")
	reg.mu.Lock()
	reg.cut = 3 // the configuration twice or the layer, whatever is asked for
	reg.mu.Unlock()
	e := r.apply(stable(release("1.0.0", good, nil), 10000))
	if e.Slots[0].State == protocol.Failed || reg.cut != 0 {
		t.Errorf("%s: %q; %d cuts were not seen", e.Slots[0].State, e.Slots[0].Reason, reg.cut)
	}

	// The layer alone says so.
	reg.mu.Lock()
	raw := reg.content[good]
	reg.mu.Unlock()
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	w := &wire{r: io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF))}
	var u unpacking
	if err := u.layer(t.TempDir(), w, m.Layers[0], ""); err == nil || !errors.Is(w.broke, io.ErrUnexpectedEOF) {
		t.Errorf("layer() = %v, broke = %v", err, w.broke)
	}
}

func TestRollbackNeedsOnlyTheHost(t *testing.T) {
	reg := newFakeRegistry(t)
	dir := t.TempDir()
	c := config(dir, reg)
	r := start(t, c)
	a, b, bad := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil), release("1.2.0", reg.pushApp(t, "c"), nil)
	r.apply(stable(a, 10000))
	r.apply(stable(bad, 10000))
	d := r.desire(stable(b, 10000))
	d.Bad = map[string]string{bad.Digest: "5 % of its requests failed"}
	if err := r.put(d); err != nil {
		t.Fatal(err)
	}
	e := r.settle("1.1.0", func(e protocol.Environment) bool { return e.Applied == d.Generation })
	reg.Close() // nothing can be pulled any more

	for i := range 2 { // with the old processes warm, then after a restart with the image only
		if i == 1 {
			d = r.desire(stable(b, 10000))
			d.Bad = map[string]string{bad.Digest: "5 % of its requests failed"}
			r.put(d)
			r.settle("1.1.0", func(e protocol.Environment) bool { return e.Applied == r.generation })
			r.stop()
			r2 := start(t, c)
			r2.generation, r2.epoch = r.generation, r.epoch
			r = r2
			e = r.settle("what ran", func(e protocol.Environment) bool { return len(e.Slots) > 0 && e.Slots[0].Ready == 1 })
			if got := get(t, "http://"+e.Address+"/"); got != "1.1.0" {
				t.Fatalf("after a restart: %q; want 1.1.0", got)
			}
		}
		stop := load("http://" + e.Address)
		var ev protocol.Event
		began := time.Now()
		if err := r.call("POST", "rollback", protocol.Rollback{Service: "checkout", Environment: "production", By: "root"}, &ev); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		if got := get(t, "http://"+e.Address+"/"); got != "1.0.0" {
			t.Errorf("after rollback %q; want 1.0.0, since 1.2.0 is remembered as bad", got)
		}
		if _, failed, _ := stop(); failed != 0 {
			t.Errorf("%d requests failed during rollback", failed)
		}
		if took > time.Second {
			t.Errorf("rollback took %s; want less than a second", took)
		}
		if ev.FromVersion != "1.1.0" || ev.ToVersion != "1.0.0" || ev.By != "root" {
			t.Errorf("event %+v", ev)
		}
		// The server learns of it before it may drive again.
		err := r.put(r.desire(stable(b, 10000)))
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "A rollback of checkout/production was made on the machine itself.") {
			t.Errorf("put before the event was read = %v", err)
		}
		var events []protocol.Event
		r.call("GET", "events", nil, &events)
		if len(events) != 1 || events[0].ID != ev.ID {
			t.Fatalf("events %+v", events)
		}
		if err := r.call("POST", "events/ack", protocol.Ack{Epoch: r.epoch, UpTo: ev.ID}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for to, want := range map[string]string{
		"1.2.0": "checkout 1.2.0 is remembered as bad in production: 5 % of its requests failed. Choose another release.",
		"7.7.7": "checkout 7.7.7 has not run in production on this machine. These have: 1.0.0 1.1.0 1.2.0.",
	} {
		err := r.call("POST", "rollback", protocol.Rollback{Service: "checkout", Environment: "production", To: to}, nil)
		if got := fault.Sentence(err); got != want {
			t.Errorf("rollback to %s: %q; want %q", to, got, want)
		}
	}
}

func TestFullDiskRefusesPullsNotRollbacks(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	a, b := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil)
	r.apply(stable(a, 10000))
	e := r.apply(stable(b, 10000))
	r.host.images.minFree = 1 << 62
	r.put(r.desire(stable(release("1.2.0", reg.pushApp(t, "c"), nil), 10000)))
	e = r.settle("the refusal", func(e protocol.Environment) bool {
		return strings.Contains(e.Slots[len(e.Slots)-1].Reason, "is nearly full, so the image")
	})
	if err := r.call("POST", "rollback", protocol.Rollback{Service: "checkout", Environment: "production"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := get(t, "http://"+e.Address+"/"); got != "1.0.0" {
		t.Errorf("after rollback: %q", got)
	}
}

func TestServerThatWasCutOffChangesNothing(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	a := release("1.0.0", reg.pushApp(t, "a"), nil)
	r.epoch = 5
	r.apply(stable(a, 10000))
	d := r.desire(stable(a, 10000))
	d.Epoch = 4
	if err := r.put(d); !fault.Is(err, fault.Conflict) || fault.Sentence(err) != "A newer server (epoch 5) drives this host; the one with epoch 4 changes nothing." {
		t.Errorf("put with an old epoch = %v", err)
	}
	d.Epoch, d.Generation = 5, 0
	if err := r.put(d); !fault.Is(err, fault.Conflict) {
		t.Errorf("put of an old generation = %v", err)
	}
	// The same again has no effect.
	before := r.settle("it", func(protocol.Environment) bool { return true })
	d.Generation = 1
	if err := r.put(d); err != nil {
		t.Fatal(err)
	}
	if after := r.settle("it", func(protocol.Environment) bool { return true }); after.Slots[0].Group != before.Slots[0].Group {
		t.Error("the same desired state made new processes")
	}
}

func TestSecondHostOnTheSameFolderIsRefused(t *testing.T) {
	reg := newFakeRegistry(t)
	c := config(t.TempDir(), reg)
	start(t, c)
	_, err := New(c)
	if got, want := fault.Sentence(err), "Another weir host already runs on "+c.Dir+". Stop it first, or give this one a folder of its own."; got != want {
		t.Errorf("error %q; want %q", got, want)
	}
}

func TestPortTakenIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reg := newFakeRegistry(t)
	c := config(t.TempDir(), reg)
	c.Listen = map[string]string{"checkout/production": l.Addr().String()}
	r := start(t, c)
	err = r.put(r.desire(stable(release("1.0.0", reg.pushApp(t, "a"), nil), 10000)))
	if got := fault.Sentence(err); !strings.Contains(got, "cannot listen on "+l.Addr().String()) || !strings.Contains(got, "address already in use") {
		t.Errorf("error %q", got)
	}
}

func TestUnconfinedReleasesShareThePortsOfTheMachine(t *testing.T) {
	reg := newFakeRegistry(t)
	c := config(t.TempDir(), reg)
	c.Unconfined = true
	r := start(t, c)
	a, b := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil)
	r.apply(stable(a, 10000))
	e := r.apply(stable(b, 10000))
	if got := get(t, "http://"+e.Address+"/"); got != "1.1.0" || e.Confined {
		t.Errorf("answer %q, confined %v", got, e.Confined)
	}
}

func BenchmarkProxy(b *testing.B) {
	reg := newFakeRegistry(b)
	r := start(b, config(b.TempDir(), reg))
	e := r.apply(stable(release("1.0.0", reg.pushApp(b, "a"), nil), 10000))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c := &http.Client{Transport: &http.Transport{}}
		for pb.Next() {
			res, err := c.Get("http://" + e.Address + "/")
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
}
