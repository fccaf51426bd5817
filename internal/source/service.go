package source

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/base/journal"
	"weir/internal/catalog"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
)

//go:embed migrations
var migrations embed.FS

const org = "default"

// Service is the commands of this layer.
type Service struct {
	db        *db.DB
	journal   *journal.Journal
	ledger    *ledger.Log
	policy    *policy.Policy
	signer    Signer
	people    People
	catalog   *catalog.Catalog
	git       Git
	now       func() time.Time
	workflows WorkflowCheck
	landing   sync.Mutex // one landing at a time on this replica; the rows decide between replicas
}

// Config is what a service is built of.
type Config struct {
	DB      *db.DB
	Journal *journal.Journal
	Ledger  *ledger.Log
	Policy  *policy.Policy
	Signer  Signer
	People  People
	Catalog *catalog.Catalog
	Git     Git
	Now     func() time.Time
	// Workflows may be nil: every workflow may land.
	Workflows WorkflowCheck
}

// WorkflowCheck looks at the workflows that differ between two revisions. An
// Invalid fault says which of them could not be run at the second, and where.
type WorkflowCheck func(ctx context.Context, repositoryID, from, to string) error

// Migrate brings the tables up to date.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "source", migrations) }

// New returns the service.
func New(c Config) *Service {
	if c.Workflows == nil {
		c.Workflows = func(context.Context, string, string, string) error { return nil }
	}
	return &Service{workflows: c.Workflows, db: c.DB, journal: c.Journal, ledger: c.Ledger, policy: c.Policy, signer: c.Signer, people: c.People, catalog: c.Catalog, git: c.Git, now: c.Now}
}

// Topic is woken when anything about a repository's refs or changes moves.
func Topic(repositoryID string) string { return "source:" + repositoryID }

// Receive judges a push and, if it is allowed, makes it true: refs, patchsets,
// facts and ledger entries in one transaction. The lines are for the person who
// pushes. A refused push is a Denied fault with the reasons.
func (s *Service) Receive(ctx context.Context, p Push) (lines []string, err error) {
	if err := identity.Check(ctx, "repository.push", org); err != nil {
		return nil, err
	}
	repo, err := s.catalog.Repository(ctx, p.RepositoryID)
	if err != nil {
		return nil, err
	}
	if err := identity.Within(ctx, repo.ID); err != nil {
		return nil, err
	}
	if slices.Contains(p.Options, "change") {
		if err := identity.Check(ctx, "change.open", org); err != nil {
			return nil, err
		}
	}
	const trunk = catalog.TrunkName
	ancestors := map[[2]string]bool{}
	refs, err := loadRefs(ctx, s.db, repo.ID)
	if err != nil {
		return nil, err
	}
	// Questions to git come before the transaction; their answers about
	// objects never change.
	head := refs["refs/heads/"+trunk]
	for _, u := range p.Updates {
		if u.Ref == "refs/heads/"+trunk && head == "" {
			head = u.New
		}
	}
	kind, declaration := map[string]string{}, ""
	var declared *catalog.File // by what becomes the trunk
	for _, u := range p.Updates[:min(len(p.Updates), maxUpdates)] {
		if u.deletes() || !ValidRevision(u.New) {
			continue
		}
		if kind[u.New], err = s.git.Kind(ctx, repo.ID, u.New); err != nil {
			return nil, err
		}
		switch {
		case u.Ref == "refs/heads/"+trunk && kind[u.New] == "commit":
			// A trunk with a file that cannot be read would have no rules.
			if declared, err = s.catalog.At(ctx, repo.ID, u.New); fault.Is(err, fault.Invalid) {
				declaration = fault.Sentence(err)
			} else if err != nil {
				return nil, err
			}
		case strings.HasPrefix(u.Ref, "refs/tags/") && head != "" && head != ZeroRevision:
			ok, err := s.git.IsAncestor(ctx, repo.ID, u.New, head)
			if err != nil {
				return nil, err
			}
			ancestors[[2]string{u.New, head}] = ok
		}
	}
	who := identity.From(ctx)
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		lines = nil
		now := s.now().UTC()
		refs, err := loadRefs(ctx, tx, repo.ID)
		if err != nil {
			return err
		}
		open, err := openBranches(ctx, tx, repo.ID)
		if err != nil {
			return err
		}
		st := pushState{trunk: trunk, refs: refs, openChanges: map[string]bool{}, kind: kind, declaration: declaration,
			onTrunk: func(rev string) bool { return ancestors[[2]string{rev, head}] }}
		for branch := range open {
			st.openChanges[branch] = true
		}
		if refused := judge(p, st); len(refused) > 0 {
			return fault.New(fault.Denied, "%s", strings.Join(refused, "\n"))
		}
		boot := st.bootstrap(p.Updates)
		if p.Pack != nil {
			if err := addPack(ctx, tx, repo.ID, *p.Pack, now); err != nil {
				return err
			}
		}
		for _, u := range p.Updates {
			landed := boot && u.Ref == "refs/heads/"+trunk
			if err := s.moveRef(ctx, tx, repo, u, landed, landed, "", now); err != nil {
				return err
			}
			branch, isBranch := strings.CutPrefix(u.Ref, "refs/heads/")
			switch {
			case landed:
				if declared != nil {
					if _, err := s.catalog.Ensure(ctx, tx, repo.ID, declared); err != nil {
						return err
					}
				}
				lines = append(lines, fmt.Sprintf("Accepted as the first push to %s. From now on %s is protected: changes land on it.", repo.Name, trunk))
			case isBranch && !u.deletes() && open[branch] != "":
				c, err := loadChange(ctx, tx, open[branch])
				if err != nil {
					return err
				}
				if err := s.addPatchset(ctx, tx, repo, c, u.New, refs["refs/heads/"+c.Target], who.Name, now); err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("Change #%d has patchset %d. Earlier reviews no longer count; its checks start.", c.Number, c.Patchset+1))
			case isBranch && !u.deletes() && slices.Contains(p.Options, "change"):
				title := branch
				for _, o := range p.Options {
					if t, ok := strings.CutPrefix(o, "title="); ok {
						title = t
					}
				}
				c, err := s.openChange(ctx, tx, repo, branch, trunk, title, u.New, refs["refs/heads/"+trunk], who, now)
				if err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("Change #%d is open: %s. Its checks start.", c.Number, c.Title))
			}
		}
		return bump(ctx, tx, repo.ID)
	})
	return lines, err
}

