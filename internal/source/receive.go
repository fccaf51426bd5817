package source

import (
	"fmt"
	"strings"
)

// Push is what a client wants to do to refs.
type Push struct {
	RepositoryID string
	Updates      []Update
	Options      []string // push options; unknown ones are refused
	Pack         *Pack    // the new objects, already in the blob store; nil if there are none
}

// Update moves one ref. Old and New are ZeroRevision for "not there".
type Update struct {
	Ref, Old, New string
}

func (u Update) creates() bool { return u.Old == ZeroRevision }
func (u Update) deletes() bool { return u.New == ZeroRevision }

// pushState is what judging a push looks at.
type pushState struct {
	trunk       string            // branch name
	refs        map[string]string // current revisions by full name
	isAncestor  func(old, new string) bool
	onTrunk     func(revision string) bool // also true for what this push bootstraps
	openChanges map[string]bool            // branches with an open change
}

// bootstrap reports whether a push is the first one to the trunk.
func (s pushState) bootstrap(updates []Update) bool {
	trunk := "refs/heads/" + s.trunk
	if s.refs[trunk] != "" {
		return false
	}
	for _, u := range updates {
		if u.Ref == trunk && !u.deletes() {
			return true
		}
	}
	return false
}

// judge returns a sentence for each update that is refused. One refusal refuses
// the whole push. It is pure.
func judge(p Push, s pushState) []string {
	var refused []string
	no := func(format string, args ...any) { refused = append(refused, fmt.Sprintf(format, args...)) }
	for _, o := range p.Options {
		if o != "change" && !strings.HasPrefix(o, "title=") {
			no("The push option %q is not known. Weir understands change and title=TEXT.", o)
		}
	}
	boot := s.bootstrap(p.Updates)
	for _, u := range p.Updates {
		name, isBranch := strings.CutPrefix(u.Ref, "refs/heads/")
		tag, isTag := strings.CutPrefix(u.Ref, "refs/tags/")
		switch {
		case !isBranch && !isTag:
			no("%s is neither a branch nor a tag. Push to refs/heads/NAME or refs/tags/NAME.", u.Ref)
		case isBranch && !branchRe.MatchString(name) || isTag && !branchRe.MatchString(tag):
			no("%q is not a name for a branch or tag here. Use letters, digits, dots, hyphens, underscores and slashes, and do not start with a hyphen or dot.", name+tag)
		case s.refs[u.Ref] != "" && s.refs[u.Ref] != u.Old, s.refs[u.Ref] == "" && !u.creates():
			no("%s has moved since you fetched it. Fetch, and push again.", u.Ref)
		case isBranch && name == s.trunk:
			switch {
			case boot:
			case u.deletes():
				no("%s is protected and cannot be deleted, by anybody.", s.trunk)
			default:
				no("%s is protected: nobody pushes to it, changes land on it. Push a branch and open a change:\n  git push -o change origin HEAD:refs/heads/my-change\nIt lands after its checks have passed and somebody else has reviewed it.", s.trunk)
			}
		case s.refs["refs/heads/"+s.trunk] == "" && !boot:
			no("The repository is empty. Push %s first.", s.trunk)
		case isTag && !u.creates():
			no("The tag %s exists. Tags are never moved or deleted; choose another name.", tag)
		case isTag && !s.onTrunk(u.New):
			no("The tag %s does not point to a landed revision. Land the change first, then tag what landed.", tag)
		case isBranch && u.deletes() && s.openChanges[name]:
			no("%s belongs to an open change. Abandon the change first: weir change abandon.", name)
		}
	}
	return refused
}
