package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
	"weir/internal/base/jail"
)

// system is what every sandbox sees of the machine, read-only.
var system = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc", "/opt"}

// Sandbox is an open one. Its methods may be used concurrently.
type Sandbox struct {
	spec Spec
	boot jail.Boot
	init keeper
	link *jail.Link
	conn *net.UnixConn
	out  *egress
	held group // of processes, for the limits
	soft []string
	gone chan struct{} // closed when init has ended

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	procs   map[uint64]*Proc
	closed  bool
	over    string
}

// keeper is the process that is init, or that keeps it.
type keeper interface {
	Kill() error
	Wait()
}

type answer struct {
	jail.Reply
	fds []int
}

// errInit says that init, or what was to fork it, was killed before the sandbox was open.
var errInit = errors.New("the first process of the sandbox was killed")

// Open starts a sandbox. The context bounds only the opening; Close ends it.
func Open(ctx context.Context, spec Spec) (*Sandbox, error) {
	s, err := open(ctx, spec)
	if errors.Is(err, errInit) && ctx.Err() == nil { // somebody may have killed the zygote, and with it the init that waited
		s, err = open(ctx, spec)
	}
	return s, err
}

func open(ctx context.Context, spec Spec) (*Sandbox, error) {
	if !mainCalled.Load() {
		return nil, errors.New("confine.Main was not called first in main")
	}
	if spec.Network == "" {
		spec.Network = None
	}
	b, err := plan(&spec)
	if err != nil {
		return nil, err
	}
	var (
		ours    *os.File
		held    group
		missing []string
		p       keeper
		run     *runtimeProcess
	)
	if spec.Container != nil {
		ours, run, held, missing, err = startContainer(spec)
		p = run
	} else {
		ours, p, held, missing, err = startNative(spec, b)
	}
	if err != nil {
		held.remove()
		return nil, err
	}
	conn, err := control(ours)
	if err != nil {
		p.Kill()
		p.Wait()
		held.remove()
		return nil, err
	}
	if run != nil {
		run.link(conn)
	}
	l := &jail.Link{Socket: socket{conn}}
	s := &Sandbox{spec: spec, boot: b, init: p, link: l, conn: conn, held: held, soft: missing, gone: make(chan struct{}), waiting: map[uint64]chan answer{}, procs: map[uint64]*Proc{}}
	stop := context.AfterFunc(ctx, func() { p.Kill() })
	var first jail.Reply
	err = l.Send(b)
	if err == nil {
		_, err = l.Receive(&first)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errInit, err)
	} else {
		err = first.Error()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		p.Kill()
		conn.Close()
		p.Wait()
		held.remove()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if run != nil {
			return nil, run.refusal(err)
		}
		return nil, fault.Wrap(fault.Unavailable, err, "%s", refusal(err))
	}
	go s.read()
	if spec.Network == Egress && !spec.Unconfined || spec.Serve != nil {
		if err := s.startEgress(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// startNative starts init in namespaces of its own, in a control group.
func startNative(spec Spec, b jail.Boot) (ours *os.File, p *child, held group, missing []string, err error) {
	if b.Namespaces {
		init, err := bornAs(shapeOf(b, spec.Limits))
		if err != nil {
			return nil, nil, held, nil, fault.Wrap(fault.Unavailable, err, "%s", refusal(err))
		}
		return init.ours, init.child, init.held, init.missing, nil
	}
	if spec.Limits.Memory > 0 || spec.Limits.CPU > 0 {
		held, missing = machineGroups().newGroup(spec.Limits)
	}
	ours, p, err = unconfined()
	if err == nil {
		if err = held.add(p.pid); err != nil {
			ours.Close()
			p.Kill()
			p.Wait()
		}
	}
	if err != nil {
		err = fault.Wrap(fault.Unavailable, err, "%s", refusal(err))
	}
	return ours, p, held, missing, err
}

// plan decides what init is told, and fills in the defaults of spec.
func plan(spec *Spec) (jail.Boot, error) {
	if spec.Container != nil {
		if spec.Dir == "" {
			spec.Dir = "/"
		}
		spec.Unconfined = false
		return jail.Boot{Dir: spec.Dir, Limits: spec.Limits, Contained: true}, nil
	}
	switch {
	case spec.Dir == "":
		spec.Dir = "/tmp"
	case spec.Image == "":
		spec.ReadWrite = append([]string{spec.Dir}, spec.ReadWrite...)
	}
	b := jail.Boot{Dir: spec.Dir, Image: spec.Image, Limits: spec.Limits, Unconfined: spec.Unconfined, Builder: spec.Builder && !spec.Unconfined, Namespaces: !spec.Unconfined}
	if spec.Unconfined {
		return b, nil
	}
	b.NetNS = spec.Network != Host
	for _, p := range slices.Concat(spec.ReadOnly, spec.ReadWrite, spec.Plain) {
		if !filepath.IsAbs(p) || filepath.Clean(p) == "/" {
			return jail.Boot{}, fmt.Errorf("root %q of a sandbox: want an absolute path below /", p)
		}
	}
	if !spec.NoSystem && spec.Image == "" {
		for _, p := range system {
			b.Roots = append(b.Roots, jail.Root{Path: p, Optional: true})
		}
		b.Roots = append(b.Roots, toolchain()...)
		b.Masks = privateEtc()
		if spec.Network == Host {
			// Often a link out of /etc.
			if p, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && p != "/etc/resolv.conf" {
				b.Roots = append(b.Roots, jail.Root{Path: p, Optional: true})
			}
		}
	}
	for _, p := range spec.Plain {
		b.Roots = append(b.Roots, jail.Root{Path: filepath.Clean(p), Plain: true})
	}
	for _, p := range spec.ReadOnly {
		b.Roots = add(b.Roots, filepath.Clean(p), false)
	}
	for _, p := range spec.ReadWrite {
		if p != "/tmp" {
			b.Roots = add(b.Roots, filepath.Clean(p), true)
		}
	}
	return b, nil
}

func add(roots []jail.Root, path string, write bool) []jail.Root {
	for i := range roots {
		if roots[i].Path == path {
			roots[i].Write = roots[i].Write || write
			return roots
		}
	}
	return append(roots, jail.Root{Path: path, Write: write})
}

// toolchain is the Go installation, where it is not in a system folder already.
var toolchain = sync.OnceValue(func() (roots []jail.Root) {
	dir := os.Getenv("GOROOT")
	if dir == "" {
		if _, err := os.Stat("/usr/local/go"); err == nil {
			return nil
		}
		for _, p := range filepath.SplitList(os.Getenv("PATH")) {
			if real, err := filepath.EvalSymlinks(filepath.Join(p, "go")); err == nil {
				dir = filepath.Dir(filepath.Dir(real))
				break
			}
		}
	}
	if dir == "" || !filepath.IsAbs(dir) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "pkg", "tool")); err != nil {
		return nil
	}
	return []jail.Root{{Path: filepath.Clean(dir), Optional: true}}
})

