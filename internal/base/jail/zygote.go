package jail

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Zygote is the name under which this program forks inits for a larger one, until the control socket closes.
//
// A child in a user namespace of its own cannot share its parent's memory until it executes, so the kernel copies the parent's page
// tables, and the parent then faults on every page that it writes to. In a server with a heap that cost more than all the rest of a
// short job; a process as small as this one hardly notices.
const Zygote = "weir-zygote"

// Fork asks the zygote for an init in namespaces of its own. Its control socket comes along.
type Fork struct {
	ID       uint64
	UID, GID int // who it is in there
	NetNS    bool
}

// Forked answers a Fork, with a descriptor of the process if the kernel gives one, or tells of the end of an init.
type Forked struct {
	ID    uint64
	Pid   int
	Err   string        `json:",omitempty"`
	Errno syscall.Errno `json:",omitempty"`
	Gone  bool          `json:",omitempty"`
}

// Error is why there is no init, if there is none.
func (f Forked) Error() error { return Reply{Err: f.Err, Errno: f.Errno}.Error() }

// Env is the environment of a process that is to be init.
var Env = []string{Marker + "=1", "GOMAXPROCS=2", "GOGC=off"}

type zygote struct {
	link     *Link
	mu       sync.Mutex
	children map[int]uint64 // pid to the id of its Fork
}

// run never returns. Inits get their parent-death signal when the thread that forked them ends, so that thread is this one.
func (z *zygote) run() {
	runtime.LockOSThread()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	// A service manager may tell every process of a service to stop. The server, or the agent that drains, decides; this one ends with
	// it. They are caught rather than ignored, since what is ignored stays so in whatever is executed.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	go z.reap(ended)
	for {
		var f Fork
		fds, err := z.link.Receive(&f)
		if err != nil || len(fds) != 1 {
			os.Exit(0)
		}
		z.fork(f, fds[0])
		CloseAll(fds)
	}
}

func (z *zygote) fork(f Fork, socket int) {
	pidfd := -1
	sys := &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd, AmbientCaps: SetupCaps,
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: f.UID, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: f.GID, HostID: os.Getgid(), Size: 1}},
	}
	if f.NetNS {
		sys.Cloneflags |= unix.CLONE_NEWNET
	}
	z.mu.Lock()
	defer z.mu.Unlock() // so that the answer precedes the end
	const closed = ^uintptr(0)
	pid, err := syscall.ForkExec("/proc/self/exe", []string{Name}, &syscall.ProcAttr{Dir: "/", Env: Env, Files: []uintptr{closed, closed, 2, uintptr(socket)}, Sys: sys})
	if err != nil {
		answer := Forked{ID: f.ID, Err: err.Error()}
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			answer.Err, answer.Errno = "", errno
		}
		_ = z.link.Send(answer)
		return
	}
	z.children[pid] = f.ID
	if pidfd < 0 {
		_ = z.link.Send(Forked{ID: f.ID, Pid: pid})
		return
	}
	_ = z.link.Send(Forked{ID: f.ID, Pid: pid}, pidfd)
	unix.Close(pidfd)
}

func (z *zygote) reap(ended <-chan os.Signal) {
	for range ended {
		z.mu.Lock()
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid <= 0 || err != nil {
				break
			}
			if id, mine := z.children[pid]; mine {
				delete(z.children, pid)
				_ = z.link.Send(Forked{ID: id, Gone: true})
			}
		}
		z.mu.Unlock()
	}
}
