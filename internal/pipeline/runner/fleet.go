package runner

import (
	"context"
	"errors"
	"sync"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

// Place is a reserved slot where one attempt runs.
type Place struct {
	Runner Runner
	Name   string // as pipeline.Attempt.Runner keeps it; "" is this process
	// Free gives the slot back. It is called once, when the attempt has ended.
	Free func()
	// Stored says that the result is kept for good, and may be nil.
	Stored func()
}

// Fleet is everywhere that jobs can run. Its methods may be called concurrently.
type Fleet interface {
	// Take reserves a slot for a job with labels, if one is free now.
	Take(labels []string) (Place, bool)
	// Fits reports whether Take would find a slot.
	Fits(labels []string) bool
	// Adopt returns the place of an attempt that began before this process did. Its Runner finds the attempt under way, or says that
	// it is lost.
	Adopt(name string, job pipeline.JobID, attempt int) Place
	// Ready says whether every attempt that goes on has been adopted: from then on what nobody knows is nobody's.
	Ready(bool)
	// Changed tells when a slot may have come free. Wake-ups may be lost.
	Changed() <-chan struct{}
}

// ErrDetached says that an attempt goes on although this process ends: whoever leads next adopts it.
var ErrDetached = errors.New("the attempt goes on without this server")

// Local is a fleet of this process alone, with a number of slots.
type Local struct {
	runner Runner
	slots  int
	mu     sync.Mutex
	busy   int
}

// NewLocal returns it.
func NewLocal(r Runner, slots int) *Local { return &Local{runner: r, slots: slots} }

var _ Fleet = (*Local)(nil)

// Take implements Fleet. This process takes whatever comes.
func (l *Local) Take([]string) (Place, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy >= l.slots {
		return Place{}, false
	}
	l.busy++
	return Place{Runner: l.runner, Free: sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy--
	})}, true
}

// Fits implements Fleet.
func (l *Local) Fits([]string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy < l.slots
}

// Ready implements Fleet.
func (l *Local) Ready(bool) {}

// Adopt implements Fleet.
func (l *Local) Adopt(string, pipeline.JobID, int) Place {
	return Place{Runner: gone{}, Free: func() {}}
}

// Changed implements Fleet: the slots of this process are given back by whoever took them.
func (l *Local) Changed() <-chan struct{} { return nil }

// gone is the runner of attempts whose agents nobody knows any more.
type gone struct{}

// Run implements Runner.
func (gone) Run(context.Context, Job, Host, *logs.Writer) (pipeline.Result, error) {
	return pipeline.Result{}, fault.New(fault.Unavailable, "the agent that ran it is no longer known to this server")
}
