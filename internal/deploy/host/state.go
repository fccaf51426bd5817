package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"weir/internal/base/db"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// keepReleases is how many releases of an environment stay on the machine.
const keepReleases = 10

// state is what survives a restart of the host.
type state struct {
	Epoch        int64                `json:"epoch"`
	Environments map[string]envRecord `json:"environments"`
	Events       []protocol.Event     `json:"events"`
	LastEvent    int64                `json:"last_event"`
}

// envRecord is one environment at rest. Values in it are replaced, never changed in place.
type envRecord struct {
	Desired protocol.Desired  `json:"desired"`
	InForce []protocol.Slot   `json:"in_force"`
	Applied int64             `json:"applied"`
	Since   time.Time         `json:"since"`
	Kept    []keptRelease     `json:"kept"` // releases that were stable here, the newest last
	Bad     map[string]string `json:"bad"`
	Address string            `json:"address"`
	Pending bool              `json:"pending"` // a rollback on the machine that no server has acknowledged
}

type keptRelease struct {
	protocol.Release
	Time time.Time `json:"time"`
}

// keep returns the record with r as the release that was stable last.
func (e envRecord) keep(r protocol.Release, now time.Time) envRecord {
	kept := slices.DeleteFunc(slices.Clone(e.Kept), func(k keptRelease) bool { return k.ReleaseID == r.ReleaseID })
	kept = append(kept, keptRelease{r, now})
	e.Kept = kept[max(0, len(kept)-keepReleases):]
	return e
}

func (e envRecord) slot(role deploy.Role) (protocol.Slot, bool) {
	for _, s := range e.InForce {
		if s.Role == role {
			return s, true
		}
	}
	return protocol.Slot{}, false
}

// digests are the images that must stay.
func (s state) digests() map[string]bool {
	keep := map[string]bool{}
	for _, e := range s.Environments {
		for _, slot := range slices.Concat(e.InForce, e.Desired.Slots) {
			keep[slot.Release.Digest] = true
		}
		for _, k := range e.Kept {
			keep[k.Digest] = true
		}
	}
	return keep
}

// store keeps the state in one file, replaced as a whole.
type store struct {
	path string
	mu   sync.Mutex
	s    state
}

const ballastSize = 1 << 20

func openStore(dir string) (*store, error) {
	st := &store{path: filepath.Join(dir, "state.json"), s: state{Environments: map[string]envRecord{}}}
	b, err := os.ReadFile(st.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read state of the host: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(b, &st.s); err != nil {
			return nil, fmt.Errorf("read state of the host in %s: %w", st.path, err)
		}
	}
	st.refill()
	return st, nil
}

// refill reserves a little of the disk, which a rollback uses when there is no other room left.
func (st *store) refill() {
	p := st.path + ".reserve"
	if info, err := os.Stat(p); err == nil && info.Size() == ballastSize {
		return
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Fallocate(int(f.Fd()), 0, 0, ballastSize) != nil {
		f.Truncate(0)
	}
}

func (st *store) read() state {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	s.Environments = maps.Clone(s.Environments)
	s.Events = slices.Clone(s.Events)
	return s
}

// update changes the state and makes it durable, or leaves it as it was.
func (st *store) update(change func(*state) error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	next := st.s
	next.Environments = maps.Clone(next.Environments)
	next.Events = slices.Clone(next.Events)
	if err := change(&next); err != nil {
		return err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = db.WritePoint(func() error { return replace(st.path, b) })
	if errors.Is(err, syscall.ENOSPC) {
		slog.Warn("disk is full; using the reserve of the host", "path", st.path)
		os.Remove(st.path + ".reserve")
		err = replace(st.path, b)
	}
	if err != nil {
		return fmt.Errorf("save state of the host: %w", err)
	}
	st.s = next
	return nil
}

// env changes one environment's record.
func (st *store) env(key string, change func(*envRecord)) error {
	return st.update(func(s *state) error {
		e := s.Environments[key]
		change(&e)
		s.Environments[key] = e
		return nil
	})
}

func replace(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
