package local

import (
	"os"
	"path/filepath"
	"testing"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

func TestAChangeStartsWithACopyOfWhatLandedAndNeverWritesIt(t *testing.T) {
	seed := t.TempDir()
	write(t, filepath.Join(seed, "go", "a"), "seed")
	r := &Runner{cfg: Config{Data: t.TempDir(), Seed: seed}}
	landed, err := r.cache(runner.Job{RepositoryID: "repo_1", Trust: pipeline.Landed})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(landed, "go", "a")); got != "seed" {
		t.Errorf("a landed run's first cache has %q; want the seed", got)
	}
	write(t, filepath.Join(landed, "go", "b"), "landed")
	if err := os.Symlink("/etc/passwd", filepath.Join(landed, "go", "link")); err != nil {
		t.Fatal(err)
	}
	change, err := r.cache(runner.Job{RepositoryID: "repo_1", Trust: pipeline.Change})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(change, "go", "b")); got != "landed" {
		t.Errorf("a change's first cache has %q; want what landed", got)
	}
	if _, err := os.Lstat(filepath.Join(change, "go", "link")); err == nil {
		t.Error("a link was copied")
	}
	write(t, filepath.Join(change, "go", "b"), "poison")
	if got := read(t, filepath.Join(landed, "go", "b")); got != "landed" {
		t.Errorf("the change wrote %q into the cache of landed runs", got)
	}
	for _, bad := range []string{"", "..", "a/b"} {
		if dir, err := r.cache(runner.Job{RepositoryID: bad, Trust: pipeline.Change}); err == nil {
			t.Errorf("repository %q got the cache %s", bad, dir)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
