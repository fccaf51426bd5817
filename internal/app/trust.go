package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/edge/api/client"
	"weir/internal/guard/evidence"
)

// followedRoot is the file in a host's folder with the trusted root that the one
// it was started with led to.
const followedRoot = "trusted_root.followed.json"

// askAgain bounds how often a host asks for a newer trusted root.
const askAgain = 5 * time.Second

// trust is what a host trusts. When evidence was signed by keys that it does not
// know, it asks the server how they came to be; only keys that it trusts already
// can answer.
type trust struct {
	keep    string // file to keep what was followed in
	updates func(context.Context) ([]json.RawMessage, error)

	mu    sync.Mutex
	root  evidence.TrustedRoot
	asked time.Time
}

// openTrust starts from the root in a file, or from what it led to before.
func openTrust(file, dir, server string) (*trust, error) {
	raw, err := ReadTrustedRoot(file)
	if err != nil {
		return nil, err
	}
	root, err := evidence.ParseTrustedRoot(raw)
	if err != nil {
		return nil, err
	}
	t := &trust{keep: filepath.Join(dir, followedRoot), root: root}
	t.updates = func(ctx context.Context) (all []json.RawMessage, err error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return all, client.New(server, "").Get(ctx, "/trusted-root/updates", &all)
	}
	if raw, err := os.ReadFile(t.keep); err == nil {
		if kept, err := evidence.ParseTrustedRoot(raw); err == nil && evidence.Extends(root, kept) {
			t.root = kept
		}
	}
	return t, nil
}

// verify implements host.Config.Verify.
func (t *trust) verify(ctx context.Context, image, digest string, bundles [][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := verifyImage(t.root)(ctx, image, digest, bundles)
	if !fault.Is(err, fault.Denied) || time.Since(t.asked) < askAgain {
		return err
	}
	t.asked = time.Now()
	updates, uerr := t.updates(ctx)
	if uerr != nil {
		slog.WarnContext(ctx, "no newer trusted root could be asked for", "error", uerr)
		return err
	}
	next, uerr := evidence.Follow(t.root, updates)
	if uerr != nil {
		slog.ErrorContext(ctx, "a trusted root was refused", "error", uerr)
	}
	if string(next.JSON()) == string(t.root.JSON()) {
		return err
	}
	if kerr := writeFile(t.keep, next.JSON()); kerr != nil {
		return kerr
	}
	t.root = next
	slog.InfoContext(ctx, "the trusted root was followed to a newer one", "file", t.keep)
	return verifyImage(next)(ctx, image, digest, bundles)
}

// FollowTrustedRoot returns what the trusted root in a file leads to, by updates
// that a server told. The keys in the file vouch for it; the server need not be
// trusted.
func FollowTrustedRoot(file string, updates []json.RawMessage) ([]byte, error) {
	raw, err := ReadTrustedRoot(file)
	if err != nil {
		return nil, err
	}
	root, err := evidence.ParseTrustedRoot(raw)
	if err != nil {
		return nil, err
	}
	next, err := evidence.Follow(root, updates)
	return next.JSON(), err
}
