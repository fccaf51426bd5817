package source

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/guard/identity"
	"weir/internal/guard/policy"
)

// Land asks the gate and, if it says yes, moves the target by fast-forward to
// exactly the revision that was checked and reviewed. The decision is returned
// in both cases; a refusal is also a Conflict fault that names what is missing.
func (s *Service) Land(ctx context.Context, changeID string) (policy.Decision, error) {
	if err := identity.Check(ctx, "change.land", org); err != nil {
		return policy.Decision{}, err
	}
	s.landing.Lock()
	defer s.landing.Unlock()
	c, repo, head, err := s.target(ctx, changeID)
	if err != nil {
		return policy.Decision{}, err
	}
	if c.State != Open {
		return policy.Decision{}, fault.New(fault.Conflict, "Change #%d is %s already.", c.Number, c.State)
	}
	facts, err := s.gate(ctx, c, repo, head)
	if err != nil {
		return policy.Decision{}, err
	}
	if c.Base != head && facts.FastForward {
		// The target has moved to something that the change already contains.
		// What guards the change are the rules of the new target, so its
		// checks run again under them.
		if err := s.refresh(ctx, c, repo, head); err != nil {
			return policy.Decision{}, err
		}
		return policy.Decision{}, fault.New(fault.Conflict, "%s has moved since the checks of change #%d ran. They run again now; land the change when they have passed.", c.Target, c.Number)
	}
	raw, err := json.Marshal(facts)
	if err != nil {
		return policy.Decision{}, err
	}
	d, err := s.policy.Decide(ctx, policy.Input{Action: policy.ActionLand, Subject: c.Revision, Facts: raw})
	if err != nil {
		return policy.Decision{}, err
	}
	if !d.Allow {
		var why []string
		for _, b := range d.Blocks() {
			why = append(why, b.Message)
		}
		return d, fault.New(fault.Conflict, "Change #%d cannot land yet: %s", c.Number, strings.Join(why, " "))
	}
	declared, err := s.catalog.At(ctx, repo.ID, c.Revision)
	if err != nil {
		return d, err
	}
	return d, s.db.Write(ctx, func(tx *db.Tx) error {
		now, err := loadChange(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		refs, err := loadRefs(ctx, tx, repo.ID)
		if err != nil {
			return err
		}
		// The decision was about these two revisions and no others.
		if now.State != Open || now.Revision != c.Revision || refs["refs/heads/"+c.Target] != head {
			return fault.New(fault.Conflict, "Change #%d or %s moved while it was being landed. Try again.", c.Number, c.Target)
		}
		if declared != nil {
			if _, err := s.catalog.Ensure(ctx, tx, repo.ID, declared); err != nil {
				return err
			}
		}
		at := s.now().UTC()
		if _, err := tx.Exec(ctx, "update change set state = ?, ended = ? where id = ?", Landed, at.UnixMicro(), c.ID); err != nil {
			return err
		}
		if err := s.moveRef(ctx, tx, repo, Update{"refs/heads/" + c.Target, head, c.Revision}, true, false, c.ID, at); err != nil {
			return err
		}
		if err := s.announce(ctx, tx, FactChangeEnded, c.ID, map[string]string{"change_id": c.ID, "state": Landed, "decision": d.ID}); err != nil {
			return err
		}
		return bump(ctx, tx, repo.ID)
	})
}

// Why asks the gate without landing, for pages and `weir change show`.
func (s *Service) Why(ctx context.Context, changeID string, rules []policy.Rule) ([]policy.RuleResult, error) {
	if err := identity.Check(ctx, "change.read", org); err != nil {
		return nil, err
	}
	c, repo, head, err := s.target(ctx, changeID)
	if err != nil || c.State != Open {
		return nil, err
	}
	facts, err := s.gate(ctx, c, repo, head)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(facts)
	if err != nil {
		return nil, err
	}
	_, results, err := policy.Evaluate(rules, policy.Input{Action: policy.ActionLand, Subject: c.Revision, Time: s.now(), Actor: identity.From(ctx), Facts: raw})
	return results, err
}

func (s *Service) target(ctx context.Context, changeID string) (c Change, repo catalog.Repository, head string, err error) {
	if c, err = loadChange(ctx, s.db, changeID); err != nil {
		return
	}
	if repo, err = s.catalog.Repository(ctx, c.RepositoryID); err != nil {
		return
	}
	refs, err := loadRefs(ctx, s.db, repo.ID)
	return c, repo, refs["refs/heads/"+c.Target], err
}

// gate gathers what the gate of a merge looks at. Every rule comes from head,
// the target branch, and from nothing in the change.
func (s *Service) gate(ctx context.Context, c Change, repo catalog.Repository, head string) (policy.Land, error) {
	rules := catalog.RepositoryRules{Trunk: c.Target, Reviews: catalog.Reviews{Required: 1}}
	file, err := s.catalog.At(ctx, repo.ID, head)
	switch {
	case fault.Is(err, fault.Invalid):
		// A file that an older version of Weir could read and this one cannot:
		// only what mends it may land, looked at by an owner.
		rules.Reviews.CodeOwners = true
	case err != nil:
		return policy.Land{}, err
	case file != nil:
		rules = file.Repository
	}
	f := policy.Land{Repository: repo.ID, Change: c.ID, Target: c.Target, TargetRevision: head, Revision: c.Revision, RulesFrom: head,
		Author: c.Author, NeedReviews: rules.Reviews.Required, NeedChecks: rules.RequiredChecks}
	if f.FastForward, err = s.git.IsAncestor(ctx, repo.ID, head, c.Revision); err != nil {
		return f, err
	}
	if _, err := s.catalog.At(ctx, repo.ID, c.Revision); fault.Is(err, fault.Invalid) {
		f.Declaration = fault.Sentence(err)
	} else if err != nil {
		return f, err
	}
	if err := s.workflows(ctx, repo.ID, head, c.Revision); fault.Is(err, fault.Invalid) {
		f.Workflows = fault.Sentence(err)
	} else if err != nil {
		return f, err
	}
	patchsets, err := loadPatchsets(ctx, s.db, c.ID)
	if err != nil {
		return f, err
	}
	for _, p := range patchsets {
		if !slices.Contains(f.Pushers, p.Pusher) {
			f.Pushers = append(f.Pushers, p.Pusher)
		}
	}
	reviews, err := loadReviews(ctx, s.db, c.ID)
	if err != nil {
		return f, err
	}
	for _, r := range reviews {
		f.Reviews = append(f.Reviews, policy.Review{By: r.By, Verdict: r.Verdict, Revision: r.Revision, Time: r.Time})
	}
	checks, err := loadChecks(ctx, s.db, repo.ID, c.Revision, c.Base)
	if err != nil {
		return f, err
	}
	for _, k := range checks {
		f.Checks = append(f.Checks, policy.Check{Name: k.Name, State: k.State, RunID: k.RunID})
	}
	if rules.Reviews.CodeOwners {
		f.OwnersOf, err = s.owners(ctx, repo.ID, head, c.Revision)
	}
	return f, err
}

// owners finds who must have approved: CODEOWNERS of the target decides, also
// about changes to CODEOWNERS itself.
func (s *Service) owners(ctx context.Context, repositoryID, head, revision string) ([]policy.Owned, error) {
	var src []byte
	for _, name := range []string{".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"} {
		b, err := s.git.ReadFile(ctx, repositoryID, head, name)
		if err == nil {
			src = b
			break
		}
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	files, err := s.git.ChangedFiles(ctx, repositoryID, head, revision)
	if err != nil {
		return nil, err
	}
	rules := parseOwners(src)
	seen := map[string]bool{}
	var owned []policy.Owned
	for _, file := range files {
		rule, ok := ownersOf(rules, file)
		if !ok || seen[rule.pattern] || len(rule.owners) == 0 {
			continue // A pattern without owners says, in GitHub's dialect, that nobody owns it.
		}
		seen[rule.pattern] = true
		o := policy.Owned{Path: file}
		for _, name := range rule.owners {
			people, err := s.people.Resolve(ctx, name)
			if err != nil {
				return nil, err
			}
			o.Owners = append(o.Owners, people...)
		}
		owned = append(owned, o)
	}
	return owned, nil
}

// refresh puts a change under the rules of its target's new head: a new
// patchset with the same revision, whose checks start over, since results count
// only under the base that they ran with. Reviews of the
// revision stay.
func (s *Service) refresh(ctx context.Context, c Change, repo catalog.Repository, head string) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		now, err := loadChange(ctx, tx, c.ID)
		if err != nil || now.Revision != c.Revision || now.Base == head {
			return err
		}
		patchsets, err := loadPatchsets(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		// Nobody pushed anything: whoever asked to land must not become one of
		// the people whose review does not count.
		pusher := patchsets[len(patchsets)-1].Pusher
		return s.addPatchset(ctx, tx, repo, now, now.Revision, head, pusher, s.now().UTC())
	})
}

