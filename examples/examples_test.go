package examples_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/examples"
	"weir/internal/catalog"
	"weir/internal/pipeline/spec"
)

func TestTheFirstVersionIsAModuleOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, checkout(t))
	for _, name := range []string{"go.mod", "weir.yaml", "CODEOWNERS", ".github/workflows/ci.yml", "cmd/checkout/main.go"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"demo", "go.mod.txt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is part of the example", name)
		}
	}
	passes(t, dir)
}

func TestEveryVersionPassesItsChecksAndOnlyTheLastFailsOneRequestInTwenty(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, checkout(t))
	for _, version := range []string{"1.1.0", "1.2.0"} {
		c, err := examples.CheckoutChange(version)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(c.Message, "feat: ") {
			t.Errorf("message of %s = %q; want one that makes a minor version", version, c.Message)
		}
		write(t, dir, c.Files)
		passes(t, dir)
		const requests = 400
		failed := load(t, dir, version, requests)
		if want := map[string]int{"1.1.0": 0, "1.2.0": requests / 20}[version]; failed != want {
			t.Errorf("%s failed %d of %d requests; want %d", version, failed, requests, want)
		}
	}
}

func TestWeirUnderstandsTheExample(t *testing.T) {
	files := checkout(t)
	src, err := fs.ReadFile(files, catalog.FileName)
	if err != nil {
		t.Fatal(err)
	}
	f, diags := catalog.Parse(catalog.FileName, src, "checkout")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if s := f.Services[0]; s.Name != "checkout" || strings.Join(s.Order, " ") != "staging production" {
		t.Errorf("service %s in order %v", s.Name, s.Order)
	}
	workflow := ".github/workflows/ci.yml"
	if src, err = fs.ReadFile(files, workflow); err != nil {
		t.Fatal(err)
	}
	if diags := spec.Check(workflow, src); len(diags) > 0 {
		t.Error(diags)
	}
	for _, job := range spec.JobIDs(src) {
		if !strings.Contains(strings.Join(f.Repository.RequiredChecks, " "), "ci.yml/"+job) {
			t.Errorf("job %s is not required", job)
		}
	}
}

func TestUnknownChangeIsAnError(t *testing.T) {
	if _, err := examples.CheckoutChange("9.9.9"); err == nil {
		t.Error("CheckoutChange(9.9.9) = nil; want an error")
	}
}

func checkout(t *testing.T) fs.FS {
	t.Helper()
	files, err := examples.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// write copies files over what is in dir.
func write(t *testing.T, dir string, files fs.FS) {
	t.Helper()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, body, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// passes does what the example's workflow does.
func passes(t *testing.T, dir string) {
	t.Helper()
	if out := run(t, dir, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted:\n%s", out)
	}
	run(t, dir, "go", "vet", "./...")
	run(t, dir, "go", "test", "./...")
}

func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// load builds and starts the service, sends requests and counts those that
// failed; it also checks the version and that SIGTERM ends the process well.
func load(t *testing.T, dir, version string, requests int) (failed int) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "checkout")
	run(t, dir, "go", "build", "-ldflags=-X main.version="+version, "-o", bin, "./cmd/checkout")
	cmd := exec.Command(bin)
	cmd.Env = []string{"PORT=0", "GREETING=hello"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("SIGTERM: %v; want a clean end", err)
		}
	}()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	var address string
	if _, err := fmt.Sscanf(string(line[:n]), "checkout "+version+" listens on %s", &address); err != nil {
		t.Fatalf("%q: %v", line[:n], err)
	}
	for i := range requests {
		var res *http.Response
		if i%2 == 0 {
			res, err = http.Get("http://" + address + "/price?sku=TEA")
		} else {
			res, err = http.Post("http://"+address+"/checkout", "application/json", strings.NewReader(`{"lines":[{"sku":"TEA","quantity":2},{"sku":"HONEY","quantity":1}]}`))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		res.Body.Close()
		if res.StatusCode >= 500 {
			failed++
		}
	}
	return failed
}
