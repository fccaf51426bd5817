package app

import (
	"os"
	"path/filepath"

	"weir/internal/base/confine"
	"weir/internal/edge/gitd"
)

// Reenter must be the first call of main: it is where a copy of this binary
// that was started as a sandbox's init or as git's hook takes its own way, and
// does not return.
func Reenter() {
	confine.Main()
	if filepath.Base(os.Args[0]) == gitd.HookName {
		os.Exit(gitd.Hook(os.Stdin, os.Stderr))
	}
}