// moveRef writes the row, the log, the fact and the ledger entry of one ref.
func (s *Service) moveRef(ctx context.Context, tx *db.Tx, repo catalog.Repository, u Update, landed, boot bool, changeID string, now time.Time) error {
	who := identity.From(ctx)
	var err error
	if u.deletes() {
		_, err = tx.Exec(ctx, "delete from git_ref where repository_id = ? and name = ?", repo.ID, u.Ref)
	} else {
		_, err = tx.Exec(ctx, `insert into git_ref (org, repository_id, name, revision, at) values (?, ?, ?, ?, ?)
			on conflict (repository_id, name) do update set revision = excluded.revision, at = excluded.at`, org, repo.ID, u.Ref, u.New, now.UnixMicro())
	}
	if err != nil {
		return err
	}
	old, new := strings.TrimPrefix(u.Old, ZeroRevision), strings.TrimPrefix(u.New, ZeroRevision)
	if _, err := tx.Exec(ctx, "insert into git_ref_log (org, id, repository_id, name, old, new, actor, landed, change_id, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		org, id.New("refupdate"), repo.ID, u.Ref, old, new, who.Name, db.Bool(landed), changeID, now.UnixMicro()); err != nil {
		return err
	}
	action := "ref.moved"
	switch {
	case boot:
		action = "repository.bootstrapped"
	case landed:
		action = "change.landed"
	}
	fact := Pushed{RepositoryID: repo.ID, Repository: repo.Name, Ref: u.Ref, Old: old, New: new, Actor: who.Name, Landed: landed, Bootstrap: boot, ChangeID: changeID, Time: now}
	if err := s.announce(ctx, tx, FactPushed, repo.ID, fact); err != nil {
		return err
	}
	_, err = s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: action, Subject: cmp(new, old),
		Data: map[string]any{"repository": repo.ID, "name": repo.Name, "ref": u.Ref, "old": old, "new": new, "change": changeID}})
	tx.Wake(Topic(repo.ID))
	return err
}

