package version_test

import (
	"strings"
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
)

func TestNotesGroupChangesAndNameAuthorsAndIssues(t *testing.T) {
	n := version.NotesOf([]artifact.Commit{
		{Revision: "aaaaaaaaaa", Subject: "feat(cart)!: another currency", Author: "ann", Body: "Closes #12"},
		{Revision: "bbbbbbbbbb", Subject: "fix: rounding (#13)", Author: "ben"},
		{Revision: "cccccccccc", Subject: "feat: coupons", Author: "ann", Body: "PAY-7 and acme/shop#9"},
		{Revision: "dddddddddd", Subject: "whatever: <script>*x*", Author: "ben", Body: "see #13"},
		{Revision: "eeeeeeeeee", Subject: "fix(db): lock", Body: "BREAKING CHANGE: rows move"},
	})
	got := n.Markdown("shop 2.0.0")
	want := `# shop 2.0.0

## Breaking changes

- **cart:** another currency (aaaaaaa, ann)
- **db:** lock (eeeeeee)

## Features

- coupons (ccccccc, ann)

## Fixes

- rounding (#13) (bbbbbbb, ben)

## Other changes

- whatever: &lt;script&gt;\*x\* (ddddddd, ben)

Issues: #12, #13, PAY-7, acme/shop#9

By ann, ben.
`
	if got != want {
		t.Errorf("Markdown() =\n%s\nwant\n%s", got, want)
	}
	if got := version.NotesOf(nil).Markdown("x"); !strings.Contains(got, "Nothing changed") {
		t.Errorf("Markdown() of nothing = %q", got)
	}
}
