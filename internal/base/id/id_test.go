package id_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"weir/internal/base/id"
)

func TestLaterSortsAfterEarlier(t *testing.T) {
	var ids []string
	for range 1000 {
		ids = append(ids, id.New("run"))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids are not in order")
	}
}

func TestConcurrentIdsAreAllDifferent(t *testing.T) {
	var (
		mu   sync.Mutex
		seen = map[string]bool{}
		wg   sync.WaitGroup
	)
	for range 8 {
		wg.Go(func() {
			for range 500 {
				v := id.New("run")
				mu.Lock()
				if seen[v] {
					t.Errorf("%s twice", v)
				}
				seen[v] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKindIsThePrefix(t *testing.T) {
	for in, want := range map[string]string{id.New("run"): "run", "": "", "run": "", "run_short": "", "_" + id.New("x")[2:]: ""} {
		if got := id.Kind(in); got != want {
			t.Errorf("Kind(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestTimeIsWhenItWasMade(t *testing.T) {
	before := time.Now().Add(-time.Millisecond)
	at, err := id.Time(id.New("run"))
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("Time() = %v, %v", at, err)
	}
	for _, bad := range []string{"", "run", "run_", "run_x", "run_../../etc/passwd/etc/passw", "run_01JD3ZZZZZZZZZZZZZZZZZZZZ!"} {
		if _, err := id.Time(bad); err == nil {
			t.Errorf("Time(%q) was read", bad)
		}
	}
}
