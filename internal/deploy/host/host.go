package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// Config is what a host needs to know. Zero durations and sizes mean the default.
type Config struct {
	Dir    string // of state, images and logs; one host only
	Socket string // of the control protocol; default Dir/host.sock
	// Listen gives the address of an environment's proxy by "service/environment". The others get a free
	// port of the loopback, which stays theirs.
	Listen map[string]string
	// Registry is the URL of the OCI registry, and Token what to show it.
	Registry string
	Token    func(ctx context.Context) (string, error)
	// Verify checks the evidence of an image, each time before a process starts. Its error says what is wrong.
	Verify func(ctx context.Context, image, digest string, bundles [][]byte) error
	// Unconfined runs processes without a sandbox.
	Unconfined bool

	WarmFor      time.Duration // how long a replaced release keeps running without requests, 15 min; negative: not at all
	StartTimeout time.Duration // for an image to be pulled, 2 min
	ReadyTimeout time.Duration // for a process to become ready, 60 s
	LiveEvery    time.Duration // between live checks, 5 s
	MinFree      uint64        // bytes of disk below which nothing is pulled, 256 MiB
	Clock        func() time.Time
}

// Host is a running one.
type Host struct {
	config   Config
	instance string
	started  time.Time
	store    *store
	images   *images
	logs     *logs
	proxy    *httputil.ReverseProxy
	lock     *os.File
	sweeping sync.Mutex

	mu       sync.Mutex
	envs     map[string]*environment
	run      func(*environment) error // starts an environment; set by Run
	sequence int64
	change   chan struct{} // closed and replaced when the sequence grows
}

// New opens the host's folder. A second host on the same folder is refused.
func New(c Config) (*Host, error) {
	if c.Dir == "" || !filepath.IsAbs(c.Dir) {
		return nil, fault.New(fault.Invalid, "The host needs a folder of its own, given as an absolute path; got %q.", c.Dir)
	}
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.WarmFor, 15*time.Minute)
	set(&c.StartTimeout, 2*time.Minute)
	set(&c.ReadyTimeout, time.Minute)
	set(&c.LiveEvery, 5*time.Second)
	if c.MinFree == 0 {
		c.MinFree = 256 << 20
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(c.Dir, "host.sock")
	}
	if c.Clock == nil {
		c.Clock = func() time.Time { return time.Now().UTC() }
	}
	if !c.Unconfined {
		if s := confine.Probe(); !s.OK {
			return nil, fault.New(fault.Unavailable, "The host %s", strings.Join(s.Missing, "; "))
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the host's folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(c.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the host's folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fault.New(fault.Conflict, "Another weir host already runs on %s. Stop it first, or give this one a folder of its own.", c.Dir)
	}
	st, err := openStore(c.Dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	h := &Host{
		config: c, instance: id.New("host"), started: c.Clock(), store: st, lock: lock, proxy: newProxy(), logs: &logs{dir: filepath.Join(c.Dir, "logs")},
		images: &images{dir: filepath.Join(c.Dir, "images"), minFree: c.MinFree, verify: c.Verify},
		envs:   map[string]*environment{}, change: make(chan struct{}),
	}
	if c.Registry != "" {
		h.images.from = newRegistry(c.Registry, c.Token)
	}
	h.images.sweepPulls()
	return h, nil
}

// Name is for the supervisor.
func (h *Host) Name() string { return "host" }

// Socket is where the control protocol is served.
func (h *Host) Socket() string { return h.config.Socket }

// Run brings back what was in force and serves until ctx ends; then it drains and ends every process.
func (h *Host) Run(ctx context.Context) error {
	defer h.lock.Close()
	l, err := listenUnix(h.config.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()

	h.mu.Lock()
	h.run = func(e *environment) error {
		if err := h.listen(e); err != nil {
			return err
		}
		parts.Go(func() { e.server.Serve(e.listener) })
		parts.Go(func() {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			e.server.Shutdown(stop)
			e.server.Close()
		})
		parts.Go(func() { e.run(ctx) })
		return nil
	}
	h.mu.Unlock()
	for key, rec := range h.store.read().Environments {
		if _, err := h.start(key, rec); err != nil {
			slog.Error("environment not brought back", "environment", key, "error", err)
		}
	}
	server := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	parts.Go(func() {
		<-ctx.Done()
		server.Close()
	})
	slog.Info("host ready", "socket", h.config.Socket, "confined", !h.config.Unconfined)
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control protocol: %w", err)
	}
	return nil
}

// start makes the environment run, if it does not yet.
func (h *Host) start(key string, rec envRecord) (*environment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.envs[key]; e != nil {
		return e, nil
	}
	if h.run == nil {
		return nil, fault.New(fault.Unavailable, "The host is starting. Ask again in a moment.")
	}
	e := newEnvironment(h, key, rec)
	if err := h.run(e); err != nil {
		return nil, err
	}
	h.envs[key] = e
	return e, nil
}

// listen opens the proxy of an environment where it was before, or where the configuration says.
func (h *Host) listen(e *environment) error {
	want, fixed := h.config.Listen[e.key]
	if !fixed {
		want = e.record.Address
	}
	var l net.Listener
	var err error
	if want == "" {
		l, err = listenSomewhere()
	} else if l, err = listenAgain(want); err != nil && !fixed {
		slog.Warn("the address of an environment is taken; it gets another one", "environment", e.key, "address", want, "error", err)
		l, err = listenSomewhere()
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "The proxy of %s cannot listen on %s: %s. Stop what uses that port, or configure another address.", e.key, want, err)
	}
	e.listener = l
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	e.record.Address = l.Addr().String()
	return h.store.env(e.key, func(r *envRecord) { r.Address = e.record.Address })
}

