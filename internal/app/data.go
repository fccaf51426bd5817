package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"weir/internal/base/fault"
	"weir/internal/base/id"
)

// Instance is what is fixed at first start.
type Instance struct {
	ID     string `json:"id"`
	Origin string `json:"origin"` // of the ledger
	Issuer string `json:"issuer"` // of signatures
}

// dataFolder is locked by one server.
type dataFolder struct {
	path     string
	lock     *os.File
	instance Instance
	replica  string // names this folder among the replicas of an instance
}

// openData makes the folder, locks it, and reads or writes what is fixed at
// first start. Whatever the configuration says later, an instance keeps its
// names: they stand in every signature.
func openData(c Config) (*dataFolder, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The data folder %s cannot be made. Check that this user may write there.", c.Data)
	}
	lock, err := os.OpenFile(filepath.Join(c.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The data folder %s cannot be written by this user.", c.Data)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fault.New(fault.Conflict, "Another Weir server is using the data folder %s. Stop it, or start this one with a folder of its own (--data).", c.Data)
	}
	d := &dataFolder{path: c.Data, lock: lock}
	if d.instance, err = readInstance(c); err == nil {
		d.replica, err = readReplica(c)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// readReplica returns the name of this data folder. Replicas of one instance
// share instance.json and keys, never this: it is what leases are held under,
// so that two replicas do not take each other for themselves, and a restart
// takes its own lease back at once.
func readReplica(c Config) (string, error) {
	path := filepath.Join(c.Data, "replica")
	raw, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(raw)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	name := id.New("replica")
	return name, writeFile(path, []byte(name+"\n"))
}

// holder is who this process is to leases.
func (d *dataFolder) holder() string { return d.instance.ID + "/" + d.replica }

func readInstance(c Config) (Instance, error) {
	path := filepath.Join(c.Data, "instance.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		i := Instance{ID: id.New("instance"), Origin: c.Identity.Origin, Issuer: c.Identity.Issuer}
		raw, err := json.MarshalIndent(i, "", "  ")
		if err != nil {
			return i, err
		}
		return i, writeFile(path, append(raw, '\n'))
	}
	var i Instance
	if err == nil {
		err = json.Unmarshal(raw, &i)
	}
	if err != nil || i.ID == "" {
		return i, fault.Wrap(fault.Invalid, err, "%s is damaged. Restore it from a backup: it names this instance in every signature.", path)
	}
	return i, nil
}

// writeFile replaces a file as a whole and waits until it is on disk.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

func (d *dataFolder) join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

func (d *dataFolder) close() error { return d.lock.Close() }

// room refuses when less than least bytes are free.
func (d *dataFolder) room(least int64) func() error {
	return func() error {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.path, &st); err != nil {
			return err
		}
		if free := int64(st.Bavail) * st.Bsize; free < least {
			return fault.New(fault.Unavailable, "The disk of the data folder has %d MiB free, less than the %d MiB that are kept: nothing new is accepted. Free some space. Rollbacks still work.", free>>20, least>>20)
		}
		return nil
	}
}
