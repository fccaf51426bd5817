package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
	"weir/internal/pipeline/container"
)

// service is a container beside a job.
type service struct {
	id        string
	plan      pipeline.Container // filled in
	opts      container.Options
	place     *place
	box       *confine.Sandbox
	proc      *confine.Proc
	addr      [4]byte // its own in the other containers' loopbacks
	ports     []int   // that it may listen on
	published []container.Port
	silent    bool // it has no test, and did not listen in time
	log       tail
}

const (
	maxServices = 50
	maxHealth   = 15 * time.Minute
)

// portsOf are the ports of a service: those of its file and those that its image names.
func portsOf(declared []container.Port, img oci.Image) (all []int) {
	for _, p := range declared {
		all = append(all, p.Container)
	}
	for name := range img.Config.ExposedPorts {
		text, kind, _ := strings.Cut(name, "/")
		if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65536 && (kind == "" || kind == "tcp") && len(all) < container.MaxPorts {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// commandOf is what a container of an image runs: entrypoint and arguments, each of the caller's or of the image.
func commandOf(img oci.Image, entrypoint string, args []string) ([]string, error) {
	argv := img.Config.Entrypoint
	if entrypoint != "" {
		e, err := container.Split(entrypoint)
		if err != nil {
			return nil, failure("its entrypoint: " + err.Error())
		}
		argv = e
	}
	switch {
	case args != nil:
		argv = append(slices.Clone(argv), args...)
	case entrypoint == "":
		argv = append(slices.Clone(argv), img.Config.Cmd...)
	}
	if len(argv) == 0 {
		return nil, failure(fmt.Sprintf("the image %s says nothing of what to run; name an entrypoint", img.Name))
	}
	return argv, nil
}

// start runs what the image of a service is for.
func (s *service) start() error {
	argv, err := commandOf(s.place.image, s.opts.Entrypoint, nil)
	if err != nil {
		return err
	}
	dir := s.opts.Workdir
	if dir == "" {
		dir = s.place.image.Config.WorkingDir
	}
	if dir == "" {
		dir = "/"
	}
	s.proc, err = s.box.Start(confine.Cmd{Argv: argv, Env: s.place.env, Dir: dir, User: s.place.user, Stdout: &s.log, Stderr: &s.log})
	if err != nil {
		return failure(fmt.Sprintf("service %s: its program %s cannot be started: %v", s.id, argv[0], err))
	}
	return nil
}

// health is the test of a service: of its options, else of its image; nil if there is none.
func (s *service) health() (argv []string, h oci.Health) {
	h = s.opts.Health
	if img := s.place.image.Config.Healthcheck; img != nil {
		h.Test = img.Test
		h.Interval, h.Timeout, h.StartPeriod = orDuration(h.Interval, img.Interval), orDuration(h.Timeout, img.Timeout), orDuration(h.StartPeriod, img.StartPeriod)
		if h.Retries == 0 {
			h.Retries = img.Retries
		}
	}
	h.Interval, h.Timeout = orDuration(h.Interval, 30*time.Second), orDuration(h.Timeout, 30*time.Second)
	if h.Retries == 0 {
		h.Retries = 3
	}
	switch {
	case s.opts.NoHealth:
	case s.opts.HealthCmd != "":
		argv = []string{"/bin/sh", "-c", s.opts.HealthCmd}
	case len(h.Test) > 1 && h.Test[0] == "CMD":
		argv = h.Test[1:]
	case len(h.Test) > 1 && h.Test[0] == "CMD-SHELL":
		argv = []string{"/bin/sh", "-c", h.Test[1]}
	}
	return argv, h
}

func orDuration(a, b time.Duration) time.Duration {
	if a != 0 {
		return a
	}
	return b
}

// await returns when the service is healthy, or says why it will not be. It is asked sooner than its interval says, since nobody wants
// to wait for an interval; it counts as unhealthy only after as long as the interval and the retries allow.
func (s *service) await(ctx context.Context) error {
	argv, h := s.health()
	if argv == nil {
		return s.listens(ctx)
	}
	started := time.Now()
	limit := min(h.StartPeriod+time.Duration(h.Retries)*(h.Interval+h.Timeout), maxHealth)
	ctx, stop := context.WithTimeoutCause(ctx, max(limit, time.Second), errStepTimeout)
	defer stop()
	pause := min(50*time.Millisecond, h.Interval)
	var last string
	for {
		ok, said := s.probe(ctx, argv, h.Timeout)
		if ok {
			return nil
		}
		if said != "" {
			last = said
		}
		select {
		case <-s.proc.Exited():
			exit, _ := s.proc.Wait()
			return failure(fmt.Sprintf("service %s ended with exit code %d before it was healthy", s.id, exit.Code))
		case <-s.box.Gone():
			return failure(fmt.Sprintf("service %s ended before it was healthy", s.id))
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errStepTimeout) {
				return context.Cause(ctx)
			}
			sentence := fmt.Sprintf("service %s was not healthy after %s: its test %s", s.id, time.Since(started).Round(time.Second), strings.Join(argv, " "))
			if last != "" {
				sentence += " said: " + last
			} else {
				sentence += " failed"
			}
			return failure(sentence)
		case <-time.After(pause):
			pause = min(pause*3/2, h.Interval)
		}
	}
}

// grace is how long a service without a test may take until it listens. Then the job begins all the same.
const grace = 10 * time.Second

// listens waits a moment until a service listens on a port that it is known for: with steps that begin in milliseconds, one that
// names no test would not be there yet.
func (s *service) listens(ctx context.Context) error {
	if len(s.ports) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeoutCause(ctx, grace, errStepTimeout)
	defer stop()
	for {
		open, err := s.box.Listening(ctx)
		if err == nil && slices.ContainsFunc(open, func(p int) bool { return slices.Contains(s.ports, p) }) {
			return nil
		}
		select {
		case <-s.proc.Exited():
			exit, _ := s.proc.Wait()
			return failure(fmt.Sprintf("service %s ended with exit code %d before it listened on its port", s.id, exit.Code))
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errStepTimeout) {
				return context.Cause(ctx)
			}
			s.silent = true
			return nil
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// probe runs the test once.
func (s *service) probe(ctx context.Context, argv []string, timeout time.Duration) (ok bool, said string) {
	var out tail
	p, err := s.box.Start(confine.Cmd{Argv: argv, Env: s.place.env, Dir: "/", User: s.place.user, Stdout: &out, Stderr: &out})
	if err != nil {
		return false, err.Error()
	}
	timer := time.AfterFunc(timeout, p.Kill)
	defer timer.Stop()
	defer context.AfterFunc(ctx, p.Kill)()
	exit, err := p.Wait()
	lines := out.lines(1)
	if len(lines) > 0 {
		said = lines[0]
	}
	return err == nil && exit.Success(), said
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text = append(t.text, p...); len(t.text) > 2*maxTail {
		t.text = bytes.Clone(t.text[len(t.text)-maxTail:])
	}
	return len(p), nil
}

// lines are the last ones.
func (t *tail) lines(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.text), ""))
	if text == "" {
		return nil
	}
	all := strings.Split(text, "\n")
	return all[max(0, len(all)-n):]
}
