package app

import (
	"context"
	"os"
	"path/filepath"

	"weir/internal/artifact/custody"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/ledger"
)

// ReadTrustedRoot reads the file with the keys to trust.
func ReadTrustedRoot(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The trusted root %s cannot be read. Get it with `weir audit trusted-root`, from a server that you trust, and name it with --trusted-root.", path)
	}
	return raw, nil
}

// VerifyOptions say how to reach the registry and what to insist on.
type VerifyOptions struct {
	Token, Repository, Ref string
	Insecure, Confined     bool
	Built                  bool // refuse what was built elsewhere
}

// Verify proves the chain of an image with nothing but its registry and a
// trusted root.
func Verify(ctx context.Context, image string, trustedRoot []byte, o VerifyOptions) (custody.Report, error) {
	trust, err := evidence.ParseTrustedRoot(trustedRoot)
	if err != nil {
		return custody.Report{}, err
	}
	return custody.VerifyChain(ctx, image, trust, custody.Options{Token: o.Token, Insecure: o.Insecure, Repository: o.Repository, Ref: o.Ref, Confined: o.Confined, Built: o.Built})
}

// AuditVerify holds a ledger's database against a checkpoint kept elsewhere.
func AuditVerify(ctx context.Context, database, checkpointFile, trustedRootFile string) (ledger.Report, error) {
	checkpoint, err := os.ReadFile(checkpointFile)
	if err != nil {
		return ledger.Report{}, fault.Wrap(fault.Invalid, err, "The checkpoint %s cannot be read.", checkpointFile)
	}
	raw, err := ReadTrustedRoot(trustedRootFile)
	if err != nil {
		return ledger.Report{}, err
	}
	trust, err := evidence.ParseTrustedRoot(raw)
	if err != nil {
		return ledger.Report{}, err
	}
	if database == "" {
		c := Default()
		if err := c.finish(); err != nil {
			return ledger.Report{}, err
		}
		database = c.Database
		if _, err := os.Stat(filepath.Join(c.Data, "weir.db")); err != nil {
			return ledger.Report{}, fault.New(fault.NotFound, "There is no database in %s. Name it with --database.", c.Data)
		}
	}
	d, err := open(ctx, "database", database, databases)
	if err != nil {
		return ledger.Report{}, err
	}
	defer d.Close()
	err = fault.New(fault.Invalid, "The trusted root %s names no log.", trustedRootFile)
	for origin, keys := range trust.LogKeys() {
		var verifiers []string
		for _, key := range keys {
			verifiers = append(verifiers, ledger.VerifierKey(origin, key))
		}
		var rep ledger.Report
		if rep, err = ledger.Audit(ctx, d, string(checkpoint), verifiers...); err == nil {
			return rep, nil
		}
	}
	return ledger.Report{}, err
}

// AuditOutcome turns findings into an error.
func AuditOutcome(r ledger.Report) error {
	if r.OK() {
		return nil
	}
	return fault.New(fault.Conflict, "The ledger does not hold: %d findings.", len(r.Findings))
}
