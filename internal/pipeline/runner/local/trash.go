package local

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// trashFor and trashMost bound how long a workspace outlives its job, and how many do.
	trashFor  = 30 * time.Second
	trashMost = 2000
)

// trash holds the workspaces of jobs that have ended until there is time to remove them: when no job runs, when they become old
// or many, or when disk becomes scarce. A slot takes its next job without waiting for that, and ext4, which passes over inodes that
// were freed in the last seconds one by one, makes the files of the next jobs sooner.
type trash struct {
	dir string

	mu       sync.Mutex
	n        int
	left     []dropped // oldest first
	emptying bool
}

type dropped struct {
	path string
	at   time.Time
}

// put takes a folder away from where it is.
func (t *trash) put(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	path := filepath.Join(t.dir, fmt.Sprint(t.n))
	if err := os.Rename(dir, path); err != nil {
		return remove(dir)
	}
	t.left = append(t.left, dropped{path, time.Now()})
	return nil
}

// holds tells how many folders are still there.
func (t *trash) holds() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.left)
}

// empty begins to remove what is due at now, or everything.
func (t *trash) empty(now time.Time, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.emptying && t.due(now, all) {
		t.emptying = true
		go t.remove(all)
	}
}

func (t *trash) due(now time.Time, all bool) bool {
	return len(t.left) > 0 && (all || len(t.left) > trashMost || now.Sub(t.left[0].at) >= trashFor)
}

func (t *trash) remove(all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.due(time.Now(), all) {
		next := t.left[0].path
		t.mu.Unlock()
		err := remove(next)
		t.mu.Lock()
		if len(t.left) > 0 && t.left[0].path == next { // nobody else was faster
			t.left = t.left[1:]
		}
		if err != nil { // what a crash leaves is removed at the next start
			slog.Warn("workspace not removed; the next start will", "dir", next, "error", err)
		}
	}
	t.emptying = false
}
