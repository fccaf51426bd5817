package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Manifest returns a manifest by tag or digest, with its bytes.
func (r *Registry) Manifest(ctx context.Context, repository, reference string) (artifact.Manifest, error) {
	row, err := r.resolve(ctx, r.db, repository, reference)
	if err != nil {
		return artifact.Manifest{}, err
	}
	rc, _, err := r.blobs.Open(ctx, row.Stored)
	if err != nil {
		return artifact.Manifest{}, r.lost(ctx, artifact.ManifestUnknown, "the manifest "+row.Digest, row.Stored, err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, r.limits.Manifest+1))
	if err != nil {
		return artifact.Manifest{}, fmt.Errorf("read manifest %s: %w", row.Digest, err)
	}
	return artifact.Manifest{Descriptor: row.Descriptor, Subject: row.Subject, Raw: raw}, nil
}

// PutManifest stores raw under a tag or its digest, and under more tags.
func (r *Registry) PutManifest(ctx context.Context, repository, reference, mediaType string, raw []byte, tags ...string) (artifact.Manifest, error) {
	if len(tags) > maxTagsAtOnce {
		return artifact.Manifest{}, refused("the manifest comes with %d tags; at most %d are taken at once", len(tags), maxTagsAtOnce)
	}
	if int64(len(raw)) > r.limits.Manifest {
		return artifact.Manifest{}, artifact.Refuse(artifact.SizeInvalid, fault.Invalid, "the manifest has %d bytes; at most %d are taken", len(raw), r.limits.Manifest)
	}
	digest := "sha256:"
	if strings.Contains(reference, ":") {
		if err := checkDigest(reference); err != nil {
			return artifact.Manifest{}, err
		}
		digest = reference
	} else {
		tags = append(tags, reference)
	}
	h := hasher(digest)
	h.Write(raw)
	if got := name(digest, h); digest == "sha256:" {
		digest = got
	} else if got != digest {
		return artifact.Manifest{}, mismatch(digest, got)
	}
	for _, t := range tags {
		if !artifact.ValidTag(t) {
			return artifact.Manifest{}, artifact.Refuse(artifact.ManifestInvalid, fault.Invalid, "%q cannot be a tag; use up to 128 letters, digits, dots, dashes and underscores", t)
		}
	}
	c, err := parse(raw, mediaType, r.limits.Foreign)
	if err != nil {
		return artifact.Manifest{}, err
	}
	row := artifactdb.ManifestRow{Descriptor: artifact.Descriptor{MediaType: c.MediaType, Digest: digest, Size: int64(len(raw)), ArtifactType: c.ArtifactType, Annotations: c.Annotations}}
	if row.ArtifactType == "" && c.Config != nil {
		row.ArtifactType = c.Config.MediaType
	}
	row.Annotations = nil
	if c.Subject != nil {
		row.Annotations = c.Annotations
		row.Subject = c.Subject.Digest
	}
	row.Edges = c.edges()
	took, err := r.take(ctx, bytes.NewReader(raw))
	if err != nil {
		return artifact.Manifest{}, fmt.Errorf("store manifest %s: %w", digest, err)
	}
	stored := took.stored
	row.Stored = stored
	err = r.db.Write(ctx, func(tx *db.Tx) error {
		if err := r.keep(ctx, tx, took); err != nil {
			return err
		}
		if err := r.complete(ctx, tx, repository, c); err != nil {
			return err
		}
		if _, found, err := r.rows.Manifest(ctx, tx, repository, digest); err != nil {
			return err
		} else if !found {
			if err := r.room(ctx, tx, repository, row.Size); err != nil {
				return err
			}
		}
		if err := r.healed(ctx, tx, stored); err != nil {
			return err
		}
		if err := r.rows.AddManifest(ctx, tx, repository, row, time.Now()); err != nil {
			return err
		}
		for _, t := range tags {
			if err := r.tag(ctx, tx, repository, t, digest); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return artifact.Manifest{}, err
	}
	m := artifact.Manifest{Descriptor: row.Descriptor, Subject: row.Subject, Raw: raw}
	if took.head != nil {
		return m, nil // its bytes came with the row
	}
	return m, r.settled(ctx, stored, func(tx *db.Tx) error {
		return r.rows.RemoveManifest(ctx, tx, repository, row, time.Now())
	})
}

// complete refuses a manifest that names what the repository does not have.
// A subject may be missing: it may arrive later.
func (r *Registry) complete(ctx context.Context, tx *db.Tx, repository string, c content) error {
	blobs := c.Layers
	if c.Config != nil {
		blobs = append([]named{*c.Config}, blobs...)
	}
	for _, d := range blobs {
		if d.foreign() {
			continue
		}
		b, found, err := r.rows.Blob(ctx, tx, repository, d.Digest)
		if err != nil {
			return err
		}
		if !found || d.Size != 0 && d.Size != b.Size {
			return artifact.Refuse(artifact.ManifestBlobUnknown, fault.Invalid, "the manifest names the blob %s of %d bytes, which %s does not have; push it first", d.Digest, d.Size, repository)
		}
	}
	for _, d := range c.Manifests {
		_, found, err := r.rows.Manifest(ctx, tx, repository, d.Digest)
		if err != nil {
			return err
		}
		if !found {
			return artifact.Refuse(artifact.ManifestBlobUnknown, fault.Invalid, "the index names the manifest %s, which %s does not have; push it first", d.Digest, repository)
		}
	}
	if kind := identity.From(ctx).Kind; c.Subject != nil && kind != identity.Robot && kind != identity.Nobody { // Weir's own evidence is not turned away
		n, err := r.rows.CountReferrers(ctx, tx, repository, c.Subject.Digest)
		if err != nil {
			return err
		}
		if n >= maxReferrers {
			return refused("%d manifests refer to %s already, and no more are taken; delete some", n, c.Subject.Digest)
		}
	}
	return r.shallow(ctx, tx, repository, c)
}

// shallow refuses an index from which there is too far to go: whoever walks it, walks all of it.
func (r *Registry) shallow(ctx context.Context, tx *db.Tx, repository string, c content) error {
	seen := map[string]bool{}
	level := make([]string, 0, len(c.Manifests))
	for _, d := range c.Manifests {
		level = append(level, d.Digest)
	}
	for depth := 1; len(level) > 0; depth++ {
		if depth > maxNesting {
			return refused("the index names indexes that name indexes, more than %d deep", maxNesting)
		}
		var next []string
		for _, d := range level {
			if seen[d] {
				continue
			}
			if seen[d] = true; len(seen) > maxNamed {
				return refused("the index reaches more than %d manifests", maxNamed)
			}
			children, err := r.rows.Children(ctx, tx, repository, d)
			if err != nil {
				return err
			}
			next = append(next, children...)
		}
		level = next
	}
	return nil
}

// tag makes t name digest, unless it is a release tag of something else.
func (r *Registry) tag(ctx context.Context, tx *db.Tx, repository, t, digest string) error {
	now, found, err := r.rows.Tag(ctx, tx, repository, t)
	switch {
	case err != nil:
		return err
	case found && now.Digest == digest:
		return nil
	case found && now.Immutable:
		return artifact.Refuse(artifact.Denied, fault.Conflict, "the release tag %s of %s names %s and never moves; push under another tag", t, repository, now.Digest)
	}
	return r.rows.SetTag(ctx, tx, repository, t, artifactdb.Tag{Digest: digest, Immutable: artifact.IsReleaseTag(t)}, time.Now())
}

// DeleteManifest removes a tag, or a manifest with its tags, unless a release, an index or a hold needs it.
func (r *Registry) DeleteManifest(ctx context.Context, repository, reference string) error {
	return r.db.Write(ctx, func(tx *db.Tx) error {
		row, err := r.resolve(ctx, tx, repository, reference)
		if err != nil {
			return err
		}
		if row.Digest != reference {
			return r.deleteTag(ctx, tx, repository, reference)
		}
		if err := r.deletable(ctx, tx, repository, row.Digest); err != nil {
			return err
		}
		if err := r.record(ctx, tx, "registry.deleted", repository+"@"+row.Digest, map[string]any{"what": "manifest", "size": row.Size}); err != nil {
			return err
		}
		return r.rows.RemoveManifest(ctx, tx, repository, row, time.Now())
	})
}

func (r *Registry) deleteTag(ctx context.Context, tx *db.Tx, repository, tag string) error {
	t, _, err := r.rows.Tag(ctx, tx, repository, tag)
	if err != nil {
		return err
	}
	if t.Immutable {
		return artifact.Refuse(artifact.Denied, fault.Denied, "the release tag %s of %s cannot be deleted; retention removes it when no environment can need it any more", tag, repository)
	}
	if err := r.record(ctx, tx, "registry.deleted", repository+":"+tag, map[string]any{"what": "tag", "digest": t.Digest}); err != nil {
		return err
	}
	return r.rows.RemoveTag(ctx, tx, repository, tag)
}

func (r *Registry) deletable(ctx context.Context, tx *db.Tx, repository, digest string) error {
	pinned, err := r.rows.PinnedTag(ctx, tx, repository, digest)
	if err != nil {
		return err
	}
	if pinned != "" {
		return artifact.Refuse(artifact.Denied, fault.Denied, "%s is the release %s of %s and cannot be deleted; retention removes it when no environment can need it any more", digest, pinned, repository)
	}
	reason, err := r.rows.Held(ctx, tx, repository, digest)
	if err != nil {
		return err
	}
	if reason != "" {
		return artifact.Refuse(artifact.Denied, fault.Denied, "%s of %s is held and cannot be deleted: %s (weir registry release-hold ends it)", digest, repository, reason)
	}
	parents, err := r.rows.Parents(ctx, tx, repository, digest, true)
	if err != nil {
		return err
	}
	if len(parents) > 0 {
		return artifact.Refuse(artifact.Denied, fault.Denied, "the index %s of %s names %s, so it cannot be deleted; delete the index first", parents[0], repository, digest)
	}
	return nil
}

// Referrers lists what refers to digest; artifactType "" means all.
func (r *Registry) Referrers(ctx context.Context, repository, digest, artifactType string) ([]artifact.Descriptor, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	rows, err := r.rows.Referrers(ctx, repository, digest)
	if err != nil {
		return nil, err
	}
	out := []artifact.Descriptor{}
	for _, m := range rows {
		if artifactType == "" || m.ArtifactType == artifactType {
			out = append(out, m.Descriptor)
		}
	}
	return out, nil
}

// ReferrersPage lists what refers to digest, from a place on that next named. next is "" at the end.
func (r *Registry) ReferrersPage(ctx context.Context, repository, digest, artifactType, from string) (list []artifact.Descriptor, next string, err error) {
	if err := checkDigest(digest); err != nil {
		return nil, "", err
	}
	var after artifactdb.Place
	if from != "" {
		at, last, ok := strings.Cut(from, ".")
		if after.Created, err = strconv.ParseInt(at, 10, 64); err != nil || !ok || !artifact.ValidDigest(last) {
			return nil, "", artifact.Refuse(artifact.Unsupported, fault.Invalid, "%.100q is no place in a list of referrers; follow the Link of the answer before", from)
		}
		after.Digest = last
	}
	list = []artifact.Descriptor{}
	for size := 0; ; {
		const some = 500
		rows, places, err := r.rows.ReferrersAfter(ctx, repository, digest, after, some)
		if err != nil {
			return nil, "", err
		}
		for i, m := range rows {
			if artifactType == "" || m.ArtifactType == artifactType {
				raw, err := json.Marshal(m.Descriptor)
				if err != nil {
					return nil, "", err
				}
				if size += len(raw) + 1; size > r.limits.ReferrersPage && len(list) > 0 {
					return list, strconv.FormatInt(after.Created, 10) + "." + after.Digest, nil
				}
				list = append(list, m.Descriptor)
			}
			after = places[i]
		}
		if len(rows) < some {
			return list, "", nil
		}
	}
}

func (r *Registry) resolve(ctx context.Context, q db.Querier, repository, reference string) (artifactdb.ManifestRow, error) {
	digest := reference
	unknown := artifact.Refuse(artifact.ManifestUnknown, fault.NotFound, "the repository %s has no manifest %s", repository, reference)
	if strings.Contains(reference, ":") {
		if err := checkDigest(reference); err != nil {
			return artifactdb.ManifestRow{}, err
		}
	} else {
		if !artifact.ValidTag(reference) {
			return artifactdb.ManifestRow{}, artifact.Refuse(artifact.ManifestInvalid, fault.Invalid, "%q is neither a tag nor a digest", reference)
		}
		t, found, err := r.rows.Tag(ctx, q, repository, reference)
		if err != nil {
			return artifactdb.ManifestRow{}, err
		}
		if !found {
			return artifactdb.ManifestRow{}, unknown
		}
		digest = t.Digest
	}
	m, found, err := r.rows.Manifest(ctx, q, repository, digest)
	if err == nil && !found {
		err = unknown
	}
	return m, err
}
