package app

import (
	"os"
	"path/filepath"
	"time"

	"weir/internal/artifact/kubepolicy"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// PolicyOptions say what an exported policy is for.
type PolicyOptions struct {
	Registry string // as pods name it
	Mirror   string // of the TUF repository
	Output   string // folder that a TUF repository is written to
}

// ExportPolicy writes a policy for an admission controller of Kubernetes:
// "policy-controller", "kyverno", or "tuf" for the repository that Kyverno takes
// the keys from, which is written to a folder.
func ExportPolicy(kind string, trustedRoot []byte, o PolicyOptions) ([]byte, error) {
	trust, err := evidence.ParseTrustedRoot(trustedRoot)
	if err != nil {
		return nil, err
	}
	in := kubepolicy.Input{Registry: o.Registry, TrustedRoot: trust, Mirror: o.Mirror}
	switch kind {
	case "policy-controller":
		return kubepolicy.PolicyController(in, time.Now())
	case "kyverno":
		return kubepolicy.Kyverno(in)
	case "tuf":
		return nil, writeRepository(trust, o.Output)
	}
	return nil, fault.New(fault.Invalid, "%q is not a kind of policy; choose policy-controller, kyverno or tuf.", kind)
}

func writeRepository(trust evidence.TrustedRoot, dir string) error {
	if dir == "" {
		return fault.New(fault.Invalid, "Name the folder to write the TUF repository to with --output.")
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return fault.New(fault.Conflict, "The folder %s is not empty. A repository that is replaced gets new keys, so give the controllers its root.json anew; name another folder.", dir)
	}
	r, err := kubepolicy.NewRepository(trust.JSON(), time.Now())
	if err != nil {
		return err
	}
	for name, raw := range r.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fault.Wrap(fault.Unavailable, err, "The folder %s cannot be made.", filepath.Dir(path))
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return fault.Wrap(fault.Unavailable, err, "%s cannot be written.", path)
		}
	}
	return nil
}
