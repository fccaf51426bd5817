package remote

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
)

// Rows keep which agents there are.
type Rows interface {
	SaveAgent(ctx context.Context, org string, a pipeline.Agent) error
	Agents(ctx context.Context, org string) ([]pipeline.Agent, error)
	ForgetAgent(ctx context.Context, org, name string) error
}

// Config of a pool.
type Config struct {
	Org    string
	Rows   Rows
	Local  *runner.Local // the server's own process
	Labels []string      // of the server's own process; empty: it takes what no known agent has the labels for
	// Lost is how long an agent may be silent about a job; default 12 s.
	Lost time.Duration
}

// Pool is a runner.Fleet of agents, and of this process.
type Pool struct {
	cfg     Config
	changed chan struct{}

	mu       sync.Mutex
	ready    bool
	agents   map[string]*agent
	known    map[string]pipeline.Agent // all that have ever connected
	attempts map[Key]*attempt
	expected map[Key]string // adopted, but their goroutines have not come yet: key to place
}

// agent is one that is, or was, connected.
type agent struct {
	name     string
	hello    Hello
	sessions int
	seen     time.Time
	taken    int           // slots
	grew     chan struct{} // closed and replaced when there is something to tell
	version  int64
}

func (a *agent) place() string { return a.name + "@" + a.hello.Instance }

// connected is judged by sessions, or for those that poll by their last word.
func (a *agent) connected(now time.Time) bool {
	return a.sessions > 0 || now.Sub(a.seen) < 40*time.Second && !a.seen.IsZero() && a.hello.Instance != ""
}

func (a *agent) tell() {
	a.version++
	close(a.grew)
	a.grew = make(chan struct{})
}

// attempt is a job that an agent has.
type attempt struct {
	key       Key
	place     string
	job       runner.Job
	host      runner.Host
	log       *logs.Writer
	beat      time.Time
	cancelled bool
	finished  bool
	result    chan pipeline.Result
	lost      chan string // why; holds at most one
	writing   sync.Mutex  // held while a part of the log is added
}

// New returns a pool with the agents that are known already.
func New(ctx context.Context, c Config) (*Pool, error) {
	if c.Lost == 0 {
		c.Lost = lostAfter
	}
	p := &Pool{cfg: c, changed: make(chan struct{}, 1), agents: map[string]*agent{}, known: map[string]pipeline.Agent{}, attempts: map[Key]*attempt{}, expected: map[Key]string{}}
	all, err := c.Rows.Agents(ctx, c.Org)
	for _, a := range all {
		p.known[a.Name] = a
	}
	return p, err
}

var (
	_ runner.Fleet    = (*Pool)(nil)
	_ pipeline.Agents = (*Pool)(nil)
)

// Changed implements runner.Fleet.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

func (p *Pool) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// find returns the connected agent with the most free slots among those that fit. It runs under the lock.
func (p *Pool) find(labels []string) *agent {
	now := time.Now()
	var best *agent
	for _, a := range p.agents {
		free := a.hello.Slots - a.taken
		if free <= 0 || a.hello.Draining || !a.connected(now) || !pipeline.Fits(a.hello.Labels, labels) {
			continue
		}
		if best == nil || free > best.hello.Slots-best.taken || free == best.hello.Slots-best.taken && a.name < best.name {
			best = a
		}
	}
	return best
}

// own reports whether the server's own process may take a job with labels. It runs under the lock.
func (p *Pool) own(labels []string) bool {
	if len(labels) == 0 {
		return true
	}
	if len(p.cfg.Labels) > 0 {
		return pipeline.Fits(p.cfg.Labels, labels)
	}
	for _, a := range p.known {
		if pipeline.Fits(a.Labels, labels) {
			return false
		}
	}
	return true
}

// Take implements runner.Fleet.
func (p *Pool) Take(labels []string) (runner.Place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(labels) == 0 { // a release job: what is signed as built here is built here
		return p.cfg.Local.Take(labels)
	}
	own := p.own(labels)
	if a := p.find(labels); a != nil {
		a.taken++
		r := &remote{pool: p, place: a.place()}
		return runner.Place{Runner: r, Name: r.place, Free: sync.OnceFunc(func() { p.free(a) }), Stored: r.stored}, true
	}
	if own {
		return p.cfg.Local.Take(labels)
	}
	return runner.Place{}, false
}

// Fits implements runner.Fleet.
func (p *Pool) Fits(labels []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.own(labels) && p.cfg.Local.Fits(labels) || p.find(labels) != nil
}

func (p *Pool) free(a *agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.taken--
}

// Adopt implements runner.Fleet.
func (p *Pool) Adopt(name string, job pipeline.JobID, number int) runner.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected[keyOf(job, number)] = name
	who, _, _ := strings.Cut(name, "@")
	a := p.agent(who)
	a.taken++
	r := &remote{pool: p, place: name}
	return runner.Place{Runner: r, Name: name, Free: sync.OnceFunc(func() { p.free(a) }), Stored: r.stored}
}

