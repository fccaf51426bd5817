package spec

import "strings"

// input says how an input of a built-in action is treated.
type input int

const (
	taken    input = iota // read and honoured
	harmless              // accepted: true of every run here, or a matter of taste
	falsy                 // accepted only when it asks for nothing
	shallow               // accepted only when it asks for no history: a checkout is a tree without its past
)

// Builtins are the actions that Weir brings itself, by the name that a step's Uses then carries.
var Builtins = map[string]string{
	"actions/checkout": "checkout", "actions/setup-go": "setup-go", "actions/cache": "cache",
	"actions/upload-artifact": "upload-artifact", "actions/download-artifact": "download-artifact",
	"weir/test-results": "test-results",
}

var inputs = map[string]map[string]input{
	"checkout": {
		"path": taken, "fetch-depth": shallow, "fetch-tags": falsy, "clean": harmless, "persist-credentials": harmless, "show-progress": harmless,
		"set-safe-directory": harmless, "submodules": falsy, "lfs": falsy, "ref": falsy, "repository": falsy, "token": falsy, "ssh-key": falsy,
		"sparse-checkout": falsy,
	},
	"setup-go": {"go-version": taken, "go-version-file": taken, "check-latest": falsy, "cache": harmless, "cache-dependency-path": harmless},
	"cache":    {"path": taken, "key": taken, "restore-keys": taken, "fail-on-cache-miss": taken, "lookup-only": taken, "enablecrossosarchive": falsy},
	"upload-artifact": {
		"name": taken, "path": taken, "if-no-files-found": taken, "overwrite": taken, "include-hidden-files": taken,
		"compression-level": harmless, "retention-days": harmless,
	},
	"test-results":      {"name": taken, "path": taken, "if-no-files-found": taken},
	"download-artifact": {"name": taken, "path": taken, "pattern": taken, "merge-multiple": taken},
}

// builtin resolves "actions/checkout@v4".
func builtin(uses string) (name string, ok bool) {
	action, _, _ := strings.Cut(uses, "@")
	name, ok = Builtins[strings.ToLower(action)]
	return name, ok
}
