package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"weir/internal/base/jail"
)

// Proc is a started command.
type Proc struct {
	sandbox *Sandbox
	id      uint64
	exited  chan struct{} // closed after exit and err are set
	exit    Exit
	err     error
	linger  time.Duration
	copies  sync.WaitGroup
	pipes   []*os.File // our ends, closed by Wait
	ends    sync.Once
}

// Start starts a command. A command that cannot be started is an error that wraps the system's reason
// (fs.ErrNotExist: there is no such program in the sandbox).
func (s *Sandbox) Start(c Cmd) (*Proc, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("a command needs a program to run")
	}
	p := &Proc{sandbox: s, exited: make(chan struct{}), linger: c.Linger}
	if p.linger == 0 {
		p.linger = 200 * time.Millisecond
	}
	var theirs [3]*os.File
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			f.Close()
		}
	}()
	null := func() (*os.File, error) {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err == nil {
			opened = append(opened, f)
		}
		return f, err
	}
	var err error
	switch in := c.Stdin.(type) {
	case nil:
		theirs[0], err = null()
	case *os.File:
		theirs[0] = in
	default:
		var r, w *os.File
		if r, w, err = os.Pipe(); err == nil {
			opened = append(opened, r)
			theirs[0] = r
			p.pipes = append(p.pipes, w)
			// Not waited for: the source may never end, and the command need not read it.
			go func() {
				io.Copy(w, in)
				w.Close()
			}()
		}
	}
	type pair struct {
		w  io.Writer
		at int
	}
	for _, o := range []pair{{c.Stdout, 1}, {c.Stderr, 2}} {
		if err != nil {
			break
		}
		switch out := o.w.(type) {
		case nil:
			theirs[o.at], err = null()
		case *os.File:
			theirs[o.at] = out
		default:
			if o.at == 2 && same(c.Stdout, c.Stderr) {
				theirs[2] = theirs[1]
				continue
			}
			var r, w *os.File
			if r, w, err = os.Pipe(); err == nil {
				opened = append(opened, w)
				theirs[o.at] = w
				p.pipes = append(p.pipes, r)
				p.copies.Go(func() { io.Copy(out, r) })
			}
		}
	}
	if err != nil {
		p.closePipes()
		return nil, fmt.Errorf("join %s: %w", c.Argv[0], err)
	}

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		p.closePipes()
		return nil, errClosed
	}
	s.next++
	p.id = s.next
	s.procs[p.id] = p
	s.mu.Unlock()
	var fds []int
	for _, f := range theirs {
		// Fd also makes the file blocking, which is what a program expects of its standard files.
		fds = append(fds, int(f.Fd()))
	}
	_, err = s.ask(context.Background(), jail.Request{ID: p.id, Op: jail.OpStart, Argv: c.Argv, Env: c.Env, Dir: c.Dir, User: c.User}, fds...)
	runtime.KeepAlive(theirs) // no finalizer closes a file that is on its way
	if err != nil {
		s.mu.Lock()
		delete(s.procs, p.id)
		s.mu.Unlock()
		p.closePipes()
		if errors.Is(err, errClosed) {
			return nil, err
		}
		return nil, &os.PathError{Op: "start", Path: c.Argv[0], Err: err}
	}
	return p, nil
}

func same(a, b io.Writer) (equal bool) {
	defer func() {
		if recover() != nil {
			equal = false // types that cannot be compared
		}
	}()
	return a == b
}

func (p *Proc) closePipes() {
	p.ends.Do(func() {
		for _, f := range p.pipes {
			f.Close()
		}
	})
}

// Wait returns how the command ended, after its output was copied. The error is set only when that is
// not known, because the sandbox went away first. It may be called more than once.
func (p *Proc) Wait() (Exit, error) {
	<-p.exited
	done := make(chan struct{})
	go func() {
		p.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(p.linger):
		now := time.Now()
		for _, f := range p.pipes {
			f.SetReadDeadline(now)
		}
		<-done
	}
	p.closePipes()
	return p.exit, p.err
}

// Exited is closed when the command has ended, before its last output is copied.
func (p *Proc) Exited() <-chan struct{} { return p.exited }

// Signal sends a signal to the command and those of its descendants that stayed in its process group.
func (p *Proc) Signal(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
	}
	return p.sandbox.link.Send(jail.Request{Op: jail.OpSignal, Proc: p.id, Sig: int(sig)})
}

// Kill ends the command. It may be called at any time.
func (p *Proc) Kill() { p.Signal(syscall.SIGKILL) }
