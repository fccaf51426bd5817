// Package s3test starts a real S3 server for tests: versitygw, built from the module test/s3.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Credentials of the server's only account.
const (
	KeyID  = "weirtest"
	Secret = "weirtest-secret-0123456789"
)

// Start starts a server with one bucket, and sets the environment's credentials. It returns the URL of the bucket and the folder
// in which the server keeps it. root is the repository's.
func Start(t *testing.T, root string) (u *url.URL, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data", "weir"), 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "versitygw")
	build := exec.Command("go", "build", "-o", bin, "github.com/versity/versitygw/cmd/versitygw")
	build.Dir = filepath.Join(root, "test", "s3")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the S3 server: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "--port", address, "--access", KeyID, "--secret", Secret, "posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data"))
	if err := os.MkdirAll(filepath.Join(dir, "meta"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	t.Setenv("AWS_ACCESS_KEY_ID", KeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", Secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + address + "/weir")
		if err == nil {
			res.Body.Close()
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the S3 server does not answer: %v\n%s", err, log.String())
		}
	}
	u, err = url.Parse(fmt.Sprintf("s3://weir/blobs?endpoint=http://%s", address))
	if err != nil {
		t.Fatal(err)
	}
	return u, filepath.Join(dir, "data", "weir")
}
