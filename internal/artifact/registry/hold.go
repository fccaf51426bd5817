package registry

import (
	"context"
	"strings"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Hold implements artifact.Custodian.
func (k *Keeper) Hold(ctx context.Context, repository, reference, reason string) (string, error) {
	digest, reason, err := k.holdable(ctx, repository, reference, reason)
	if err != nil {
		return "", err
	}
	h := artifactdb.Hold{Repository: repository, Digest: digest, Reason: reason, By: identity.From(ctx).Name, Since: k.now()}
	return digest, k.Registry.db.Write(ctx, func(tx *db.Tx) error {
		if _, found, err := k.Registry.rows.Manifest(ctx, tx, repository, digest); err != nil || !found {
			return orElse(err, fault.New(fault.NotFound, "%s of %s was removed a moment ago.", digest, repository))
		}
		if err := k.Registry.rows.SetHold(ctx, tx, h); err != nil {
			return err
		}
		return k.Ledger(ctx, tx, artifact.Entry{Actor: h.By, Action: "registry.held", Subject: repository + "@" + digest, Data: map[string]any{"reason": reason}})
	})
}

// ReleaseHold implements artifact.Custodian.
func (k *Keeper) ReleaseHold(ctx context.Context, repository, reference, reason string) (string, error) {
	digest, reason, err := k.holdable(ctx, repository, reference, reason)
	if err != nil {
		return "", err
	}
	return digest, k.Registry.db.Write(ctx, func(tx *db.Tx) error {
		was, err := k.Registry.rows.RemoveHold(ctx, tx, repository, digest)
		if err != nil || !was {
			return orElse(err, fault.New(fault.NotFound, "Nobody holds %s of %s.", digest, repository))
		}
		return k.Ledger(ctx, tx, artifact.Entry{Actor: identity.From(ctx).Name, Action: "registry.hold_released", Subject: repository + "@" + digest, Data: map[string]any{"reason": reason}})
	})
}

func (k *Keeper) holdable(ctx context.Context, repository, reference, reason string) (string, string, error) {
	if err := k.may(ctx, "registry.hold"); err != nil {
		return "", "", err
	}
	reason = strings.TrimSpace(reason)
	if reason == "" || len(reason) > 1000 {
		return "", "", fault.New(fault.Invalid, "Say why, in at most 1000 characters: who reads the ledger later wants to know.")
	}
	if err := k.known(ctx, repository); err != nil {
		return "", "", err
	}
	row, err := k.Registry.resolve(ctx, k.Registry.db, repository, reference)
	return row.Digest, reason, err
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// SetQuota implements artifact.Custodian.
func (k *Keeper) SetQuota(ctx context.Context, repository string, bytes int64) (artifact.RepositoryUse, error) {
	if err := k.may(ctx, "registry.manage"); err != nil {
		return artifact.RepositoryUse{}, err
	}
	if !artifact.ValidRepository(repository) {
		return artifact.RepositoryUse{}, fault.New(fault.Invalid, "%q cannot name a repository; use lower-case letters, digits, dots, dashes and slashes", repository)
	}
	if bytes < 0 || bytes > 1<<50 {
		return artifact.RepositoryUse{}, fault.New(fault.Invalid, "A quota is from 1 byte to 1 PiB; 0 gives the repository the server's default.")
	}
	by := identity.From(ctx).Name
	err := k.Registry.db.Write(ctx, func(tx *db.Tx) error {
		if err := k.Registry.rows.Touch(ctx, tx, repository, k.now()); err != nil { // a quota may be there before the first push
			return err
		}
		if err := k.Registry.rows.SetQuota(ctx, tx, repository, bytes, by, k.now()); err != nil {
			return err
		}
		return k.Ledger(ctx, tx, artifact.Entry{Actor: by, Action: "registry.quota_set", Subject: repository, Data: map[string]any{"bytes": bytes}})
	})
	if err != nil {
		return artifact.RepositoryUse{}, err
	}
	uses, err := k.Registry.rows.Uses(ctx, repository)
	if err != nil || len(uses) == 0 {
		return artifact.RepositoryUse{}, err
	}
	return k.use(uses[0], 0), nil
}
