package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
)

// Agent runs jobs for a server.
type Agent struct {
	Client  *Client
	Runner  runner.Runner
	Dir     string // for logs and spools; emptied at start
	Labels  []string
	Slots   int
	Version string
	// Near keeps repositories, so that a checkout fetches what is new; nil leaves it to the server to send all of it.
	Near Near

	logs *logs.Dir
	beat chan struct{} // asks for a beat now; holds one

	mu       sync.Mutex
	tasks    map[Key]*task
	draining bool
	work     sync.WaitGroup
}

// task is an attempt that this agent has.
type task struct {
	cancel    chan struct{}
	asked     bool
	kill      context.CancelFunc
	delivered bool // the server has log and result
}

// Run works until ctx ends, and then finishes what it has: drain. When kill ends, too, jobs are killed and their results given up.
func (a *Agent) Run(ctx, kill context.Context) error {
	if err := os.RemoveAll(a.Dir); err != nil {
		return fmt.Errorf("empty the agent's folder: %w", err)
	}
	for _, sub := range []string{"logs", "spool"} {
		if err := os.MkdirAll(filepath.Join(a.Dir, sub), 0o700); err != nil {
			return fmt.Errorf("make the agent's folder: %w", err)
		}
	}
	a.Client.Instance = id.New("agent")
	a.logs, a.beat, a.tasks = logs.New(filepath.Join(a.Dir, "logs")), make(chan struct{}, 1), map[Key]*task{}
	all, stop := context.WithCancel(kill)
	var loops sync.WaitGroup
	refused := make(chan error, 1)
	loops.Go(func() {
		if err := a.listen(all); err != nil {
			refused <- err
		}
	})
	loops.Go(func() { a.beats(all) })
	var err error
	select {
	case <-ctx.Done():
		slog.Info("agent drains: it takes no new jobs and finishes those that it has", "jobs", len(a.have()))
		a.mu.Lock()
		a.draining = true
		a.mu.Unlock()
		a.nudge()
		a.work.Wait()
	case err = <-refused:
	case <-kill.Done():
	}
	stop()
	loops.Wait()
	a.mu.Lock()
	for _, t := range a.tasks {
		t.kill()
	}
	a.mu.Unlock()
	a.work.Wait()
	return err
}

func (a *Agent) nudge() {
	select {
	case a.beat <- struct{}{}:
	default:
	}
}

func (a *Agent) have() []Key {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.tasks))
}

func (a *Agent) hello() []byte {
	have := a.have()
	a.mu.Lock()
	defer a.mu.Unlock()
	b, _ := json.Marshal(Hello{Instance: a.Client.Instance, Version: a.Version, Labels: a.Labels, Slots: a.Slots, Draining: a.draining, Have: have})
	return b
}

// listen keeps a stream open, or polls where something in between holds streams back. It returns when the server refuses this
// agent for good, or when ctx ends.
func (a *Agent) listen(ctx context.Context) error {
	poll := false
	said := ""
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		began := time.Now()
		var err error
		if poll {
			err = a.poll(ctx)
		} else {
			err = a.stream(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case fault.Is(err, fault.Denied):
			return err
		case errors.Is(err, errHeld):
			slog.Warn("something between this agent and its server holds streams back; it polls instead")
			poll = true
			continue
		case err == nil && poll:
			wait = 50 * time.Millisecond
			continue
		}
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		if text := fmt.Sprint(err); text != said {
			slog.Warn("connection to the server ended; trying again", "error", err)
			said = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
	return nil
}

// errHeld says that the first frame of a stream did not come.
var errHeld = errors.New("the stream is held back")

func (a *Agent) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The first frame is sent at once. From before the request, because whatever holds the answer back may hold its head back, too;
	// and soon, because the server gives an agent up that says nothing for longer.
	held := time.AfterFunc(heldAfter, func() { cancel(errHeld) })
	defer held.Stop()
	res, err := a.Client.call(ctx, http.MethodPost, "stream", nil, bytes.NewReader(a.hello()))
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	defer res.Body.Close()
	silent := time.AfterFunc(3*pingEvery, func() { cancel(errors.New("the server is silent")) })
	defer silent.Stop()
	lines := bufio.NewReaderSize(res.Body, 64<<10)
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if held.Stop(); first {
			slog.Info("agent connected", "server", a.Client.URL, "labels", a.Labels, "slots", a.Slots)
		}
		silent.Reset(3 * pingEvery)
		if err := a.apply(ctx, line); err != nil {
			return err
		}
	}
}

