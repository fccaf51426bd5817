package source

import (
	"fmt"
	"slices"
	"strings"
)

// maxUpdates bounds one push.
const maxUpdates = 1000

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
	trunk       string                     // branch name
	refs        map[string]string          // current revisions by full name
	onTrunk     func(revision string) bool // also true for what this push bootstraps
	kind        map[string]string          // of the objects that refs would point to: commit, tag, ...
	declaration string                     // what is wrong with the weir.yaml of a bootstrap, if anything
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

// inTheWay names a ref, there or in this push, that cannot exist beside
// another since git keeps refs as files in folders. Rows would allow it, and
// then no cache could follow them.
func (s pushState) inTheWay(ref string, updates []Update) string {
	clash := func(other string) bool {
		return strings.HasPrefix(ref, other+"/") || strings.HasPrefix(other, ref+"/")
	}
	var found []string
	for name := range s.refs {
		if clash(name) {
			found = append(found, name)
		}
	}
	for _, u := range updates {
		if !u.deletes() && clash(u.Ref) {
			found = append(found, u.Ref)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.Min(found)
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
	if len(p.Updates) > maxUpdates {
		return append(refused, fmt.Sprintf("A push may move at most %d refs, not %d. Push in smaller steps.", maxUpdates, len(p.Updates)))
	}
	boot := s.bootstrap(p.Updates)
	if boot && s.declaration != "" {
		no("%s would be refused later, so it cannot be the first:\n%s", s.trunk, s.declaration)
	}
	for _, u := range p.Updates {
		name, isBranch := strings.CutPrefix(u.Ref, "refs/heads/")
		tag, isTag := strings.CutPrefix(u.Ref, "refs/tags/")
		switch {
		case !isBranch && !isTag:
			no("%s is neither a branch nor a tag. Push to refs/heads/NAME or refs/tags/NAME.", u.Ref)
		case isBranch && !validName(name) || isTag && !validName(tag):
			short := strings.TrimPrefix(strings.TrimPrefix(u.Ref, "refs/heads/"), "refs/tags/")
			no("%q is not a name for a branch or tag here. Use letters, digits, dots, hyphens, underscores and slashes, at most %d, and let no part start with a hyphen or dot, or end with a dot or .lock.", short, maxName)
		case !u.deletes() && s.inTheWay(u.Ref, p.Updates) != "":
			no("%s cannot be made while there is %s: one would have to be a file and a folder at once. Choose another name.", u.Ref, s.inTheWay(u.Ref, p.Updates))
		case !u.deletes() && isBranch && s.kind[u.New] != "commit":
			no("A branch points to a commit, and %.12s is none.", u.New)
		case !u.deletes() && isTag && s.kind[u.New] != "commit" && s.kind[u.New] != "tag":
			no("A tag points to a commit or is annotated, and %.12s is neither.", u.New)
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
