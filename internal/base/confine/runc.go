package confine

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"weir/internal/base/fault"
)

// Runtime is the container runtime of this machine, or a fault with a sentence that says what to install.
var Runtime = sync.OnceValues(func() (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin") {
		p := filepath.Join(dir, "runc")
		if info, err := os.Stat(p); err == nil && filepath.IsAbs(p) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fault.New(fault.Unavailable, "containers need runc, and the machine that runs the job has none. Install it there (apt-get install runc) and start Weir again, or choose another runner with runs-on")
})

// RuntimeVersion is the first line of what the runtime says of itself, or "".
func RuntimeVersion() string {
	path, err := Runtime()
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "runc version ")
}

// runtimeProcess is the runtime while it keeps one container. It stays in the foreground, so that the machine is rid of the container's
// control group and notes even when Weir was killed: then the socket closes, process 1 ends, and the runtime cleans up after it.
type runtimeProcess struct {
	cmd  *exec.Cmd
	path string
	dir  string
	id   string
	// links are short names of layers, "" if there are none; removed when the container has ended.
	links string

	mu   sync.Mutex
	conn *net.UnixConn
	done bool
	late *time.Timer
}

// patience is how long process 1 may take to end after its socket was closed.
const patience = 5 * time.Second

// startContainer starts the runtime, and with it the container's process 1, which waits for its first frame.
func startContainer(spec Spec) (*os.File, *runtimeProcess, group, []string, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, nil, group{}, nil, fmt.Errorf("make control socket: %w", err)
	}
	defer theirs.Close()
	r, held, missing, err := runContainer(theirs, spec)
	if err != nil {
		ours.Close()
		return nil, nil, held, nil, err
	}
	return ours, r, held, missing, nil
}

func runContainer(theirs *os.File, spec Spec) (*runtimeProcess, group, []string, error) {
	path, err := Runtime()
	if err != nil {
		return nil, group{}, nil, err
	}
	program, err := initFile()
	if err != nil {
		return nil, group{}, nil, fmt.Errorf("open the init of containers: %w", err)
	}
	groups, name := machineGroups(), ""
	held := group{limits: spec.Limits, v2: groups.v2, dirs: map[string]string{}}
	held.limits.Processes = processes(spec.Limits)
	id := fmt.Sprintf("%s%d-c%d", groupPrefix, os.Getpid(), groupCount.Add(1))
	if len(groups.dirs) > 0 {
		name = id
		for c, dir := range groups.dirs {
			held.dirs[c] = filepath.Join(dir, id)
		}
	}
	links, err := writeBundle(spec, name)
	if err != nil {
		return nil, group{}, nil, err
	}
	started := false
	defer func() {
		if !started && links != "" {
			_ = os.RemoveAll(links)
		}
	}()
	dir := spec.Container.Dir
	said, err := os.Create(filepath.Join(dir, "runtime.txt"))
	if err != nil {
		return nil, group{}, nil, err
	}
	defer said.Close()
	cmd := exec.Command(path, "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, "--preserve-fds", "2", id)
	cmd.Dir, cmd.Stderr = dir, said
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + dir, "GOMAXPROCS=2"}
	cmd.ExtraFiles = []*os.File{theirs, program}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, group{}, nil, fault.Wrap(fault.Unavailable, err, "the container runtime %s cannot be started: %v", path, err)
	}
	started = true
	return &runtimeProcess{cmd: cmd, path: path, dir: dir, id: id, links: links}, held, unheld(spec.Limits), nil
}

// initFile is the program of process 1, to be handed over.
var initFile = sync.OnceValues(func() (*os.File, error) {
	if f := program(); f != nil {
		return f, nil
	}
	return os.Open("/proc/self/exe")
})

func (r *runtimeProcess) link(conn *net.UnixConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
}

// Kill ends the container: process 1 ends when its socket closes. If it does not, the runtime is told to kill it.
func (r *runtimeProcess) Kill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return os.ErrProcessDone
	}
	if r.conn != nil {
		_ = r.conn.Close()
	}
	if r.late == nil {
		r.late = time.AfterFunc(patience, r.force)
	}
	return nil
}

func (r *runtimeProcess) force() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.path, "--root", filepath.Join(r.dir, "state"), "delete", "--force", r.id)
	cmd.Env = r.cmd.Env
	_ = cmd.Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done {
		_ = r.cmd.Process.Kill()
	}
}

// Wait returns when the container and the runtime are gone.
func (r *runtimeProcess) Wait() {
	_ = r.cmd.Wait()
	if r.links != "" {
		_ = os.RemoveAll(r.links)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	if r.late != nil {
		r.late.Stop()
	}
}

// refusal is the sentence for a container that did not come up.
func (r *runtimeProcess) refusal(err error) error {
	text, _ := os.ReadFile(filepath.Join(r.dir, "runtime.txt"))
	lines := strings.Split(strings.TrimSpace(string(bytes.ToValidUTF8(text, nil))), "\n")
	why := lines[len(lines)-1]
	for _, l := range lines {
		if strings.Contains(l, "level=error") {
			why = l
			if _, msg, ok := strings.Cut(l, "msg="); ok {
				if s, err := strconv.Unquote(msg); err == nil {
					msg = s
				}
				why = msg
			}
		}
	}
	if why == "" {
		why = err.Error()
	}
	if len(why) > 500 {
		why = why[:500] + "..."
	}
	return fault.Wrap(fault.Unavailable, err, "the container could not be started: %s", why)
}
