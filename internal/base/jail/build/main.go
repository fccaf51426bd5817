// Command build compiles the init of sandboxes and leaves it, compressed, where package confine embeds it. It is run by `make build`;
// without it sandboxes work too, and start more slowly.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "build sandbox init:", err)
		os.Exit(1)
	}
}

func build() error {
	dir, err := os.MkdirTemp("", "weir-init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "./internal/base/jail/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	to := "internal/base/confine/dist/init.gz"
	if have, err := os.ReadFile(to); err == nil && bytes.Equal(have, packed.Bytes()) {
		return nil
	}
	return os.WriteFile(to, packed.Bytes(), 0o644)
}