// listenAgain opens a known address. A host that was killed a moment ago may
// still hold it, so it is tried for two seconds.
func listenAgain(address string) (net.Listener, error) {
	for until := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := net.Listen("tcp", address)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(until) {
			return l, err
		}
	}
}

// listenSomewhere opens a free port below those that the kernel gives to
// outgoing connections (32768 and up on Linux): an address that is remembered
// must not be lost to somebody's client while the host is down.
func listenSomewhere() (net.Listener, error) {
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// listenUnix opens a socket that only this user can reach.
func listenUnix(path string) (net.Listener, error) {
	if len(path) > 107 {
		return nil, fault.New(fault.Invalid, "The socket path %s is too long for the operating system (107 characters at most). Choose a shorter folder.", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// The lock is ours, so whatever is there is left over.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	// Bound aside and renamed, so that it never stands there with open permissions.
	tmp := path + "~"
	os.Remove(tmp)
	l, err := net.Listen("unix", tmp)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The host cannot listen on %s: %s.", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return l, nil
}

// desire stores what an environment should be and lets its loop do it.
func (h *Host) desire(d protocol.Desired) (*environment, error) {
	if err := validate(d); err != nil {
		return nil, err
	}
	key := d.Service + "/" + d.Environment
	changed := false
	err := h.store.update(func(s *state) error {
		if d.Epoch < s.Epoch {
			return fault.New(fault.Conflict, "A newer server (epoch %d) drives this host; the one with epoch %d changes nothing.", s.Epoch, d.Epoch)
		}
		s.Epoch = d.Epoch
		e := s.Environments[key]
		if e.Pending {
			return fault.New(fault.Conflict, "A rollback of %s was made on the machine itself. Take note of the host's events first.", key)
		}
		if d.Generation < e.Desired.Generation {
			return fault.New(fault.Conflict, "%s is at generation %d already; %d is older.", key, e.Desired.Generation, d.Generation)
		}
		changed = !sameSlots(e.Desired.Slots, d.Slots) || e.Desired.Generation != d.Generation
		e.Desired, e.Bad = d, d.Bad
		s.Environments[key] = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	e, err := h.start(key, h.store.read().Environments[key])
	if err != nil {
		return nil, err
	}
	e.adopt(h.store.read().Environments[key], changed)
	return e, nil
}

func sameSlots(a, b []protocol.Slot) bool {
	return slices.EqualFunc(a, b, func(x, y protocol.Slot) bool {
		return x.Role == y.Role && x.Weight == y.Weight && x.Replicas == y.Replicas && same(x.Release, y.Release)
	})
}

// adopt takes over what was stored of the environment's desired state.
func (e *environment) adopt(r envRecord, changed bool) {
	e.mu.Lock()
	e.record.Desired, e.record.Bad, e.record.Pending = r.Desired, r.Bad, r.Pending
	if changed {
		e.target++
	}
	e.mu.Unlock()
	e.poke()
}

func validate(d protocol.Desired) error {
	if d.Service == "" || d.Environment == "" || strings.ContainsAny(d.Service+d.Environment, "/\\") {
		return fault.New(fault.Invalid, "A desired state names a service and an environment; got %q and %q.", d.Service, d.Environment)
	}
	stable, total := 0, 0
	for _, s := range d.Slots {
		w := s.Release.Workload
		switch {
		case s.Role != deploy.Stable && s.Role != deploy.Canary && s.Role != deploy.Baseline:
			return fault.New(fault.Invalid, "%q is not a role.", s.Role)
		case s.Release.ReleaseID == "" || !validDigest(s.Release.Digest):
			return fault.New(fault.Invalid, "The %s slot names no release with a digest.", s.Role)
		case s.Weight < 0:
			return fault.New(fault.Invalid, "The %s slot has a negative weight.", s.Role)
		case w.Kind != "http":
			return fault.New(fault.Invalid, "This host runs workloads of kind http; %s %s is of kind %q.", d.Service, s.Release.Version, w.Kind)
		case w.Port < 1 || w.Port > 65535 || !strings.HasPrefix(w.Ready, "/"):
			return fault.New(fault.Invalid, "The workload of %s %s needs a port and a path that answers when it is ready.", d.Service, s.Release.Version)
		case s.Replicas > 100:
			return fault.New(fault.Invalid, "%s %s asks for %d processes; 100 is the limit on one host.", d.Service, s.Release.Version, s.Replicas)
		}
		if s.Role == deploy.Stable {
			stable++
		}
		total += s.Weight
	}
	if len(d.Slots) > 0 && (stable != 1 || total != 10000) {
		return fault.New(fault.Invalid, "A desired state has one stable slot and weights that add up to 10000; got %d and %d.", stable, total)
	}
	return nil
}

// changed tells whoever waits that there is something new to see.
func (h *Host) changed() {
	h.mu.Lock()
	h.sequence++
	close(h.change)
	h.change = make(chan struct{})
	h.mu.Unlock()
}

func (h *Host) all() (envs []*environment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.envs {
		envs = append(envs, e)
	}
	slices.SortFunc(envs, func(a, b *environment) int { return strings.Compare(a.key, b.key) })
	return envs
}

// observe waits until the sequence is over after, or ctx ends, and returns what is.
func (h *Host) observe(ctx context.Context, after int64) protocol.Observed {
	for {
		h.mu.Lock()
		seq, change := h.sequence, h.change
		h.mu.Unlock()
		if seq > after || ctx.Err() != nil {
			o := protocol.Observed{Instance: h.instance, Sequence: seq, Environments: []protocol.Environment{}}
			for _, e := range h.all() {
				o.Environments = append(o.Environments, e.status())
			}
			return o
		}
		select {
		case <-ctx.Done():
		case <-change:
		}
	}
}

// sweep removes images that no environment needs, one sweep at a time, in the background.
func (h *Host) sweep() {
	go func() {
		if h.sweeping.TryLock() {
			defer h.sweeping.Unlock()
			h.images.keepOnly(h.store.read().digests())
		}
	}()
}
