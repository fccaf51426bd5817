package api

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/artifact"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
)

// Artifact is an admitted image.
type Artifact struct {
	ID           string    `json:"id"`
	Service      string    `json:"service"`
	RepositoryID string    `json:"repository_id"`
	Revision     string    `json:"revision"`
	Version      string    `json:"version"`
	Tag          string    `json:"tag"`
	Image        string    `json:"image"`
	Digest       string    `json:"digest"`
	Size         int64     `json:"size"`
	RunID        string    `json:"run_id"`
	Author       string    `json:"author"`
	Created      time.Time `json:"created"`
}

// Evidence is one signed statement.
type Evidence struct {
	ID            string    `json:"id"`
	PredicateType string    `json:"predicate_type"`
	Subject       string    `json:"subject"`
	Key           string    `json:"key,omitempty"` // tells apart statements of one type about one subject, such as rollouts
	Signer        string    `json:"signer"`
	KeyID         string    `json:"key_id"`
	LedgerIndex   int64     `json:"ledger_index"`
	Time          time.Time `json:"time"`
	Bundle        rawJSON   `json:"bundle,omitempty"`
}

// ArtifactDetails is an artifact with everything that speaks for it.
type ArtifactDetails struct {
	Artifact
	Evidence  []Evidence            `json:"evidence"`
	Referrers []artifact.Descriptor `json:"referrers"`
	Decisions []policy.Decision     `json:"decisions"`
	Copies    []artifact.Copy       `json:"copies" doc:"Other registries that hold the image under the same digest."`
}

// Intake is what a job handed in and how far it has come.
type Intake struct {
	ID       string           `json:"id"`
	Service  string           `json:"service"`
	Revision string           `json:"revision"`
	Version  string           `json:"version"`
	RunID    string           `json:"run_id"`
	State    string           `json:"state"`
	Digest   string           `json:"digest,omitempty"`
	Failure  string           `json:"failure,omitempty"`
	Blocks   []artifact.Block `json:"blocks,omitempty"`
	Created  time.Time        `json:"created"`
	Updated  time.Time        `json:"updated"`
}

func artifactOf(a artifact.Artifact) Artifact {
	return Artifact{string(a.ID), a.Service, a.RepositoryID, a.Revision, a.Version, a.Tag, a.Image(), a.Digest, a.Size, a.RunID, a.Author, a.Created}
}

type artifactFilter struct {
	Service  string `query:"service"`
	Revision string `query:"revision"`
	Digest   string `query:"digest"`
	Limit    int    `query:"limit" minimum:"0" maximum:"200"`
}

func (s *server) filter(ctx context.Context, in *artifactFilter) (artifact.Filter, error) {
	f := artifact.Filter{Revision: in.Revision, Digest: in.Digest, Limit: in.Limit}
	if in.Service != "" {
		ref, err := s.Catalog.Service(ctx, in.Service)
		if err != nil {
			return f, err
		}
		f.ServiceID = ref.ID
	}
	return f, nil
}

func (s *server) artifacts(a huma.API) {
	route(a, "GET", "/artifacts", "list-artifacts", "List admitted artifacts, newest first", func(ctx context.Context, in *artifactFilter) ([]Artifact, error) {
		f, err := s.filter(ctx, in)
		if err != nil {
			return nil, err
		}
		all, err := s.Artifact.List(ctx, f)
		out := make([]Artifact, len(all))
		for i, x := range all {
			out[i] = artifactOf(x)
		}
		return out, err
	})
	route(a, "GET", "/intakes", "list-intakes", "What release jobs handed in and how far it has come, newest first", func(ctx context.Context, in *artifactFilter) ([]Intake, error) {
		f, err := s.filter(ctx, in)
		if err != nil {
			return nil, err
		}
		all, err := s.Artifact.Intakes(ctx, f)
		out := make([]Intake, len(all))
		for i, x := range all {
			out[i] = Intake{string(x.ID), x.Output.Service, x.Output.Revision, x.Output.Version, string(x.Output.RunID), string(x.State), x.Progress.Digest, x.Failure, x.Progress.Blocks, x.Created, x.Updated}
		}
		return out, err
	})
	route(a, "GET", "/artifacts/{id}", "get-artifact", "An artifact with evidence, referrers and decisions", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (ArtifactDetails, error) {
		d, err := s.Artifact.Details(ctx, artifact.ID(in.ID))
		if err != nil {
			return ArtifactDetails{}, err
		}
		out := ArtifactDetails{Artifact: artifactOf(d.Artifact), Referrers: d.Referrers, Copies: append([]artifact.Copy{}, d.Copies...)}
		for _, e := range append(d.Evidence, d.Revision...) {
			out.Evidence = append(out.Evidence, Evidence{e.ID, e.PredicateType, e.Subject, e.Key, e.Identity, e.KeyID, e.Index, e.Time, rawJSON(e.Bundle)})
		}
		out.Decisions, err = s.Policy.Decisions(ctx, d.Digest)
		return out, err
	})
}

