package jail

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How the outside starts init: under this name, with the marker set and the control socket as this file.
const (
	Name      = "weir-sandbox"
	Marker    = "WEIR_SANDBOX_INIT"
	ControlFD = 3
	// Handed is the name in a container, where init is an open file that the runtime hands over.
	Handed = "/proc/self/fd/4"
)

// Main runs the sandbox's init, or the zygote of inits, when this process is one, and then does not return. Otherwise it does nothing.
func Main() {
	if len(os.Args) != 1 || os.Getenv(Marker) == "" {
		return
	}
	switch os.Args[0] {
	case Name, Handed:
	case Zygote:
		(&zygote{link: &Link{Socket: descriptor(ControlFD)}, children: map[int]uint64{}}).run()
	default:
		return
	}
	// The main thread, which is the one that others see as process 1, stays out of the confined domain.
	runtime.LockOSThread()
	s := &supervisor{link: &Link{Socket: descriptor(ControlFD)}, running: map[int]uint64{}, starts: make(chan start)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// This thread becomes the confined one: every command is forked from it and inherits its limits.
		runtime.LockOSThread()
		s.run()
	}()
	<-done
	os.Exit(0)
}

// supervisor is the parent of every command in one sandbox.
type supervisor struct {
	link   *Link
	boot   Boot
	starts chan start

	mu      sync.Mutex
	running map[int]uint64 // pid to command id
}

type start struct {
	Request
	fds []int
}

func (s *supervisor) run() {
	if err := s.setUp(); err != nil {
		r := Reply{Err: err.Error()}
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			r = Reply{Err: strings.TrimSuffix(err.Error(), ": "+errno.Error()), Errno: errno}
		}
		s.link.Send(r)
		return
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go s.reap(children)
	if s.link.Send(Reply{}) != nil {
		return
	}
	go s.listen()
	for st := range s.starts {
		s.start(st)
	}
	if s.boot.Unconfined {
		s.killAll()
	}
}

func (s *supervisor) setUp() error {
	// Nothing that the parent happened to leave open reaches a command.
	if err := unix.CloseRange(ControlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark open files: %w", err)
	}
	if _, err := s.link.Receive(&s.boot); err != nil {
		return fmt.Errorf("read what to set up: %w", err)
	}
	b := s.boot
	os.Clearenv()
	syscall.Umask(0o022)
	if err := setLimits(b.Limits); err != nil {
		return err
	}
	if b.Contained {
		return contained()
	}
	if b.Unconfined {
		return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	if b.NetNS {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the sandbox's loopback: %w", err)
		}
	}
	boundProcesses(b.Limits)
	if err := buildRoot(b); err != nil {
		return err
	}
	if b.Builder {
		return restrictBuilder()
	}
	rules, err := newRules(b)
	if err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := rules.enforce(); err != nil {
		return err
	}
	// Last: the filter refuses much of what was needed up to here.
	return restrict()
}

// contained is what is left to do in a container. The file tree, the capabilities and the first no_new_privs are the runtime's work.
func contained() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make init undumpable: %w", err)
	}
	return restrict()
}

// listen hands starts to the confined thread and answers the rest from unconfined ones.
func (s *supervisor) listen() {
	defer close(s.starts)
	for {
		var req Request
		fds, err := s.link.Receive(&req)
		if err != nil {
			if !s.boot.Unconfined {
				os.Exit(0) // process 1 ends, and with it all others
			}
			return
		}
		switch req.Op {
		case OpStart:
			s.starts <- start{req, fds}
		case OpSignal:
			s.signal(req)
		case OpDial:
			go s.answerSocket(req.ID, func() (int, error) { return dialInside(req.Port) })
		case OpListen:
			s.answerSocket(req.ID, func() (int, error) { return listenInside(req.Addr, req.Port) })
		case OpPorts:
			s.link.Send(Reply{ID: req.ID, Ports: listening()})
		default:
			s.link.Send(Reply{ID: req.ID, Err: "unknown request"})
		}
	}
}

