package confine

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"weir/internal/base/jail"
)

// dist holds the small program that is a sandbox's init, if it was built (internal/base/jail/build).
//
//go:embed all:dist
var dist embed.FS

var mainCalled atomic.Bool

// Main runs the sandbox's init when this process is one, and then does not return. Otherwise it does nothing.
// It is the first call of main() and TestMain.
func Main() {
	mainCalled.Store(true)
	jail.Main()
}

// program is what to run as init: the small program from memory, which starts several times faster, or nil for this binary again.
// It stays open as long as this process lives.
var program = sync.OnceValue(func() *os.File {
	packed, err := dist.ReadFile("dist/init.gz")
	if err != nil {
		return nil
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil
	}
	fd, err := unix.MemfdCreate("weir-sandbox", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err != nil {
		fd, err = unix.MemfdCreate("weir-sandbox", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING) // before Linux 6.3
	}
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "sandbox init")
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return nil
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil
	}
	return f
})
