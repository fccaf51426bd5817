package local

import (
	"context"
	"io"
	"sync"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// bookkeeper is the job's host, and keeps a note of which caches the job asked for and what came of it: by the built-in steps, and by
// programs through the job API.
type bookkeeper struct {
	runner.Host
	mu   sync.Mutex
	uses []pipeline.CacheUse
}

// maxCacheUses bounds the notes of one job.
const maxCacheUses = 200

// FindCache implements runner.Host.
func (n *bookkeeper) FindCache(ctx context.Context, key string, prefixes []string) (string, io.ReadCloser, error) {
	found, r, err := n.Host.FindCache(ctx, key, prefixes)
	if err != nil {
		return found, r, err
	}
	i := n.note(pipeline.CacheUse{Key: key, Found: found})
	if r == nil {
		return found, r, nil
	}
	return found, &counted{ReadCloser: r, add: func(k int) { n.count(i, func(u *pipeline.CacheUse) { u.Restored += int64(k) }) }}, nil
}

// SaveCache implements runner.Host.
func (n *bookkeeper) SaveCache(ctx context.Context, key string, tar io.Reader) error {
	i := n.note(pipeline.CacheUse{Key: key, Kept: true})
	return n.Host.SaveCache(ctx, key, &counted{ReadCloser: io.NopCloser(tar), add: func(k int) { n.count(i, func(u *pipeline.CacheUse) { u.Saved += int64(k) }) }})
}

func (n *bookkeeper) note(u pipeline.CacheUse) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.uses) >= maxCacheUses {
		return -1
	}
	n.uses = append(n.uses, u)
	return len(n.uses) - 1
}

func (n *bookkeeper) count(i int, add func(*pipeline.CacheUse)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i >= 0 {
		add(&n.uses[i])
	}
}

// used are the notes so far.
func (n *bookkeeper) used() []pipeline.CacheUse {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]pipeline.CacheUse(nil), n.uses...)
}

// counted tells how many bytes were read.
type counted struct {
	io.ReadCloser
	add func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	k, err := c.ReadCloser.Read(p)
	c.add(k)
	return k, err
}