func cmp(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *Service) announce(ctx context.Context, tx *db.Tx, typ, subject string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.journal.Append(ctx, tx, journal.Fact{Org: org, Type: typ, Version: 1, Subject: subject, Body: raw})
}

// bump tells every cache of the repository that it is behind.
func bump(ctx context.Context, tx *db.Tx, repositoryID string) error {
	_, err := tx.Exec(ctx, `insert into git_state (org, repository_id, version) values (?, ?, 1)
		on conflict (repository_id) do update set version = git_state.version + 1`, org, repositoryID)
	return err
}

func addPack(ctx context.Context, tx *db.Tx, repositoryID string, p Pack, now time.Time) error {
	var last sql.NullInt64
	if err := tx.QueryRow(ctx, "select max(seq) from git_pack where repository_id = ?", repositoryID).Scan(&last); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into git_pack (org, repository_id, seq, digest, size, at) values (?, ?, ?, ?, ?, ?)", org, repositoryID, last.Int64+1, p.Digest, p.Size, now.UnixMicro())
	return err
}

// openBranches returns the open changes by branch.
func openBranches(ctx context.Context, q db.Querier, repositoryID string) (map[string]string, error) {
	rows, err := q.Query(ctx, "select branch, id from change where repository_id = ? and state = ?", repositoryID, Open)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	open := map[string]string{}
	for rows.Next() {
		var branch, changeID string
		if err := rows.Scan(&branch, &changeID); err != nil {
			return nil, err
		}
		open[branch] = changeID
	}
	return open, rows.Err()
}

// OpenChange proposes to merge a pushed branch.
func (s *Service) OpenChange(ctx context.Context, repository, branch, title string) (c Change, err error) {
	if err := identity.Check(ctx, "change.open", org); err != nil {
		return c, err
	}
	repo, err := s.catalog.Repository(ctx, repository)
	if err == nil {
		err = identity.Within(ctx, repo.ID)
	}
	if err != nil {
		return c, err
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		refs, err := loadRefs(ctx, tx, repo.ID)
		if err != nil {
			return err
		}
		open, err := openBranches(ctx, tx, repo.ID)
		if err != nil {
			return err
		}
		const trunk = catalog.TrunkName
		switch {
		case refs["refs/heads/"+trunk] == "":
			return fault.New(fault.Conflict, "%s has no %s yet. Push it first.", repo.Name, trunk)
		case branch == trunk:
			return fault.New(fault.Invalid, "%s is what changes land on; a change is another branch.", trunk)
		case refs["refs/heads/"+branch] == "":
			return fault.New(fault.NotFound, "%s has no branch %s. Push it first: git push origin HEAD:refs/heads/%s", repo.Name, branch, branch)
		case open[branch] != "":
			return fault.New(fault.Conflict, "There is an open change of %s already.", branch)
		}
		c, err = s.openChange(ctx, tx, repo, branch, trunk, title, refs["refs/heads/"+branch], refs["refs/heads/"+trunk], identity.From(ctx), s.now().UTC())
		return err
	})
	return c, err
}

func (s *Service) openChange(ctx context.Context, tx *db.Tx, repo catalog.Repository, branch, target, title, revision, base string, who identity.Actor, now time.Time) (Change, error) {
	if title = strings.TrimSpace(title); title == "" {
		title = branch
	}
	if len(title) > 200 {
		return Change{}, fault.New(fault.Invalid, "The title is longer than 200 characters.")
	}
	var last sql.NullInt64
	if err := tx.QueryRow(ctx, "select max(number) from change where repository_id = ?", repo.ID).Scan(&last); err != nil {
		return Change{}, err
	}
	c := Change{ID: id.New("change"), Org: org, RepositoryID: repo.ID, Number: last.Int64 + 1, Title: title, Target: target, Branch: branch, State: Open, Author: who.Name, Created: now}
	if _, err := tx.Exec(ctx, "insert into change ("+changeColumns+") values (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '', ?, 0)",
		org, c.ID, c.RepositoryID, c.Number, c.Title, c.Target, c.Branch, c.State, c.Author, now.UnixMicro()); err != nil {
		return Change{}, err
	}
	if _, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: "change.opened", Subject: c.ID, Data: map[string]any{"repository": repo.ID, "number": c.Number, "title": title, "branch": branch, "target": target}}); err != nil {
		return Change{}, err
	}
	if err := s.addPatchset(ctx, tx, repo, c, revision, base, who.Name, now); err != nil {
		return Change{}, err
	}
	c.Patchset, c.Revision, c.Base = 1, revision, base
	return c, nil
}

