// Package part starts, supervises and stops the long-running parts of a process.
package part

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Service is one long-running part of the process. Run blocks until ctx is
// cancelled or the part fails, and returns only when nothing it started is left.
type Service interface {
	Name() string
	Run(ctx context.Context) error
}

// Func makes a service of a name and a function.
func Func(name string, run func(context.Context) error) Service { return fn{name, run} }

type fn struct {
	name string
	run  func(context.Context) error
}

func (f fn) Name() string                  { return f.name }
func (f fn) Run(ctx context.Context) error { return f.run(ctx) }

// Run runs every service until ctx is cancelled or one of them returns. It then
// cancels the others, waits for all, and returns what went wrong.
func Run(ctx context.Context, services ...Service) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(services))
	for i, s := range services {
		wg.Go(func() {
			defer stop()
			if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs[i] = fmt.Errorf("%s: %w", s.Name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
