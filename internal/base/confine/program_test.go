package confine

import (
	"context"
	"errors"
	"os"
	"testing"
)

// The child that becomes init puts its files in order before it executes the program, at numbers that may be those of other open
// files. Files that come and go meanwhile must not make that hit the program.
func TestSandboxesOpenWhileFilesComeAndGo(t *testing.T) {
	const workers, each = 4, 20
	stop := make(chan struct{})
	churned := make(chan struct{})
	go func() {
		defer close(churned)
		for {
			select {
			case <-stop:
				return
			default:
			}
			var open []*os.File
			for range 6 {
				if f, err := os.Open(os.DevNull); err == nil {
					open = append(open, f)
				}
			}
			for _, f := range open {
				f.Close()
			}
		}
	}()
	done := make(chan error, workers)
	for range workers {
		go func() {
			var errs []error
			for range each {
				s, err := Open(context.Background(), Spec{})
				if err != nil {
					errs = append(errs, err)
					continue
				}
				errs = append(errs, s.Close())
			}
			done <- errors.Join(errs...)
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-churned
}
