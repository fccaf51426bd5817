package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weir/internal/artifact/sbom"
)

// modules is how many modules the program has whose list is measured.
const modules = 500

// list measures an SBOM in both formats of a program with 500 modules, beside
// hashing the same bytes.
func list(ctx context.Context, _ string, t *table) error {
	dir, err := os.MkdirTemp("", "weir-bench-sbom-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := manyModules(ctx, dir)
	if err != nil {
		return err
	}
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	var took, floor time.Duration
	for range 5 {
		began := time.Now()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(sha256.New(), f); err != nil {
			return err
		}
		hashed := time.Since(began)
		began = time.Now()
		doc, err := sbom.FromGo(sbom.Subject{Name: "bench", Version: "1.0.0", Digest: "sha256:" + strings.Repeat("ab", 32), Created: time.Unix(0, 0)}, f, nil)
		if err != nil {
			return err
		}
		one, err := doc.CycloneDX()
		if err != nil {
			return err
		}
		two, err := doc.SPDX()
		if err != nil {
			return err
		}
		if n := strings.Count(string(one), `"purl"`); n != modules+1 || strings.Count(string(two), "purl") != n {
			return fmt.Errorf("the SBOM lists %d modules; want %d", n-1, modules)
		}
		if d := time.Since(began); took == 0 || d < took {
			took, floor = d, hashed
		}
	}
	t.add("sbom_500_modules_ms", float64(took.Microseconds())/1000, "ms", float64(floor.Microseconds())/1000)
	return nil
}

// manyModules builds a program of 500 vendored modules.
func manyModules(ctx context.Context, dir string) (string, error) {
	var mod, list, imports strings.Builder
	mod.WriteString("module bench.test/main\n\ngo 1.24\n\nrequire (\n")
	files := map[string]string{}
	for i := range modules {
		name := fmt.Sprintf("bench.test/m%03d", i)
		fmt.Fprintf(&mod, "\t%s v1.%d.0\n", name, i)
		fmt.Fprintf(&list, "# %s v1.%d.0\n## explicit; go 1.24\n%s\n", name, i, name)
		fmt.Fprintf(&imports, "import _ %q\n", name)
		files["vendor/"+name+"/m.go"] = fmt.Sprintf("package m%03d\n", i)
	}
	mod.WriteString(")\n")
	files["go.mod"], files["vendor/modules.txt"], files["main.go"] = mod.String(), list.String(), "package main\n\n"+imports.String()+"\nfunc main() {}\n"
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=vendor", "-trimpath", "-buildvcs=false", "-o", "bench", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return filepath.Join(dir, "bench"), nil
}
