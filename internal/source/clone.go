package source

// Clone says what of a repository a copy of it shall hold.
type Clone struct {
	Revision string   // to check out, unless Ref says otherwise
	RunRef   string   // the ref that Revision was seen at: a branch is checked out as one, anything else detached
	Ref      string   // branch, tag or revision to check out instead
	Depth    int      // revisions of history; 0 is all of it, with every branch and tag
	Tags     bool     // also tags, whatever the depth
	Filter   string   // objects to leave out, as git's --filter names them
	Sparse   []string // folders or patterns to write; everything if empty
	Cone     bool     // Sparse are folders
	Origin   string   // URL that the copy names as its origin; no credential is kept
}
