package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/deploy/protocol"
)

// process is one running copy of a release, alone in its sandbox.
type process struct {
	box       *confine.Sandbox
	proc      *confine.Proc
	port      int
	transport *http.Transport
	inflight  atomic.Int64
	draining  atomic.Bool
	output    tail
}

// start runs the image. The process is not ready yet.
func (p *pool) start(ctx context.Context, img image) (*process, error) {
	argv, err := img.command(p.release.Workload)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The image of %s %s names no program to run.", p.env.service, p.release.Version)
	}
	w := p.release.Workload
	spec := confine.Spec{Image: img.root, Dir: "/", Network: confine.Egress, Unconfined: p.env.host.config.Unconfined}
	spec.Limits = confine.Limits{Memory: uint64(max(w.Memory, 0)), CPU: w.CPU}
	if w.Network == "none" {
		spec.Network = confine.None
	}
	port := w.Port
	if spec.Unconfined {
		// Without a network of its own a process takes a port of the machine, and its files are where they are.
		spec.Image, spec.Dir = "", img.root
		if port, err = freePort(); err != nil {
			return nil, err
		}
		if strings.HasPrefix(argv[0], "/") {
			argv = slices.Clone(argv)
			argv[0] = img.root + argv[0]
		}
	}
	box, err := confine.Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	p.limited(box.Unenforced())
	pr := &process{box: box, port: port}
	env := map[string]string{}
	for _, kv := range img.config.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, kv := range box.Env() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	maps.Copy(env, p.release.Env)
	maps.Copy(env, map[string]string{
		"PORT": strconv.Itoa(port), "WEIR_SERVICE": p.env.service, "WEIR_ENVIRONMENT": p.env.name,
		"WEIR_VERSION": p.release.Version, "WEIR_RELEASE": string(p.release.ReleaseID),
	})
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	out := io.MultiWriter(&pr.output, p.env.host.logs.to(p.env.key, p.release.Version))
	dir := img.config.Config.WorkingDir
	if spec.Unconfined || dir == "" {
		dir = spec.Dir
	}
	pr.proc, err = box.Start(confine.Cmd{Argv: argv, Env: list, Dir: dir, Stdout: out, Stderr: out})
	if err != nil {
		box.Close()
		return nil, fault.Wrap(fault.Invalid, err, "The program of %s %s does not start: %s.", p.env.service, p.release.Version, err)
	}
	pr.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := box.Dial(ctx, port)
			if err != nil {
				return nil, &dialError{err}
			}
			return c, nil
		},
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
	return pr, nil
}

// dialError is a request that was not sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }
func (e *dialError) Unwrap() error { return e.cause }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// probe asks a path of the process and reports whether the answer is 200.
func (pr *process) probe(ctx context.Context, path string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://process"+path, nil)
	if err != nil {
		return err
	}
	res, err := pr.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", path, res.StatusCode)
	}
	return nil
}

// stop lets running requests finish, then asks the process to end, then ends it.
func (pr *process) stop(drain time.Duration) {
	pr.draining.Store(true)
	deadline := time.Now().Add(drain)
	for pr.inflight.Load() > 0 && time.Now().Before(deadline) {
		select {
		case <-pr.proc.Exited():
		case <-time.After(10 * time.Millisecond):
		}
	}
	pr.transport.CloseIdleConnections() // an open connection without a request would hold up its end
	pr.proc.Signal(syscall.SIGTERM)
	grace := min(max(time.Until(deadline), time.Second), 10*time.Second)
	select {
	case <-pr.proc.Exited():
	case <-time.After(grace):
	}
	pr.close()
}

func (pr *process) close() {
	pr.box.Close()
	pr.proc.Wait()
	pr.transport.CloseIdleConnections()
}

// died says how a process ended, with its last words.
func (pr *process) died() string {
	exit, _ := pr.proc.Wait()
	how := fmt.Sprintf("exit code %d", exit.Code)
	if exit.Signal != "" {
		how = exit.Signal
	}
	if why := pr.box.Exceeded(); why != "" {
		return fmt.Sprintf("it ended (%s): %s", how, why)
	}
	if words := pr.output.last(); words != "" {
		return fmt.Sprintf("it ended (%s), saying: %s", how, words)
	}
	return fmt.Sprintf("it ended (%s) without a word", how)
}

// tail keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if extra := len(t.b) - 4096; extra > 0 {
		t.b = slices.Delete(t.b, 0, extra)
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.b), []byte("\n"))
	return strings.ToValidUTF8(string(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | "))), "?")
}

// pool is a number of processes of one release that are kept running.
type pool struct {
	env      *environment
	release  protocol.Release
	replicas int
	cancel   context.CancelFunc
	done     sync.WaitGroup

	ready atomic.Pointer[[]*process]

	mu          sync.Mutex
	state       protocol.SlotState
	reason      string
	restarts    int
	soft        []string // limits that the machine cannot enforce
	established bool     // once it has been complete, it is never given up
}

// newPool starts keeping. known pools ran before, and are retried for ever.
func newPool(ctx context.Context, env *environment, r protocol.Release, replicas int, known bool) *pool {
	ctx, cancel := context.WithCancel(ctx)
	p := &pool{env: env, release: r, replicas: max(replicas, 1), cancel: cancel, state: protocol.Pulling, established: known}
	p.ready.Store(new([]*process))
	p.done.Go(func() { p.run(ctx) })
	return p
}

func (p *pool) run(ctx context.Context) {
	var img image
	deadline := time.Now().Add(p.env.host.config.StartTimeout)
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		var err error
		if img, err = p.env.host.images.ready(ctx, p.release); err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		p.set(protocol.Pulling, sentence(err))
		hopeless := fault.Is(err, fault.Denied) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound)
		if !p.known() && (hopeless || time.Now().After(deadline)) {
			p.fail(sentence(err))
			return
		}
		if !pause(ctx, wait) {
			return
		}
	}
	p.set(protocol.Starting, "")
	var replicas sync.WaitGroup
	for range p.replicas {
		replicas.Go(func() { p.replica(ctx, img) })
	}
	replicas.Wait()
}

