package confine

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"weir/internal/base/jail"
)

// nursery has the zygote of this process, and starts another when one was killed.
var nursery struct {
	sync.Mutex
	current *zygote
	spare   *born // waits for the next sandbox
}

// zygote is our end of the process that forks inits: see jail.Zygote.
type zygote struct {
	link *jail.Link
	conn *net.UnixConn
	pid  int

	mu       sync.Mutex
	next     uint64
	waiting  map[uint64]chan *child // closed if the zygote dies
	refused  map[uint64]error
	children map[uint64]*child
	dead     bool
}

// child is an init, or another process that this one waits for.
type child struct {
	pid  int
	gone chan struct{} // closed when it has ended

	process *os.Process // if it is our own child

	mu    sync.Mutex
	pidfd int // -1: none, or closed
}

// Kill ends it, or says that it has ended.
func (c *child) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.gone:
		return os.ErrProcessDone
	default:
	}
	switch {
	case c.process != nil:
		return c.process.Kill()
	case c.pidfd < 0:
		return syscall.Kill(c.pid, syscall.SIGKILL)
	}
	return unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
}

// Wait returns when it has ended.
func (c *child) Wait() { <-c.gone }

func (c *child) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
	close(c.gone)
}

var errZygote = fmt.Errorf("%w, with the process that starts sandboxes", errInit)

// shape is what is settled about an init before its first frame tells it the rest.
type shape struct {
	uid, gid int // who it is in there
	netns    bool
	limits   Limits
}

func shapeOf(b jail.Boot, l Limits) shape {
	return shape{inside(os.Getuid(), b), inside(os.Getgid(), b), b.NetNS, l}
}

// born is an init in its control group. Nobody has told it anything.
type born struct {
	shape
	*child
	ours    *os.File // our end of its control socket
	held    group
	missing []string // limits that this machine cannot hold it to
}

// bornAs returns an init: the one that waits, if it is of that shape, or a new one.
func bornAs(s shape) (*born, error) {
	nursery.Lock()
	next := nursery.spare
	nursery.spare = nil
	nursery.Unlock()
	if next != nil && next.shape == s && next.alive() {
		return next, nil
	}
	if next != nil {
		next.drop()
	}
	return bear(s)
}

// prepare forks the init of the next sandbox, which will be like the last one, when that has ended: whoever opens the next one then
// waits neither for it nor for its place in a control group. That takes a machine with nothing else to do more than ten milliseconds,
// since the kernel first waits until all processors have noticed (the favordynmods of cgroups(7) is about this).
func prepare(s shape) {
	nursery.Lock()
	waits := nursery.spare != nil
	nursery.Unlock()
	if waits {
		return
	}
	b, err := bear(s)
	if err != nil { // whoever needs one will be told
		return
	}
	nursery.Lock()
	if nursery.spare == nil {
		nursery.spare, b = b, nil
	}
	nursery.Unlock()
	if b != nil {
		b.drop()
	}
}

// bear forks an init into a control group of its own, before it is told what to build, so that nothing of it is ever outside.
func bear(s shape) (*born, error) {
	held, missing := machineGroups().newGroup(s.limits)
	ours, c, err := fork(s)
	if err != nil {
		held.remove()
		return nil, err
	}
	b := &born{s, c, ours, held, missing}
	if err := held.add(c.pid); err != nil {
		b.drop()
		return nil, err
	}
	return b, nil
}

// drop ends an init that nobody needs.
func (b *born) drop() {
	b.ours.Close()
	go func() {
		_ = b.Kill()
		b.Wait()
		b.held.remove()
	}()
}

func (c *child) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// fork starts an init in namespaces of its own.
func fork(s shape) (ours *os.File, c *child, err error) {
	z, err := theZygote()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	defer theirs.Close()
	if c, err = z.fork(theirs, s); err != nil {
		ours.Close()
		return nil, nil, err
	}
	return ours, c, nil
}

func theZygote() (*zygote, error) {
	nursery.Lock()
	defer nursery.Unlock()
	if z := nursery.current; z != nil && !z.lost() {
		return z, nil
	}
	z, err := newZygote()
	if err == nil {
		nursery.current = z
	}
	return z, err
}