func (s *Service) addPatchset(ctx context.Context, tx *db.Tx, repo catalog.Repository, c Change, revision, base, pusher string, now time.Time) error {
	n := c.Patchset + 1
	if _, err := tx.Exec(ctx, "insert into patchset (org, change_id, n, revision, base, pusher, at) values (?, ?, ?, ?, ?, ?, ?)", org, c.ID, n, revision, base, pusher, now.UnixMicro()); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "update change set patchset = ?, revision = ?, base = ? where id = ?", n, revision, base, c.ID); err != nil {
		return err
	}
	tx.Wake(Topic(repo.ID))
	return s.announce(ctx, tx, FactChangeUpdated, c.ID, ChangeUpdated{RepositoryID: repo.ID, Repository: repo.Name, ChangeID: c.ID, Number: c.Number, Target: c.Target, Base: base, Revision: revision, Patchset: n, Author: c.Author, Time: now})
}

// Review records the actor's word on the newest patchset of a change.
func (s *Service) Review(ctx context.Context, changeID, verdict, comment string) (Review, error) {
	if err := identity.Check(ctx, "change.review", org); err != nil {
		return Review{}, err
	}
	who := identity.From(ctx)
	if verdict != "approve" && verdict != "reject" {
		return Review{}, fault.New(fault.Invalid, "A review says approve or reject, not %q.", verdict)
	}
	if len(comment) > 64<<10 {
		return Review{}, fault.New(fault.Invalid, "The comment is longer than 64 KiB.")
	}
	c, err := loadChange(ctx, s.db, changeID)
	if err != nil {
		return Review{}, err
	}
	if err := mayReview(ctx, s.db, c, verdict); err != nil {
		return Review{}, err
	}
	said, err := loadReviews(ctx, s.db, c.ID)
	if err != nil {
		return Review{}, err
	}
	said = slices.DeleteFunc(said, func(r Review) bool { return r.By != who.Name || r.Revision != c.Revision })
	if n := len(said); n > 0 && said[n-1].Verdict == verdict && said[n-1].Comment == comment {
		return said[n-1], nil // The same words again, as by a client that missed the answer.
	}
	r := Review{ID: reviewID(c, who.Name, verdict, comment, len(said)), Revision: c.Revision, By: who.Name, Verdict: verdict, Comment: comment, Time: s.now().UTC()}
	// Signed first: a signature about a review that was then not stored is
	// harmless, a stored review without its signature would not be.
	if _, err := s.signer.Sign(ctx, evidence.Statement{PredicateType: evidence.Review, Key: r.ID, Subjects: []evidence.Subject{evidence.Commit(c.RepositoryID, c.Revision)},
		Predicate: map[string]any{"review": r.ID, "change": c.ID, "target": c.Target, "by": who.ID, "author": c.Author, "verdict": verdict, "time": r.Time}}); err != nil {
		return Review{}, err
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		now, err := loadChange(ctx, tx, changeID)
		if err != nil {
			return err
		}
		if now.Revision != c.Revision {
			return fault.New(fault.Conflict, "Change #%d got a new patchset while you reviewed. Look at it and review again.", now.Number)
		}
		if err := mayReview(ctx, tx, now, verdict); err != nil {
			return err
		}
		res, err := tx.Exec(ctx, "insert into review (org, id, change_id, revision, by_name, verdict, comment, at) values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do nothing",
			org, r.ID, c.ID, r.Revision, r.By, r.Verdict, r.Comment, r.Time.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err // Said by another request of theirs at the same time.
		}
		tx.Wake(Topic(c.RepositoryID))
		if err := s.announce(ctx, tx, FactReviewed, c.ID, Reviewed{c.ID, r.Revision, r.By, r.Verdict}); err != nil {
			return err
		}
		_, err = s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: "change.reviewed", Subject: c.Revision, Data: map[string]any{"change": c.ID, "verdict": verdict, "review": r.ID}})
		return err
	})
	return r, err
}