// replica keeps one process running until the pool ends or is given up.
func (p *pool) replica(ctx context.Context, img image) {
	for attempt, wait := 1, 100*time.Millisecond; ; attempt, wait = attempt+1, min(2*wait, 30*time.Second) {
		began := time.Now()
		pr, err := p.start(ctx, img)
		if ctx.Err() != nil {
			if err == nil {
				pr.close()
			}
			return
		}
		why := ""
		if err != nil {
			why = sentence(err)
		} else if why = p.untilReady(ctx, pr); why == "" && ctx.Err() == nil {
			p.add(pr)
			why = p.watch(ctx, pr)
			p.remove(pr)
			if time.Since(began) > time.Minute {
				wait = 100 * time.Millisecond
			}
		}
		if ctx.Err() != nil {
			if pr != nil {
				pr.stop(p.release.Workload.Drain)
			}
			return
		}
		if pr != nil {
			pr.close()
		}
		slog.Warn("process is not well", "service", p.env.service, "environment", p.env.name, "version", p.release.Version, "reason", why)
		if !p.known() && attempt >= 3 {
			p.fail(fmt.Sprintf("%s %s did not become ready in %d attempts: %s", p.env.service, p.release.Version, attempt, why))
			return
		}
		p.again(why)
		if !pause(ctx, wait) {
			return
		}
	}
}

// untilReady returns "" once the process answers its ready path.
func (p *pool) untilReady(ctx context.Context, pr *process) string {
	end := time.Now().Add(p.env.host.config.ReadyTimeout)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := pr.probe(ctx, p.release.Workload.Ready, 2*time.Second)
		if err == nil {
			return ""
		}
		if ctx.Err() != nil {
			return "stopped"
		}
		if time.Now().After(end) {
			return fmt.Sprintf("it was not ready within %s: %v", p.env.host.config.ReadyTimeout, err)
		}
		select {
		case <-pr.proc.Exited():
			return pr.died()
		case <-ctx.Done():
			return "stopped"
		case <-time.After(wait):
		}
	}
}

// watch returns why a process that was ready is so no longer.
func (p *pool) watch(ctx context.Context, pr *process) string {
	live := p.release.Workload.Live
	if live == "" {
		live = p.release.Workload.Ready
	}
	tick := time.NewTicker(p.env.host.config.LiveEvery)
	defer tick.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return "stopped"
		case <-pr.proc.Exited():
			return pr.died()
		case <-tick.C:
			err := pr.probe(ctx, live, 5*time.Second)
			if err == nil {
				failures = 0
				continue
			}
			if failures++; failures >= 3 && ctx.Err() == nil {
				return fmt.Sprintf("it stopped answering its live check: %v", err)
			}
		}
	}
}

// limited notes what the machine cannot hold the processes to.
func (p *pool) limited(unenforced []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(unenforced) > 0 && len(p.soft) == 0 {
		slog.Warn("this machine cannot limit the processes of a release", "service", p.env.service, "environment", p.env.name, "version", p.release.Version, "not enforced", unenforced)
	}
	p.soft = unenforced
}

func (p *pool) unenforced() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.soft
}

func (p *pool) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.established
}

func (p *pool) set(s protocol.SlotState, reason string) {
	p.mu.Lock()
	p.state, p.reason = s, reason
	p.mu.Unlock()
	p.env.poke()
}

func (p *pool) again(why string) {
	p.mu.Lock()
	p.restarts++
	p.state, p.reason = protocol.Starting, why
	p.mu.Unlock()
	p.env.poke()
}

// fail gives up: the other replicas stop as well.
func (p *pool) fail(why string) {
	p.mu.Lock()
	if p.established {
		p.mu.Unlock()
		return
	}
	p.state, p.reason = protocol.Failed, why
	p.mu.Unlock()
	p.cancel()
	p.env.poke()
}

func (p *pool) add(pr *process) {
	p.mu.Lock()
	list := append(slices.Clone(*p.ready.Load()), pr)
	p.ready.Store(&list)
	if len(list) == p.replicas && p.state != protocol.Failed {
		p.state, p.reason, p.established = protocol.Running, "", true
	}
	p.mu.Unlock()
	p.env.poke()
}

func (p *pool) remove(pr *process) {
	p.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(*p.ready.Load()), func(x *process) bool { return x == pr })
	p.ready.Store(&list)
	p.mu.Unlock()
	p.env.poke()
}

// status is a consistent look at the pool.
func (p *pool) status() (s protocol.SlotState, reason string, ready, restarts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.reason, len(*p.ready.Load()), p.restarts
}

// pick chooses the process with the least to do and counts a request in. done must be called.
func (p *pool) pick(except *process) *process {
	list := *p.ready.Load()
	var best *process
	least := int64(1 << 62)
	for i, off := 0, offset(len(list)); i < len(list); i++ {
		pr := list[(i+off)%len(list)]
		if n := pr.inflight.Load(); pr != except && n < least {
			best, least = pr, n
		}
	}
	if best == nil {
		return nil
	}
	best.inflight.Add(1)
	if best.draining.Load() { // it began to drain in between, and may not have seen us
		best.inflight.Add(-1)
		return nil
	}
	return best
}

func sentence(err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	return err.Error()
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