// Details is a change with everything that belongs to it.
type Details struct {
	Change    Change     `json:"change"`
	Patchsets []Patchset `json:"patchsets"`
	Reviews   []Review   `json:"reviews"`
	Checks    []Check    `json:"checks"` // on the newest patchset
}

// Get returns a change by id.
func (s *Service) Get(ctx context.Context, changeID string) (d Details, err error) {
	if err := identity.Check(ctx, "change.read", org); err != nil {
		return d, err
	}
	if d.Change, err = loadChange(ctx, s.db, changeID); err != nil {
		return d, err
	}
	if d.Patchsets, err = loadPatchsets(ctx, s.db, changeID); err != nil {
		return d, err
	}
	if d.Reviews, err = loadReviews(ctx, s.db, changeID); err != nil {
		return d, err
	}
	d.Checks, err = loadChecks(ctx, s.db, d.Change.RepositoryID, d.Change.Revision, d.Change.Base)
	return d, err
}

// Find returns the change of a repository that has a number.
func (s *Service) Find(ctx context.Context, repository string, number int64) (Change, error) {
	if err := identity.Check(ctx, "change.read", org); err != nil {
		return Change{}, err
	}
	repo, err := s.catalog.Repository(ctx, repository)
	if err != nil {
		return Change{}, err
	}
	rows, err := s.db.Query(ctx, "select "+changeColumns+" from change where repository_id = ? and number = ?", repo.ID, number)
	found, err := db.Collect(rows, err, scanChanges)
	if err != nil {
		return Change{}, err
	}
	if len(found) == 0 {
		return Change{}, fault.New(fault.NotFound, "%s has no change #%d.", repo.Name, number)
	}
	return found[0], nil
}