func (s *supervisor) start(st start) {
	defer CloseAll(st.fds)
	dir := st.Dir
	if dir == "" {
		dir = s.boot.Dir
	}
	path, err := lookPath(st.Argv[0], st.Env, dir)
	if err == nil {
		files := make([]uintptr, len(st.fds))
		for i, fd := range st.fds {
			files[i] = uintptr(fd)
		}
		sys := &syscall.SysProcAttr{Setsid: true}
		if s.boot.Unconfined {
			sys.Pdeathsig = syscall.SIGKILL
		}
		if s.boot.Builder {
			inner(sys)
		}
		if u := st.User; u != nil {
			sys.Credential = &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID), NoSetGroups: u.Groups == nil}
			for _, g := range u.Groups {
				sys.Credential.Groups = append(sys.Credential.Groups, uint32(g))
			}
		}
		var pid int
		s.mu.Lock()
		pid, err = syscall.ForkExec(path, st.Argv, &syscall.ProcAttr{Dir: dir, Env: st.Env, Files: files, Sys: sys})
		if err == nil {
			s.running[pid] = st.ID
			// Answered under the lock, so that the answer precedes the exit.
			s.link.Send(Reply{ID: st.ID})
		}
		s.mu.Unlock()
	}
	if err != nil {
		r := Reply{ID: st.ID, Err: err.Error()}
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			r.Err, r.Errno = "", errno
		}
		s.link.Send(r)
	}
}

func (s *supervisor) signal(req Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, id := range s.running {
		if id == req.Proc {
			// The whole group: a command is the leader of its session.
			if syscall.Kill(-pid, syscall.Signal(req.Sig)) != nil {
				syscall.Kill(pid, syscall.Signal(req.Sig))
			}
		}
	}
}

func (s *supervisor) reap(children <-chan os.Signal) {
	for range children {
		for {
			var ws syscall.WaitStatus
			var ru syscall.Rusage
			s.mu.Lock()
			pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, &ru)
			if err == syscall.EINTR {
				s.mu.Unlock()
				continue
			}
			if pid <= 0 || err != nil {
				s.mu.Unlock()
				break
			}
			id, mine := s.running[pid]
			if mine && (ws.Exited() || ws.Signaled()) {
				delete(s.running, pid)
				s.link.Send(Reply{ID: id, Exit: exitOf(ws, ru)})
			}
			s.mu.Unlock()
		}
	}
}

func exitOf(ws syscall.WaitStatus, ru syscall.Rusage) *Exit {
	e := &Exit{
		Code:   ws.ExitStatus(),
		User:   time.Duration(ru.Utime.Nano()),
		System: time.Duration(ru.Stime.Nano()),
		MaxRSS: ru.Maxrss << 10,
	}
	if ws.Signaled() {
		e.Code, e.Signal = 128+int(ws.Signal()), unix.SignalName(ws.Signal())
	}
	return e
}

// killAll ends everything below an unconfined init, which has no pid namespace to do it.
func (s *supervisor) killAll() {
	for range 1000 {
		pids := childrenOf(os.Getpid())
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			syscall.Kill(-pid, syscall.SIGKILL)
			syscall.Kill(pid, syscall.SIGKILL)
		}
		// Orphans come up to us as their parents go; reap until none is left.
		var ws syscall.WaitStatus
		s.mu.Lock()
		for {
			if pid, _ := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
		s.mu.Unlock()
		runtime.Gosched()
	}
}

func childrenOf(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for f := range strings.FieldsSeq(string(b)) {
			var p int
			if _, err := fmt.Sscan(f, &p); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}

// lookPath is exec.LookPath with the environment of the command instead of our own.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := "/usr/local/bin:/usr/bin:/bin"
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	for _, d := range filepath.SplitList(search) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", syscall.ENOENT
}