func (p *Pool) agent(name string) *agent {
	a := p.agents[name]
	if a == nil {
		a = &agent{name: name, grew: make(chan struct{})}
		p.agents[name] = a
	}
	return a
}

// Ready implements runner.Fleet.
func (p *Pool) Ready(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready == on {
		return
	}
	p.ready = on
	for _, a := range p.agents {
		a.tell()
	}
}

// Agents implements pipeline.Agents.
func (p *Pool) Agents(context.Context) ([]pipeline.Agent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var all []pipeline.Agent
	for _, k := range p.known {
		if a := p.agents[k.Name]; a != nil {
			k.Connected, k.Draining, k.Running = a.connected(now), a.hello.Draining, a.taken
			if k.Connected {
				k.Seen = now.UTC()
			}
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b pipeline.Agent) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Forget implements pipeline.Agents.
func (p *Pool) Forget(ctx context.Context, name string) error {
	p.mu.Lock()
	if a := p.agents[name]; a != nil && a.connected(time.Now()) {
		p.mu.Unlock()
		return fault.New(fault.Conflict, "The agent %s is connected. Stop it first.", name)
	}
	delete(p.known, name)
	p.mu.Unlock()
	p.wake()
	return p.cfg.Rows.ForgetAgent(ctx, p.cfg.Org, name)
}

// remote is the runner of one slot of one agent.
type remote struct {
	pool  *Pool
	place string
	key   Key
}

// Run implements runner.Runner: the agent does it, and this waits.
func (r *remote) Run(ctx context.Context, j runner.Job, h runner.Host, log *logs.Writer) (pipeline.Result, error) {
	for _, secret := range j.Secrets { // the agent masks its log; this is for what the server writes of the job
		log.Mask(secret)
	}
	a := &attempt{key: keyOf(j.JobID, j.Attempt), place: r.place, job: j, host: h, log: log, beat: time.Now(), result: make(chan pipeline.Result, 1), lost: make(chan string, 1)}
	r.key = a.key
	r.pool.assign(a)
	cancel := j.Cancel
	silent := time.NewTicker(500 * time.Millisecond)
	defer silent.Stop()
	for {
		select {
		case res := <-a.result:
			return res, nil
		case why := <-a.lost:
			r.pool.drop(a)
			return pipeline.Result{}, fault.New(fault.Unavailable, "%s", why)
		case <-ctx.Done():
			r.pool.detach(a)
			return pipeline.Result{}, runner.ErrDetached
		case <-cancel:
			cancel = nil
			r.pool.cancel(a)
		case <-silent.C:
			if quiet := r.pool.silence(a); quiet > r.pool.cfg.Lost {
				r.pool.drop(a)
				return pipeline.Result{}, fault.New(fault.Unavailable, "there was no word from agent %s for %d s", name(r.place), int(quiet.Seconds()))
			}
		}
	}
}

func name(place string) string {
	n, _, _ := strings.Cut(place, "@")
	return n
}

// stored lets the agent forget.
func (r *remote) stored() {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	delete(r.pool.attempts, r.key)
	r.pool.agent(name(r.place)).tell()
}

func (p *Pool) assign(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts[a.key] = a
	delete(p.expected, a.key)
	ag := p.agent(name(a.place))
	if ag.hello.Instance != "" && ag.place() != a.place {
		a.lost <- restarted(a.place)
	}
	ag.tell()
}

func restarted(place string) string { return "the agent " + name(place) + " was restarted" }

// drop takes an attempt away from its agent. What comes of it later is refused.
func (p *Pool) drop(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.attempts, a.key)
	p.agent(name(a.place)).tell()
	p.wake()
}

// detach forgets an attempt without a word to its agent: this server no longer leads.
func (p *Pool) detach(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = false
	delete(p.attempts, a.key)
	a.finished = true
}

func (p *Pool) cancel(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.cancelled = true
	p.agent(name(a.place)).tell()
}

func (p *Pool) silence(a *attempt) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(a.beat)
}

