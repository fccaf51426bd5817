package part

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunStopsAllWhenOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		stopped := false
		err := Run(t.Context(),
			Func("bad", func(context.Context) error { time.Sleep(time.Hour); return boom }),
			Func("good", func(ctx context.Context) error { <-ctx.Done(); stopped = true; return ctx.Err() }),
		)
		if !errors.Is(err, boom) || !stopped {
			t.Errorf("Run() = %v, other stopped = %v; want %v, true", err, stopped, boom)
		}
	})
}
