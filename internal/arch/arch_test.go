// Package arch holds one test: the import graph is the architecture.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "weir/"

// order lists rings and layers from bottom to top. Outside its own folder a
// package may import only what stands below it.
var order = []string{
	"examples",
	"internal/base",
	"internal/guard/identity", "internal/guard/ledger", "internal/guard/evidence", "internal/guard/policy", "internal/guard/approval", "internal/guard/secret",
	"internal/catalog", "internal/check/vuln", "internal/check",
	"internal/source", "internal/pipeline", "internal/artifact", "internal/deploy", "internal/control",
	"internal/edge",
	"internal/app",
	"cmd",
}

// ports are the folders whose children are adapters: one technology each.
var ports = []string{
	"internal/base/db", "internal/base/blob", "internal/guard/secret", "internal/source/forge",
	"internal/pipeline/runner", "internal/deploy/target", "internal/control/signal",
}

func TestImportsGoDown(t *testing.T) {
	for pkg, deps := range graph(t) {
		for dep := range deps {
			if why := forbidden(pkg, dep); why != "" {
				t.Errorf("%s must not import %s: %s", pkg, dep, why)
			}
		}
	}
}

// forbidden says why pkg may not import dep, or "" if it may.
func forbidden(pkg, dep string) string {
	from, to := home(pkg), home(dep)
	if strings.HasSuffix(path.Base(pkg), "test") {
		from = "internal/app" // A package that helps tests puts parts together, as app does.
	}
	switch {
	case from == "" || to == "":
		return "it stands in no ring; add it to order"
	case from == "internal/app":
		return "" // the composition root sees everything
	case from == "cmd":
		if to == "internal/app" || dep == "internal/edge/api/client" {
			return ""
		}
		return "a command talks to app or to the API client"
	case slices.Contains(ports, path.Dir(dep)) && dep != pkg && !strings.HasPrefix(pkg, dep+"/"):
		return "only app chooses an adapter"
	case from == to:
		if strings.HasPrefix(dep, pkg+"/") {
			return "a parent does not know its children"
		}
		return ""
	case slices.Index(order, from) < slices.Index(order, to):
		return "imports go down"
	case to != "internal/base" && dep != to:
		return "from outside, only the root of a layer is visible"
	}
	return ""
}

// home returns the ring or layer that pkg lives in.
func home(pkg string) string {
	for _, h := range order {
		if pkg == h || strings.HasPrefix(pkg, h+"/") {
			return h
		}
	}
	return ""
}

// graph reads every import clause below the module root. It parses rather than
// asking go list so that the test cache notices when a file changes.
func graph(t *testing.T) map[string]map[string]bool {
	t.Helper()
	g := make(map[string]map[string]bool)
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		if strings.HasPrefix(name, "examples/") && path.Dir(name) != "examples" {
			return nil // A user's service, with imports of its own.
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range file.Imports {
			if dep, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module); ok {
				pkg := path.Dir(name)
				if g[pkg] == nil {
					g[pkg] = make(map[string]bool)
				}
				g[pkg][dep] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestEveryPackageSaysWhatItIs looks for a package comment, and for files that
// have grown past what one story needs.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := make(map[string]bool)
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && name != ".")) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || !strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "cmd/") {
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if lines := strings.Count(string(src), "\n"); lines > 800 && !strings.HasSuffix(name, "_templ.go") {
			t.Errorf("%s has %d lines; a file past 800 holds two stories", name, lines)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		documented[dir] = documented[dir] || file.Doc != nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestWrongImportsAreNamed(t *testing.T) {
	for _, c := range []struct{ pkg, dep, want string }{
		{"internal/pipeline/engine", "internal/deploy", "imports go down"},
		{"internal/deploy", "internal/artifact/artifactdb", "from outside, only the root of a layer is visible"},
		{"internal/deploy", "internal/deploy/engine", "a parent does not know its children"},
		{"internal/deploy/engine", "internal/deploy/target/host", "only app chooses an adapter"},
		{"internal/base/db", "internal/guard/ledger", "imports go down"},
		{"cmd/weir", "internal/deploy", "a command talks to app or to the API client"},
		{"internal/elsewhere", "internal/base/db", "it stands in no ring; add it to order"},
		{"internal/app", "internal/deploy/target/host", ""},
		{"internal/control/engine", "internal/deploy", ""},
	} {
		if got := forbidden(c.pkg, c.dep); got != c.want {
			t.Errorf("forbidden(%s, %s) = %q; want %q", c.pkg, c.dep, got, c.want)
		}
	}
}
