package spec

import "strings"

// input says how an input of a built-in action is treated.
type input int

const (
	taken    input = iota // read and honoured
	harmless              // accepted: true of every run here, or a matter of taste
	falsy                 // accepted only when it asks for nothing
	shallow               // accepted only when it asks for no history
)

// Builtins are the actions that Weir brings itself, by the name that a step's Uses then carries.
var Builtins = map[string]string{
	"actions/checkout": "checkout", "actions/setup-go": "setup-go", "actions/setup-node": "setup-node", "actions/setup-python": "setup-python",
	"actions/setup-java": "setup-java", "actions/cache": "cache", "actions/cache/restore": "cache/restore", "actions/cache/save": "cache/save",
	"actions/upload-artifact": "upload-artifact", "actions/download-artifact": "download-artifact",
	"weir/test-results": "test-results",
}

var inputs = map[string]map[string]input{
	"checkout": {
		"path": taken, "fetch-depth": taken, "fetch-tags": taken, "ref": taken, "filter": taken, "sparse-checkout": taken, "sparse-checkout-cone-mode": taken, "clean": harmless, "persist-credentials": taken, "show-progress": harmless,
		"set-safe-directory": harmless, "submodules": falsy, "lfs": falsy, "repository": taken, "token": harmless, "ssh-key": falsy,
	},
	"setup-go": {"go-version": taken, "go-version-file": taken, "check-latest": falsy, "cache": harmless, "cache-dependency-path": harmless},
	"setup-node": {
		"node-version": taken, "node-version-file": taken, "check-latest": falsy, "cache": harmless, "cache-dependency-path": harmless, "package-manager-cache": harmless,
		"registry-url": falsy, "scope": falsy, "token": harmless, "always-auth": falsy, "architecture": falsy,
	},
	"setup-python": {
		"python-version": taken, "python-version-file": taken, "check-latest": falsy, "cache": harmless, "cache-dependency-path": harmless,
		"update-environment": harmless, "allow-prereleases": harmless, "token": harmless, "architecture": falsy, "freethreaded": falsy,
	},
	"setup-java": {
		"java-version": taken, "java-version-file": taken, "distribution": taken, "java-package": harmless, "check-latest": falsy, "cache": harmless,
		"cache-dependency-path": harmless, "token": harmless, "architecture": falsy,
	},
	"cache/restore": {"path": taken, "key": taken, "restore-keys": taken, "fail-on-cache-miss": taken, "lookup-only": taken, "enablecrossosarchive": falsy},
	"cache/save":    {"path": taken, "key": taken, "enablecrossosarchive": falsy, "upload-chunk-size": harmless},
	"cache":         {"path": taken, "key": taken, "restore-keys": taken, "fail-on-cache-miss": taken, "lookup-only": taken, "enablecrossosarchive": falsy},
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