func newZygote() (*zygote, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	p, err := start(theirs, jail.Zygote, []string{jail.Marker + "=1", "GOMAXPROCS=2"}, &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL})
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start what starts sandboxes: %w", err)
	}
	conn, err := control(ours)
	if err != nil {
		p.Kill()
		p.Wait()
		return nil, err
	}
	z := &zygote{link: &jail.Link{Socket: socket{conn}}, conn: conn, pid: p.Pid, waiting: map[uint64]chan *child{}, refused: map[uint64]error{}, children: map[uint64]*child{}}
	go func() {
		z.read()
		p.Kill()
		p.Wait()
	}()
	return z, nil
}

func (z *zygote) lost() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.dead
}

func (z *zygote) fork(link *os.File, s shape) (*child, error) {
	born := make(chan *child, 1)
	z.mu.Lock()
	z.next++
	id := z.next
	if z.dead {
		z.mu.Unlock()
		return nil, errZygote
	}
	z.waiting[id] = born
	z.mu.Unlock()
	err := z.link.Send(jail.Fork{ID: id, UID: s.uid, GID: s.gid, NetNS: s.netns}, int(link.Fd()))
	runtime.KeepAlive(link)
	if err != nil {
		z.mu.Lock()
		delete(z.waiting, id)
		z.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errZygote, err)
	}
	c, ok := <-born
	switch {
	case !ok:
		return nil, errZygote
	case c == nil:
		z.mu.Lock()
		defer z.mu.Unlock()
		err := z.refused[id]
		delete(z.refused, id)
		return nil, err
	}
	return c, nil
}

// read takes what the zygote says until it is gone.
func (z *zygote) read() {
	for {
		var f jail.Forked
		fds, err := z.link.Receive(&f)
		if err != nil {
			z.end()
			return
		}
		z.mu.Lock()
		switch born := z.waiting[f.ID]; {
		case f.Gone:
			if c := z.children[f.ID]; c != nil {
				delete(z.children, f.ID)
				c.end()
			}
		case born == nil:
			jail.CloseAll(fds)
		case f.Error() != nil:
			jail.CloseAll(fds)
			z.refused[f.ID] = f.Error()
			born <- nil
		default:
			c := &child{pid: f.Pid, pidfd: -1, gone: make(chan struct{})}
			if len(fds) == 1 {
				c.pidfd = fds[0]
			} else {
				jail.CloseAll(fds)
			}
			z.children[f.ID] = c
			born <- c
		}
		if !f.Gone {
			delete(z.waiting, f.ID)
		}
		z.mu.Unlock()
	}
}

// end gives up those that wait. The inits die with the zygote; each is waited for, since whoever closes a sandbox relies on it.
func (z *zygote) end() {
	z.conn.Close()
	z.mu.Lock()
	defer z.mu.Unlock()
	z.dead = true
	for id, born := range z.waiting {
		delete(z.waiting, id)
		close(born)
	}
	for id, c := range z.children {
		delete(z.children, id)
		go func() {
			if c.pidfd >= 0 {
				poll := []unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
				for {
					if _, err := unix.Poll(poll, -1); err != unix.EINTR {
						break
					}
				}
			}
			c.end()
		}()
	}
}

// spawner forks from one thread that never ends, since a parent-death signal comes when the forking thread dies, not the process.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range jobs {
			f()
		}
	}()
	return jobs
})

// start starts the small program, or this one again, under a name that jail knows.
func start(link *os.File, name string, env []string, sys *syscall.SysProcAttr) (p *os.Process, err error) {
	attr := &os.ProcAttr{Dir: "/", Env: env, Files: []*os.File{nil, nil, os.Stderr, link}, Sys: sys}
	path := "/proc/self/exe"
	if f := program(); f != nil {
		// Among the files that are handed over, because the child puts those in order before it executes anything, and does not
		// look whether it covers another one that is open.
		path = fmt.Sprintf("/proc/self/fd/%d", len(attr.Files))
		attr.Files = append(slices.Clip(attr.Files), f)
	}
	done := make(chan struct{})
	spawner() <- func() {
		p, err = os.StartProcess(path, []string{name}, attr)
		close(done)
	}
	<-done
	return p, err
}

// unconfined starts an init without namespaces.
func unconfined() (ours *os.File, c *child, err error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	defer theirs.Close()
	// It must outlive us for a moment to end its descendants; the closed socket tells it to.
	p, err := start(theirs, jail.Name, jail.Env, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	c = &child{pid: p.Pid, process: p, pidfd: -1, gone: make(chan struct{})}
	go func() {
		p.Wait()
		c.end()
	}()
	return ours, c, nil
}
