package db

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// CrashVariable names the environment variable that makes a process kill itself
// at a numbered write, so that a test can walk through all of them. An even
// number 2n dies before the n-th write of the process commits, 2n+1 right
// after. It is read once, at start, and does nothing when unset.
const CrashVariable = "WEIR_TEST_CRASH_AT"

var (
	crashAt, _ = strconv.ParseInt(os.Getenv(CrashVariable), 10, 64)
	writes     atomic.Int64
)

// WritePoint surrounds a durable write: a commit, or a rename of a file that
// matters. With a crash number set, the process may end here.
func WritePoint(write func() error) error {
	if crashAt == 0 {
		return write()
	}
	n := writes.Add(1)
	if 2*n == crashAt {
		die()
	}
	err := write()
	if 2*n+1 == crashAt {
		die()
	}
	return err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // The signal is on its way; nothing else may happen first.
}
