package confine

import (
	"errors"
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

var errZygote = errors.New("the process that starts sandboxes was killed")

// fork starts an init in namespaces of its own.
func fork(link *os.File, b jail.Boot) (*child, error) {
	nursery.Lock()
	z := nursery.current
	if z == nil || z.lost() {
		var err error
		if z, err = newZygote(); err != nil {
			nursery.Unlock()
			return nil, err
		}
		nursery.current = z
	}
	nursery.Unlock()
	return z.fork(link, inside(os.Getuid(), b), inside(os.Getgid(), b), b.NetNS)
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

func (z *zygote) fork(link *os.File, uid, gid int, netns bool) (*child, error) {
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
	err := z.link.Send(jail.Fork{ID: id, UID: uid, GID: gid, NetNS: netns}, int(link.Fd()))
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

// spawn starts an init.
func spawn(link *os.File, b jail.Boot) (*child, error) {
	if b.Namespaces {
		return fork(link, b)
	}
	// Unconfined, init must outlive us for a moment to end its descendants; the closed socket tells it to.
	p, err := start(link, jail.Name, jail.Env, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		return nil, err
	}
	c := &child{pid: p.Pid, process: p, pidfd: -1, gone: make(chan struct{})}
	go func() {
		p.Wait()
		c.end()
	}()
	return c, nil
}