// privateEtc lists what is in /etc but not for everyone. It matters when we run as root, and then the
// files' owner is the user in the sandbox.
var privateEtc = sync.OnceValue(func() (paths []string) {
	if os.Getuid() != 0 {
		return nil
	}
	filepath.WalkDir("/etc", func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Mode()&os.ModeSymlink != 0 {
			return nil
		}
		if info.Mode().Perm()&0o004 == 0 {
			paths = append(paths, p)
			if d.IsDir() {
				return filepath.SkipDir
			}
		}
		return nil
	})
	return paths
})

func (s *Sandbox) read() {
	for {
		var r jail.Reply
		fds, err := s.link.Receive(&r)
		if err != nil {
			s.end()
			return
		}
		s.mu.Lock()
		if r.Exit != nil {
			p := s.procs[r.ID]
			delete(s.procs, r.ID)
			s.mu.Unlock()
			if p != nil {
				p.exit, p.err = *r.Exit, nil
				close(p.exited)
			}
			continue
		}
		ch := s.waiting[r.ID]
		delete(s.waiting, r.ID)
		s.mu.Unlock()
		if ch == nil {
			jail.CloseAll(fds)
			continue
		}
		ch <- answer{r, fds}
	}
}

var errClosed = errors.New("the sandbox is closed")

// end marks everything that still waits as lost, once init is gone.
func (s *Sandbox) end() {
	s.conn.Close()
	if !s.spec.Unconfined {
		s.init.Kill()
	}
	over := s.held.exceeded() // a container's runtime removes the group as soon as it is empty
	s.init.Wait()
	if s.boot.Namespaces {
		go prepare(shapeOf(s.boot, s.spec.Limits))
	}
	if over == "" {
		over = s.held.exceeded()
	}
	s.held.remove()
	s.mu.Lock()
	s.over = over
	s.closed = true
	waiting, procs := s.waiting, s.procs
	s.waiting, s.procs = nil, nil
	s.mu.Unlock()
	for _, ch := range waiting {
		close(ch)
	}
	for _, p := range procs {
		p.exit, p.err = Exit{Code: 137, Signal: "SIGKILL"}, errClosed
		close(p.exited)
	}
	close(s.gone)
}

