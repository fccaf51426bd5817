package local

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestATrashedWorkspaceIsAtOnceOutOfTheWayAndGoesWhenItIsDue(t *testing.T) {
	work := t.TempDir()
	bin := trash{dir: filepath.Join(work, "gone")}
	if err := os.Mkdir(bin.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	drop := func() {
		t.Helper()
		dir := filepath.Join(work, "job_1.1")
		if err := os.MkdirAll(filepath.Join(dir, "sealed"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "sealed", "secret"), "x")
		if err := os.Chmod(filepath.Join(dir, "sealed"), 0o500); err != nil {
			t.Fatal(err)
		}
		if err := bin.put(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Fatalf("the workspace is still in the way: %v", err)
		}
	}
	drop()
	drop()
	bin.left[0].at = time.Now().Add(-trashFor)
	bin.remove(false)
	if n := bin.holds(); n != 1 {
		t.Errorf("%d workspaces are left, want the young one", n)
	}
	bin.remove(true)
	if left, err := os.ReadDir(bin.dir); err != nil || len(left) != 0 || bin.holds() != 0 {
		t.Errorf("%d folders are left: %v", len(left), err)
	}
	for range trashMost + 1 {
		bin.left = append(bin.left, dropped{filepath.Join(bin.dir, "none"), time.Now()})
	}
	bin.remove(false)
	if n := bin.holds(); n != trashMost {
		t.Errorf("%d workspaces are left, want at most %d", n, trashMost)
	}
}
