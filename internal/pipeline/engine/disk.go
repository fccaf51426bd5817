package engine

import (
	"syscall"

	"weir/internal/base/fault"
)

// Disk returns a Config.Room that refuses new runs when less than least bytes are free where dir is. Rollbacks need no run and go on.
func Disk(dir string, least uint64) func() error {
	return func() error {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			return nil // what cannot be measured is no reason to stop
		}
		free := s.Bavail * uint64(s.Bsize)
		if free >= least {
			return nil
		}
		return fault.New(fault.Unavailable, "The disk of %s has %d MiB left and new runs need %d. Free some space, then run this again with `weir runs rerun`.",
			dir, free>>20, least>>20)
	}
}