// Close ends every process in the sandbox and returns when none is left. It may be called twice.
func (s *Sandbox) Close() error {
	if s.out != nil {
		s.out.close()
	}
	if s.spec.Unconfined {
		s.conn.CloseWrite()
	} else {
		s.init.Kill()
	}
	select {
	case <-s.gone:
	case <-time.After(10 * time.Second):
		s.init.Kill()
		<-s.gone
	}
	return nil
}

// Exceeded says which limit the processes in there have run into, as the end of a sentence, or nothing.
func (s *Sandbox) Exceeded() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.over
	}
	return s.held.exceeded()
}

// Unenforced names the limits that were asked for and that this machine cannot hold anybody to: memory, cpu, processes.
func (s *Sandbox) Unenforced() []string { return s.soft }

// Gone is closed when the sandbox has ended, by Close or by itself.
func (s *Sandbox) Gone() <-chan struct{} { return s.gone }

func (s *Sandbox) ask(ctx context.Context, req jail.Request, fds ...int) (answer, error) {
	ch := make(chan answer, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return answer{}, errClosed
	}
	if req.ID == 0 {
		s.next++
		req.ID = s.next
	}
	s.waiting[req.ID] = ch
	s.mu.Unlock()
	if err := s.link.Send(req, fds...); err != nil {
		s.mu.Lock()
		delete(s.waiting, req.ID)
		s.mu.Unlock()
		return answer{}, fmt.Errorf("%w: %w", errClosed, err)
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return answer{}, errClosed
		}
		return a, a.Error()
	case <-ctx.Done():
		go func() { // whoever comes late with a file has it closed
			if a, ok := <-ch; ok {
				jail.CloseAll(a.fds)
			}
		}()
		return answer{}, ctx.Err()
	}
}

// Dial connects to a port on the sandbox's loopback.
func (s *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	a, err := s.ask(ctx, jail.Request{Op: jail.OpDial, Port: port})
	if err != nil {
		return nil, portError("connect to", port, err)
	}
	f, err := a.file("connection")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

// Listen opens a port on the sandbox's loopback that the caller serves. Port 0 chooses one.
func (s *Sandbox) Listen(port int) (net.Listener, error) {
	return s.ListenAt([4]byte{127, 0, 0, 1}, port)
}

// ListenAt is Listen on another address of the loopback, 127.0.0.0/8.
func (s *Sandbox) ListenAt(addr [4]byte, port int) (net.Listener, error) {
	a, err := s.ask(context.Background(), jail.Request{Op: jail.OpListen, Port: port, Addr: addr})
	if err != nil {
		return nil, portError("listen on", port, err)
	}
	f, err := a.file("listener")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// Listening are the ports of the sandbox's loopback that its own programs listen on.
func (s *Sandbox) Listening(ctx context.Context) ([]int, error) {
	a, err := s.ask(ctx, jail.Request{Op: jail.OpPorts})
	if err != nil {
		return nil, err
	}
	if s.out == nil {
		return a.Ports, nil
	}
	_, own, _ := net.SplitHostPort(s.out.address)
	return slices.DeleteFunc(a.Ports, func(p int) bool { return strconv.Itoa(p) == own }), nil
}

func (a answer) file(name string) (*os.File, error) {
	if len(a.fds) != 1 {
		jail.CloseAll(a.fds)
		return nil, fmt.Errorf("sandbox sent %d files, want 1", len(a.fds))
	}
	return os.NewFile(uintptr(a.fds[0]), name), nil
}

// LocalURL is where Spec.Serve answers, "" if there is none.
func (s *Sandbox) LocalURL() string {
	if s.out == nil || s.spec.Serve == nil {
		return ""
	}
	return "http://" + s.out.address
}

// Env is what to add to a command's environment: where the proxy is, if there is one.
func (s *Sandbox) Env() []string {
	if s.out == nil || s.spec.Network != Egress || s.spec.Unconfined {
		return nil
	}
	return s.out.env()
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// inside is who a process is in there: itself, but nobody is root.
func inside(id int, b jail.Boot) int {
	switch {
	case b.Builder:
		return 0
	case b.Image != "":
		return 65532 // as images of static binaries expect it
	case id == 0:
		return 1000
	}
	return id
}

var _ io.Closer = (*Sandbox)(nil)
