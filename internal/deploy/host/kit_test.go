package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

func TestMain(m *testing.M) {
	confine.Main()
	os.Exit(m.Run())
}

// app is the test service as one static binary.
var app = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "app")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "app"), "./testdata/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

// fakeRegistry serves blobs and manifests from memory, by digest.
type fakeRegistry struct {
	*httptest.Server
	mu        sync.Mutex
	content   map[string][]byte
	referrers map[string][]descriptor
	cut       int // so many answers with blobs break off in the middle
}

func newFakeRegistry(t testing.TB) *fakeRegistry {
	r := &fakeRegistry{content: map[string][]byte{}, referrers: map[string][]descriptor{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		parts := strings.Split(q.URL.Path, "/")
		digest := parts[len(parts)-1]
		if parts[len(parts)-2] == "referrers" {
			json.NewEncoder(w).Encode(map[string]any{"manifests": r.referrers[digest]})
			return
		}
		if _, token, _ := q.BasicAuth(); token != "good" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		b, ok := r.content[digest]
		if !ok {
			http.Error(w, "unknown", http.StatusNotFound)
			return
		}
		if r.cut > 0 && parts[len(parts)-2] == "blobs" {
			r.cut--
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			w.Write(b[:len(b)/2])
			panic(http.ErrAbortHandler)
		}
		w.Write(b)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *fakeRegistry) put(b []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := sum(b)
	r.content[d] = b
	return d
}

type entry struct {
	tar.Header
	body []byte
}

// push makes an image of one layer and returns its digest.
func (r *fakeRegistry) push(t testing.TB, entries ...entry) string {
	t.Helper()
	var plain bytes.Buffer
	tw := tar.NewWriter(&plain)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		tw.Write(e.body)
	}
	tw.Close()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	layer := r.put(packed.Bytes())
	config, _ := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/app"}, "Env": []string{"PATH=/", "HOME=/tmp"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(plain.Bytes()))}},
	})
	m, _ := json.Marshal(manifest{
		Config: descriptor{Digest: r.put(config), Size: int64(len(config))},
		Layers: []descriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: layer, Size: int64(packed.Len())}},
	})
	return r.put(m)
}

func (r *fakeRegistry) attest(image string, bundle []byte) {
	m, _ := json.Marshal(manifest{Layers: []descriptor{{Digest: r.put(bundle), Size: int64(len(bundle))}}})
	d := r.put(m)
	r.mu.Lock()
	r.referrers[image] = append(r.referrers[image], descriptor{Digest: d, ArtifactType: "application/vnd.dev.sigstore.bundle.v0.3+json"})
	r.mu.Unlock()
}

func (r *fakeRegistry) pushApp(t testing.TB, label string) string {
	t.Helper()
	b, err := app()
	if err != nil {
		t.Fatal(err)
	}
	return r.push(t, entry{tar.Header{Name: "app", Mode: 0o755, Typeflag: tar.TypeReg}, b}, entry{tar.Header{Name: "label", Mode: 0o644, Typeflag: tar.TypeReg}, []byte(label)})
}

func release(version, digest string, env map[string]string) protocol.Release {
	return protocol.Release{
		ReleaseID: deploy.ReleaseID("rel_" + version), Version: version, Image: "shop/checkout", Digest: digest, Env: env,
		Workload: protocol.Workload{Kind: "http", Port: 8080, Ready: "/readyz", Drain: 5 * time.Second, Replicas: 1},
	}
}

func stable(r protocol.Release, weight int) protocol.Slot {
	return protocol.Slot{Role: deploy.Stable, Replicas: 1, Weight: weight, Release: r}
}

func slot(role deploy.Role, r protocol.Release, weight int) protocol.Slot {
	return protocol.Slot{Role: role, Replicas: 1, Weight: weight, Release: r}
}

// rig is a host under test, driven over its socket.
type rig struct {
	t          testing.TB
	host       *Host
	client     *http.Client
	stop       func()
	generation int64
	epoch      int64
}

func config(dir string, reg *fakeRegistry) Config {
	return Config{
		Dir: dir, Registry: reg.URL, Token: func(context.Context) (string, error) { return "good", nil },
		ReadyTimeout: 10 * time.Second, StartTimeout: 2 * time.Second, LiveEvery: 50 * time.Millisecond, MinFree: 1,
	}
}

func start(t testing.TB, c Config) *rig {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	r := &rig{t: t, host: h, epoch: 1}
	r.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "unix", h.Socket())
			if err == nil || ctx.Err() != nil {
				return c, err
			}
			time.Sleep(time.Millisecond)
		}
	}}}
	r.stop = sync.OnceFunc(func() {
		r.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) call(method, path string, body, into any) error {
	r.t.Helper()
	b, _ := json.Marshal(body)
	req, _ := http.NewRequest(method, "http://host/host/v1/"+path, bytes.NewReader(b))
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		var p protocol.Problem
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			r.t.Fatal(err)
		}
		return fault.New(p.Type, "%s", p.Detail)
	}
	if into != nil {
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			r.t.Fatal(err)
		}
	}
	return nil
}

func (r *rig) desire(slots ...protocol.Slot) protocol.Desired {
	r.generation++
	return protocol.Desired{Epoch: r.epoch, ServiceID: "svc_1", Service: "checkout", Environment: "production", Generation: r.generation, Slots: slots}
}

func (r *rig) put(d protocol.Desired) error { return r.call("PUT", "environments", d, nil) }

// settle waits until the environment is as ok wants it.
func (r *rig) settle(what string, ok func(protocol.Environment) bool) protocol.Environment {
	r.t.Helper()
	var last protocol.Environment
	after := int64(-1)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		var o protocol.Observed
		if err := r.call("GET", fmt.Sprintf("environments?after=%d&wait=1s", after), nil, &o); err != nil {
			r.t.Fatal(err)
		}
		after = o.Sequence
		if len(o.Environments) == 1 {
			if last = o.Environments[0]; ok(last) {
				return last
			}
		}
	}
	b, _ := json.MarshalIndent(last, "", " ")
	r.t.Fatalf("waited 20 s for %s; it is %s", what, b)
	return last
}

func (r *rig) apply(slots ...protocol.Slot) protocol.Environment {
	r.t.Helper()
	d := r.desire(slots...)
	if err := r.put(d); err != nil {
		r.t.Fatal(err)
	}
	return r.settle("the desired state to be in force", func(e protocol.Environment) bool { return e.Applied == d.Generation })
}

func (r *rig) counters() map[deploy.Role]deploy.Counters {
	r.t.Helper()
	var all []deploy.Counters
	if err := r.call("GET", "counters", nil, &all); err != nil {
		r.t.Fatal(err)
	}
	m := map[deploy.Role]deploy.Counters{}
	for _, c := range all {
		m[c.Role] = c
	}
	return m
}

func get(t testing.TB, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}