// reviewID names what a person says for the n-th time about a revision. It
// follows from what is said, so that somebody who tries again after a crash
// between signature and storing is signed once.
func reviewID(c Change, by, verdict, comment string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %d", c.ID, c.Revision, by, verdict, comment, n))
	return "review_" + strings.ToUpper(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// mayReview refuses words on a change that has ended, and an author's consent.
func mayReview(ctx context.Context, q db.Querier, c Change, verdict string) error {
	who := identity.From(ctx).Name
	if c.State != Open {
		return fault.New(fault.Conflict, "Change #%d is %s; it cannot be reviewed any more.", c.Number, c.State)
	}
	patchsets, err := loadPatchsets(ctx, q, c.ID)
	if err != nil {
		return err
	}
	if verdict == "approve" && (who == c.Author || slices.ContainsFunc(patchsets, func(p Patchset) bool { return p.Pusher == who })) {
		return fault.New(fault.Denied, "%s wrote part of change #%d and cannot approve it. Ask somebody else.", who, c.Number)
	}
	return nil
}

// Abandon ends a change without landing it. Its author or a maintainer may.
func (s *Service) Abandon(ctx context.Context, changeID string) error {
	c, err := loadChange(ctx, s.db, changeID)
	if err != nil {
		return err
	}
	who, owner := identity.From(ctx), ""
	if who.Name == c.Author {
		owner = who.ID
	}
	if err := identity.CheckOwn(ctx, "change.abandon", org, owner); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		c, err := loadChange(ctx, tx, changeID)
		if err != nil {
			return err
		}
		if c.State != Open {
			return fault.New(fault.Conflict, "Change #%d is %s already.", c.Number, c.State)
		}
		if _, err := tx.Exec(ctx, "update change set state = ?, ended = ? where id = ?", Abandoned, s.now().UnixMicro(), c.ID); err != nil {
			return err
		}
		tx.Wake(Topic(c.RepositoryID))
		if err := s.announce(ctx, tx, FactChangeEnded, c.ID, map[string]string{"change_id": c.ID, "state": Abandoned}); err != nil {
			return err
		}
		_, err = s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: "change.abandoned", Subject: c.ID})
		return err
	})
}

// Report records the result of a check. Reporting the same again changes nothing.
func (s *Service) Report(ctx context.Context, c Check) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into check_result (org, repository_id, revision, name, base, state, run_id, job_id, summary, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			on conflict (repository_id, revision, name, base) do update set state = excluded.state, run_id = excluded.run_id, job_id = excluded.job_id, summary = excluded.summary, at = excluded.at
			where check_result.at <= excluded.at`,
			org, c.RepositoryID, c.Revision, c.Name, c.Base, c.State, c.RunID, c.JobID, c.Summary, c.Time.UnixMicro())
		tx.Wake(Topic(c.RepositoryID))
		return err
	})
}

// Tag names a revision, for good. Doing it again is no error.
func (s *Service) Tag(ctx context.Context, repositoryID, name, revision string) error {
	if !validName(name) || !ValidRevision(revision) {
		return fault.New(fault.Invalid, "%q cannot be a tag.", name)
	}
	repo, err := s.catalog.Repository(ctx, repositoryID)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		ref, known := "refs/tags/"+name, ""
		err := tx.QueryRow(ctx, "select revision from git_ref where repository_id = ? and name = ?", repo.ID, ref).Scan(&known)
		switch {
		case err == nil && known == revision:
			return nil
		case err == nil:
			return fault.New(fault.Conflict, "The tag %s points to %.12s already. Tags are never moved.", name, known)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := s.moveRef(ctx, tx, repo, Update{ref, ZeroRevision, revision}, false, false, "", s.now().UTC()); err != nil {
			return err
		}
		return bump(ctx, tx, repo.ID)
	})
}
