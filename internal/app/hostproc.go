package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/part"
	"weir/internal/deploy/host"
	"weir/internal/deploy/protocol"
	hosttarget "weir/internal/deploy/target/host"
	"weir/internal/guard/evidence"
)

// HostOptions are the flags of `weir host run`.
type HostOptions struct {
	Dir, Registry, TrustedRoot, Token string
	Unconfined                        bool
}

// RunHost runs the host process until ctx ends.
func RunHost(ctx context.Context, o HostOptions) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	trust, err := openTrust(o.TrustedRoot, dir, o.Registry)
	if err != nil {
		return err
	}
	h, err := host.New(host.Config{
		Dir: dir, Socket: socketPath(dir, "host.sock"), Registry: o.Registry,
		Token:  pullToken(dir, o.Token),
		Verify: trust.verify, Unconfined: o.Unconfined,
	})
	if err != nil {
		return err
	}
	return part.Run(ctx, h)
}

// verifyImage insists on signature, provenance and SBOM about a digest, each
// with a signature that holds.
func verifyImage(trust evidence.TrustedRoot) func(ctx context.Context, image, digest string, bundles [][]byte) error {
	return func(_ context.Context, image, digest string, bundles [][]byte) error {
		for _, need := range []struct{ predicate, name string }{{evidence.CosignSignature, "signature"}, {evidence.Provenance, "provenance"}, {evidence.SBOM, "SBOM"}} {
			found, why := false, "there is none"
			for _, b := range bundles {
				if kind, err := evidence.Peek(b); err != nil || kind != need.predicate {
					continue
				}
				_, err := evidence.Verify(b, trust, evidence.Want{PredicateType: need.predicate, SubjectDigest: digest, IdentityPrefix: trust.Issuer + "/"})
				if err == nil {
					found = true
					break
				}
				why = fault.Sentence(err)
			}
			if !found {
				return fault.New(fault.Denied, "The %s of %s@%s does not verify: %s. The image is not started.", need.name, image, digest, why)
			}
		}
		return nil
	}
}

// target is the client of the host in a folder.
func target(dir string) *hosttarget.Target {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	return hosttarget.New(socketPath(abs, "host.sock"))
}

// unanswered gives a host that is not there its sentence.
func unanswered(dir string, err error) error {
	if err != nil && fault.KindOf(err) == "" {
		return fault.Wrap(fault.Unavailable, err, "No host answers in %s. Start it with `weir host run --dir %s`, or name its folder with --dir.", dir, dir)
	}
	return err
}

// HostStatus is what runs on this machine.
func HostStatus(ctx context.Context, dir string) ([]protocol.Environment, error) {
	o, err := target(dir).Status(ctx)
	return o.Environments, unanswered(dir, err)
}

// HostRollback takes an environment back without a server.
func HostRollback(ctx context.Context, dir, service, environment, to string) (protocol.Event, error) {
	ev, err := target(dir).Rollback(ctx, protocol.Rollback{Service: service, Environment: environment, To: to, By: os.Getenv("USER")})
	return ev, unanswered(dir, err)
}

// startHost starts the host process if none answers in its folder. The process
// gets a session of its own: it outlives this one, whatever ends it.
func (s *System) startHost(ctx context.Context) error {
	dir := s.Config.Host.Dir
	if _, err := target(dir).Hello(ctx); err == nil || !s.Config.Host.Start {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.ReadFile(s.data.join("trusted_root.json"))
	if err != nil {
		return err
	}
	// A copy of its own: the host verifies with it when the server's folder is gone.
	trusted := filepath.Join(dir, "trusted_root.json")
	if err := writeFile(trusted, root); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "host.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"host", "run", "--dir", dir, "--registry", s.Config.URL, "--trusted-root", trusted}
	if s.Config.Runner.Unconfined {
		args = append(args, "--unconfined")
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = hostEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start host: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if hello, err := target(dir).Hello(ctx); err == nil {
			slog.InfoContext(ctx, "host started", "pid", hello.PID, "dir", dir)
			return nil
		}
		select {
		case err := <-exited:
			return fault.Wrap(fault.Unavailable, err, "The host process ended at once. Its log is %s.", log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.Join(fault.New(fault.Unavailable, "The host process does not answer. Its log is %s.", log.Name()), cmd.Process.Kill())
}

// hostEnv is the environment of the host process: nothing of the server's but
// what programs need to find each other.
func hostEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch strings.ToUpper(name) {
		case "PATH", "HOME", "TMPDIR", "LANG", "USER", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR":
			env = append(env, kv)
		}
	}
	return env
}

// stopHost ends the host process and what it runs: for the demo and for tests.
func stopHost(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	hello, err := target(dir).Hello(ctx)
	if err != nil {
		return nil // It is not there.
	}
	if err := syscall.Kill(hello.PID, syscall.SIGTERM); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := target(dir).Hello(ctx); err != nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ctx.Err()
}