// List returns changes, newest first; state "" means all, repository "" too.
func (s *Service) List(ctx context.Context, repositoryID, state string) ([]Change, error) {
	if err := identity.Check(ctx, "change.read", org); err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, "select "+changeColumns+" from change where org = ? and (? = '' or repository_id = ?) and (? = '' or state = ?) order by at desc limit 200", org, repositoryID, repositoryID, state, state)
	return db.Collect(rows, err, scanChanges)
}

// Checks returns what is known of a revision.
func (s *Service) Checks(ctx context.Context, repositoryID, revision string) ([]Check, error) {
	return loadChecks(ctx, s.db, repositoryID, revision, anyBase)
}

// Head returns the revision of a branch, or "".
func (s *Service) Head(ctx context.Context, repositoryID, branch string) (string, error) {
	refs, err := loadRefs(ctx, s.db, repositoryID)
	return refs["refs/heads/"+branch], err
}

// Landing is how a revision came onto the trunk.
type Landing struct {
	Revision  string
	ChangeID  string
	Actor     string
	Bootstrap bool
	Time      time.Time
	People    []string // everybody who wrote or pushed what landed
}

// LandingOf returns how a revision landed, or a NotFound fault.
func (s *Service) LandingOf(ctx context.Context, repositoryID, revision string) (l Landing, err error) {
	rows, err := s.db.Query(ctx, "select change_id, actor, at from git_ref_log where repository_id = ? and new = ? and landed = 1 order by at limit 1", repositoryID, revision)
	found, err := db.Collect(rows, err, scanLanding)
	if err != nil {
		return l, err
	}
	if len(found) == 0 {
		return l, fault.New(fault.NotFound, "Revision %.12s has not landed.", revision)
	}
	l = found[0]
	l.Revision = revision
	if l.ChangeID == "" {
		l.Bootstrap, l.People = true, []string{l.Actor}
		return l, nil
	}
	c, err := loadChange(ctx, s.db, l.ChangeID)
	if err != nil {
		return l, err
	}
	patchsets, err := loadPatchsets(ctx, s.db, l.ChangeID)
	if err != nil {
		return l, err
	}
	l.People = []string{c.Author}
	for _, p := range patchsets {
		if !slices.Contains(l.People, p.Pusher) {
			l.People = append(l.People, p.Pusher)
		}
	}
	return l, nil
}

// RefLog returns every update of a repository's refs, newest first.
func (s *Service) RefLog(ctx context.Context, repositoryID string) ([]RefUpdate, error) {
	if err := identity.Check(ctx, "repository.read", org); err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, "select name, old, new, actor, landed, change_id, at from git_ref_log where repository_id = ? order by at desc, id desc limit 500", repositoryID)
	return db.Collect(rows, err, scanRefUpdate)
}

// Authors returns everybody who wrote or pushed what landed after one landed
// revision, up to another; from "" means all there was.
func (s *Service) Authors(ctx context.Context, repositoryID, from, to string) ([]string, error) {
	rows, err := s.db.Query(ctx, "select new from git_ref_log where repository_id = ? and landed = 1 order by at, id", repositoryID)
	landed, err := db.Collect(rows, err, scanString)
	if err != nil {
		return nil, err
	}
	first, last := slices.Index(landed, from)+1, slices.Index(landed, to)
	if last < 0 {
		return nil, fault.New(fault.NotFound, "Revision %.12s has not landed.", to)
	}
	if first > last {
		first = last // Older than what runs: its own authors count.
	}
	var people []string
	for _, revision := range landed[first : last+1] {
		l, err := s.LandingOf(ctx, repositoryID, revision)
		if err != nil {
			return nil, err
		}
		for _, p := range l.People {
			if !slices.Contains(people, p) {
				people = append(people, p)
			}
		}
	}
	return people, nil
}
