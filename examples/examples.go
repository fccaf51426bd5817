// Package examples holds the example service that `weir demo` delivers, and the
// two changes that it makes to it.
//
// The service is a module of its own: its go.mod is kept as go.mod.txt, because
// a folder with a go.mod could not be embedded. Its module path is also its
// import path here, so that its tests run with those of Weir.
package examples

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"
)

//go:embed all:checkout
var files embed.FS

// Change is one demonstrated change to the example.
type Change struct {
	Version string // what its release is called
	Message string // of the commit
	Files   fs.FS  // whole files that replace those of the version before
}

// Checkout returns the example as its first version, 1.0.0.
func Checkout() (fs.FS, error) { return tree("checkout", "checkout/demo") }

// CheckoutChange returns the change that leads to a version: 1.1.0 adds a
// discount and is good; 1.2.0 caches prices and fails one request in twenty, in
// a way that its tests do not see. 1.2.0 goes on top of 1.1.0.
func CheckoutChange(version string) (Change, error) {
	root := "checkout/demo/" + version
	message, err := files.ReadFile(root + "/MESSAGE")
	if err != nil {
		return Change{}, fmt.Errorf("example change %s: %w", version, err)
	}
	overlay, err := tree(root, root+"/MESSAGE")
	return Change{version, strings.TrimSpace(string(message)), overlay}, err
}

// tree copies the files below root, but for those below except. A name that
// ends in go.txt or mod.txt loses the .txt, which kept it from the compiler.
func tree(root, except string) (fs.FS, error) {
	out := fstest.MapFS{}
	err := fs.WalkDir(files, root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == except && d.IsDir():
			return fs.SkipDir
		case name == except || d.IsDir():
			return nil
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		to := strings.TrimPrefix(name, root+"/")
		if ext := path.Ext(strings.TrimSuffix(to, ".txt")); ext == ".go" || ext == ".mod" {
			to = strings.TrimSuffix(to, ".txt")
		}
		out[to] = &fstest.MapFile{Data: body, Mode: 0o644}
		return nil
	})
	return out, err
}