// Head is the newest checkpoint of the ledger.
type Head struct {
	Origin      string `json:"origin"`
	Size        int64  `json:"size"`
	Root        string `json:"root" doc:"base64"`
	Checkpoint  string `json:"checkpoint" doc:"Signed note (C2SP tlog-checkpoint)."`
	VerifierKey string `json:"verifier_key" doc:"golang.org/x/mod/sumdb/note"`
}

// Proof shows that an entry is in the tree that a checkpoint signs.
type Proof struct {
	Index      int64    `json:"index"`
	TreeSize   int64    `json:"tree_size"`
	Root       string   `json:"root" doc:"base64"`
	Hashes     []string `json:"hashes" doc:"base64, leaf to root"`
	Checkpoint string   `json:"checkpoint"`
}

func (s *server) ledgerRoutes(a huma.API) {
	route(a, "GET", "/ledger", "ledger-head", "The newest checkpoint", func(ctx context.Context, _ *struct{}) (Head, error) {
		cp, err := s.Ledger.Head(ctx)
		return Head{s.Ledger.Origin(), cp.Size, base64.StdEncoding.EncodeToString(cp.Root[:]), cp.Note, s.Ledger.VerifierKey()}, err
	})
	route(a, "GET", "/ledger/entries", "list-entries", "Entries, newest first", func(ctx context.Context, in *struct {
		Actor     string `query:"actor"`
		Action    string `query:"action"`
		Subject   string `query:"subject"`
		Before    int64  `query:"before"`
		From      int64  `query:"from"`
		Limit     int    `query:"limit" minimum:"0" maximum:"500"`
		Ascending bool   `query:"ascending"`
	}) ([]ledger.Record, error) {
		if err := identity.Check(ctx, "ledger.read", "default"); err != nil {
			return nil, err
		}
		return s.Ledger.List(ctx, ledger.Filter{Actor: in.Actor, Action: in.Action, Subject: in.Subject, Before: in.Before, From: in.From, Limit: in.Limit, Ascending: in.Ascending})
	})
	route(a, "GET", "/ledger/entries/{id}/proof", "prove-entry", "The inclusion proof of an entry", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (Proof, error) {
		if err := identity.Check(ctx, "ledger.read", "default"); err != nil {
			return Proof{}, err
		}
		p, err := s.Ledger.Prove(ctx, in.ID)
		out := Proof{p.Index, p.TreeSize, base64.StdEncoding.EncodeToString(p.RootHash), []string{}, p.Checkpoint}
		for _, h := range p.Hashes {
			out.Hashes = append(out.Hashes, base64.StdEncoding.EncodeToString(h))
		}
		return out, err
	})
	route(a, "GET", "/decisions", "list-decisions", "What policy decided about a subject, newest first", func(ctx context.Context, in *struct {
		Subject string `query:"subject" required:"true"`
	}) ([]policy.Decision, error) {
		if err := identity.Check(ctx, "release.read", "default"); err != nil {
			return nil, err
		}
		return s.Policy.Decisions(ctx, in.Subject)
	})
	route(a, "GET", "/decisions/{id}/replay", "replay-decision", "Decide a stored decision again, with today's rules", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (Replay, error) {
		was, now, err := s.Policy.Replay(ctx, in.ID)
		return Replay{was, now}, err
	})
}

// Replay is a decision then and now.
type Replay struct {
	Was policy.Decision `json:"was"`
	Now policy.Decision `json:"now"`
}
