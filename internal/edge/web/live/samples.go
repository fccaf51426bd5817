package live

import (
	"context"
	"sync"
	"time"

	"weir/internal/control"
	"weir/internal/deploy"
)

// keptRollouts is how many rollouts' samples are kept for the pages that look at them each second.
const keptRollouts = 16

// seen are the samples of rollouts that are looked at. Samples are never changed, so only what came since the last one is read.
type seen struct {
	mu    sync.Mutex
	of    map[deploy.RolloutID][]control.Sample
	order []deploy.RolloutID // the oldest first
}

// samples are all looks at a rollout. The service is asked each time, so that it says who may see them.
func (d *Data) samples(ctx context.Context, id deploy.RolloutID) ([]control.Sample, error) {
	d.seen.mu.Lock()
	have := d.seen.of[id]
	d.seen.mu.Unlock()
	var since time.Time
	if n := len(have); n > 0 {
		since = have[n-1].Time
	}
	more, err := d.Control.Samples(ctx, id, since)
	if err != nil || len(more) == 0 {
		return have, err
	}
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	if now := d.seen.of[id]; len(now) != len(have) { // another reader was faster
		return append(have[:len(have):len(have)], more...), nil
	}
	all := append(have[:len(have):len(have)], more...)
	if d.seen.of == nil {
		d.seen.of = map[deploy.RolloutID][]control.Sample{}
	}
	if _, ok := d.seen.of[id]; !ok {
		d.seen.order = append(d.seen.order, id)
		if len(d.seen.order) > keptRollouts {
			delete(d.seen.of, d.seen.order[0])
			d.seen.order = d.seen.order[1:]
		}
	}
	d.seen.of[id] = all
	return all, nil
}