func (a *Agent) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*pingEvery)
	defer cancel()
	res, err := a.Client.call(ctx, http.MethodPost, "poll", nil, bytes.NewReader(a.hello()))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	line, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return err
	}
	return a.apply(ctx, line)
}

// beats says that this agent is alive while it has jobs, and at once when something has changed.
func (a *Agent) beats(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.beat:
		case <-tick.C:
			if len(a.have()) == 0 {
				continue
			}
		}
		bctx, cancel := context.WithTimeout(ctx, beatEvery)
		res, err := a.Client.call(bctx, http.MethodPost, "beat", nil, bytes.NewReader(a.hello()))
		if err == nil {
			var line []byte
			if line, err = io.ReadAll(io.LimitReader(res.Body, 1<<20)); err == nil {
				err = a.apply(ctx, line)
			}
			res.Body.Close()
		}
		if err != nil && ctx.Err() == nil {
			slog.Debug("beat not heard", "error", err)
		}
		cancel()
	}
}

// apply does what a frame says.
func (a *Agent) apply(ctx context.Context, line []byte) error {
	var f Frame
	if err := json.Unmarshal(line, &f); err != nil {
		return fmt.Errorf("read what the server wants: %w", err)
	}
	if !f.Ready {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := map[Key]bool{}
	for _, w := range f.Want {
		wanted[w.Key] = true
		t := a.tasks[w.Key]
		if t == nil && w.Job != nil && !a.draining {
			t = &task{cancel: make(chan struct{})}
			a.tasks[w.Key] = t
			jctx, kill := context.WithCancel(context.WithoutCancel(ctx))
			t.kill = kill
			job := *w.Job
			job.Cancel = t.cancel
			a.work.Go(func() { a.run(jctx, w.Key, t, job) })
			a.nudge()
		}
		if t != nil && w.Cancel && !t.asked {
			t.asked = true
			close(t.cancel)
		}
	}
	for key, t := range a.tasks {
		if wanted[key] {
			continue
		}
		if !t.delivered {
			slog.Warn("the server has given this attempt up; it is ended", "attempt", key)
		}
		t.kill()
		delete(a.tasks, key)
	}
	return nil
}

// run executes one attempt and brings log and result to the server. It ends when the server has stored them, or wants them no more.
func (a *Agent) run(ctx context.Context, key Key, t *task, job runner.Job) {
	defer t.kill()
	slog.Info("job began", "attempt", key, "job", job.Plan.Key, "run", job.RunID)
	log, err := a.logs.Create(job.RunID, job.JobID, job.Attempt)
	var res pipeline.Result
	if err == nil {
		defer a.forget(job)
		over := make(chan struct{})
		var ship sync.WaitGroup
		ship.Go(func() { a.ship(ctx, key, job, over) })
		res, err = a.Runner.Run(ctx, job, &host{a.Client, key, filepath.Join(a.Dir, "spool"), a.Near, job}, log)
		if err == nil {
			res = runner.Masked(res, log)
		}
		if cerr := log.Close(res.State); cerr != nil {
			slog.Error("log incomplete", "attempt", key, "error", cerr)
		}
		close(over)
		ship.Wait()
	}
	if ctx.Err() != nil {
		return
	}
	out := struct {
		Result pipeline.Result `json:"result"`
		Lost   string          `json:"lost,omitempty"`
	}{Result: res}
	if err != nil {
		slog.Error("job not run", "attempt", key, "error", err)
		out.Lost = "its agent could not run it; the agent's log has the details"
		if fault.KindOf(err) != "" {
			out.Lost = fault.Sentence(err)
		}
	}
	body, _ := json.Marshal(out)
	err = a.Client.patient(ctx, http.MethodPut, "jobs/"+url.PathEscape(string(key))+"/result", nil, bytesBody(body), nil)
	slog.Info("job ended", "attempt", key, "state", res.State, "delivered", err == nil)
	a.mu.Lock()
	t.delivered = true
	a.mu.Unlock()
	if err != nil {
		return
	}
	select { // the spool stays until the server has stored what it got
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
}

func (a *Agent) forget(job runner.Job) {
	files, _ := filepath.Glob(filepath.Join(a.Dir, "logs", string(job.RunID), fmt.Sprintf("%s.%d.*", job.JobID, job.Attempt)))
	for _, f := range files {
		_ = os.Remove(f)
	}
	_ = os.Remove(filepath.Join(a.Dir, "logs", string(job.RunID))) // unless another job of the run is there
}

// shipBytes is how much of a log goes up at a time.
const shipBytes = 1 << 20

// ship brings the log up as it grows. It returns when all of it is there, or when the server wants no more.
func (a *Agent) ship(ctx context.Context, key Key, job runner.Job, over <-chan struct{}) {
	done := func() bool {
		select {
		case <-over:
			return true
		case <-ctx.Done():
			return true
		default:
			return false
		}
	}
	offset := int64(0)
	for ctx.Err() == nil {
		r, err := a.logs.Follow(ctx, job.RunID, job.JobID, job.Attempt, offset, done)
		if err != nil {
			slog.Error("log not read", "attempt", key, "error", err)
			return
		}
		next, end, err := a.shipFrom(ctx, key, r, offset)
		r.Close()
		if end || err != nil && !again(err) {
			if err != nil && ctx.Err() == nil {
				slog.Warn("log not taken", "attempt", key, "error", err)
			}
			return
		}
		offset = next
	}
}

// shipFrom sends from a reader until it ends, or until the server says that it is elsewhere.
func (a *Agent) shipFrom(ctx context.Context, key Key, r io.Reader, offset int64) (next int64, end bool, err error) {
	buf := make([]byte, shipBytes)
	n := 0
	for {
		k, rerr := r.Read(buf[n:])
		n += k
		whole := bytes.LastIndexByte(buf[:n], '\n') + 1
		last := false
		if i := lastLine(buf[:whole]); i >= 0 { // how the log ended is for the server to write
			whole, last = i, true
		}
		if whole > 0 {
			var server int64
			err := a.Client.patient(ctx, http.MethodPut, "jobs/"+url.PathEscape(string(key))+"/log", url.Values{"offset": {strconv.FormatInt(offset, 10)}},
				bytesBody(buf[:whole]), func(res *http.Response) (err error) {
					server, err = offsetOf(res)
					return err
				})
			if err != nil {
				return offset, false, err
			}
			if server != offset+int64(whole) {
				return server, false, nil
			}
			offset = server
			n = copy(buf, buf[whole:n])
		}
		if last || rerr == io.EOF {
			return offset, true, nil
		}
		if rerr != nil {
			return offset, false, rerr
		}
		if n == len(buf) {
			return offset, true, fmt.Errorf("a line of the log is longer than %d bytes", len(buf))
		}
	}
}

// lastLine finds the line that ends a log, or -1.
func lastLine(b []byte) int {
	if len(b) == 0 {
		return -1
	}
	at := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	if l, ok := logs.Parse(bytes.TrimSuffix(b[at:], []byte("\n"))); ok && l.Tag == logs.TagDone {
		return at
	}
	return -1
}