// greet takes in what an agent says of itself. It runs under the lock.
func (p *Pool) greet(who string, h Hello, connecting bool) (*agent, error) {
	if h.Instance == "" || h.Slots < 0 || h.Slots > maxSlots || len(h.Labels) > 100 || len(h.Have) > 4*maxSlots {
		return nil, fault.New(fault.Invalid, "An agent must name its instance, at most %d slots and at most 100 labels.", maxSlots)
	}
	for _, l := range h.Labels {
		if l == "" || len(l) > 100 || strings.ContainsAny(l, ",\n") {
			return nil, fault.New(fault.Invalid, "The label %q of an agent has a comma or a line break, or is empty or too long.", l)
		}
	}
	a := p.agent(who)
	if a.hello.Instance != "" && a.hello.Instance != h.Instance {
		if a.sessions > 0 {
			return nil, fault.New(fault.Conflict, "An agent %s is connected already. Make a token for each agent: weir agent token NAME.", who)
		}
		for _, t := range p.attempts {
			if name(t.place) == who && t.place != who+"@"+h.Instance && !t.finished {
				select {
				case t.lost <- restarted(t.place):
				default:
				}
			}
		}
	}
	news := a.hello.Instance != h.Instance || a.hello.Draining != h.Draining || a.hello.Slots != h.Slots || connecting && a.sessions == 0
	a.hello, a.seen = h, time.Now()
	for _, key := range h.Have {
		if t := p.attempts[key]; t != nil && t.place == a.place() {
			t.beat = a.seen
		}
	}
	p.known[who] = pipeline.Agent{Name: who, Labels: h.Labels, Slots: h.Slots, Version: h.Version, Seen: a.seen.UTC()}
	if news {
		p.wake()
	}
	return a, nil
}

// frame is what an agent shall have. It runs under the lock.
func (p *Pool) frame(a *agent, have func(Key) bool) Frame {
	f := Frame{Ready: p.ready}
	for _, t := range p.attempts {
		if t.place != a.place() {
			continue
		}
		w := Want{Key: t.key, Cancel: t.cancelled}
		if !have(t.key) && !t.finished {
			job := t.job
			w.Job = &job
		}
		f.Want = append(f.Want, w)
	}
	for key, place := range p.expected {
		if place == a.place() {
			f.Want = append(f.Want, Want{Key: key})
		}
	}
	slices.SortFunc(f.Want, func(a, b Want) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return f
}

// Session is one connection of an agent. One goroutine uses it.
type Session struct {
	pool    *Pool
	agent   *agent
	place   string
	sent    map[Key]bool
	version int64
	first   bool
}

// Connect begins a session. Close ends it.
func (p *Pool) Connect(ctx context.Context, who string, hello []byte) (*Session, error) {
	var h Hello
	if err := json.Unmarshal(hello, &h); err != nil {
		return nil, fault.New(fault.Invalid, "The agent's greeting cannot be read: %v.", err)
	}
	p.mu.Lock()
	a, err := p.greet(who, h, true)
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	a.sessions++
	s := &Session{pool: p, agent: a, place: a.place(), sent: map[Key]bool{}, first: true}
	for _, k := range h.Have {
		s.sent[k] = true
	}
	known := p.known[who]
	p.mu.Unlock()
	if err := p.cfg.Rows.SaveAgent(ctx, p.cfg.Org, known); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Next waits for what the agent must know next, at most until a ping is due, and returns it as JSON.
func (s *Session) Next(ctx context.Context) ([]byte, error) {
	ping := time.NewTimer(pingEvery)
	defer ping.Stop()
	for {
		s.pool.mu.Lock()
		if s.agent.place() != s.place {
			s.pool.mu.Unlock()
			return nil, fault.New(fault.Conflict, "Another process of this agent has connected.")
		}
		s.agent.seen = time.Now()
		grew, version := s.agent.grew, s.agent.version
		var f Frame
		due := s.first || version != s.version
		if due {
			f = s.pool.frame(s.agent, func(k Key) bool { return s.sent[k] })
		}
		s.pool.mu.Unlock()
		if due {
			return s.encode(f, version)
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ping.C:
			s.first = true
		}
	}
}

func (s *Session) encode(f Frame, version int64) ([]byte, error) {
	s.first, s.version = false, version
	for _, w := range f.Want {
		s.sent[w.Key] = true
	}
	return json.Marshal(f)
}

// Close ends a session. Its agent has a moment to come back.
func (s *Session) Close() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.agent.sessions--
	if s.agent.sessions == 0 {
		s.agent.seen = time.Time{}
	}
}

// Beat says that an agent is alive and what it has, and returns the frame without jobs.
func (p *Pool) Beat(_ context.Context, who string, hello []byte) ([]byte, error) {
	var h Hello
	if err := json.Unmarshal(hello, &h); err != nil {
		return nil, fault.New(fault.Invalid, "The agent's greeting cannot be read: %v.", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a, err := p.greet(who, h, false)
	if err != nil {
		return nil, err
	}
	return json.Marshal(p.frame(a, func(Key) bool { return true }))
}

// Job finds an attempt that an agent has. NotFound means that it has it no longer, Unavailable that nobody knows yet.
func (p *Pool) Job(who, instance, key string) (*Attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.attempts[Key(key)]
	switch {
	case t != nil && t.place == who+"@"+instance:
		return &Attempt{p, t}, nil
	case !p.ready || p.expected[Key(key)] != "":
		return nil, fault.New(fault.Unavailable, "This server does not lead yet; try again.")
	}
	slog.Warn("an agent asks for an attempt that it has no longer", "agent", who, "attempt", key)
	return nil, fault.New(fault.NotFound, "The attempt %s is not this agent's: it was lost, stored or given to another.", key)
}
