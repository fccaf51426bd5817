package webtest

import (
	"context"

	"weir/internal/base/fault"
	"weir/internal/edge/web"
)

// Notes implements web.Data.
func (d *Data) Notes(_ context.Context, id string) (web.ReleaseNotes, error) {
	switch id {
	case "artifact_1":
		return web.ReleaseNotes{ArtifactID: id, Service: d.name("checkout"), Version: "1.1.0", Tag: "1.1.0-c07d9e2", Digest: digest, From: "1.0.0", FromID: "artifact_0",
			Groups: []web.NoteGroup{{Title: "Features", Changes: []web.Note{{Scope: d.name("stock"), Text: d.name("Reserve stock atomically"), Revision: revision, Author: d.name("Maya Lindqvist"), Change: "change_1", Issues: []string{"#12", "SHOP-7"}}}},
				{Title: "Fixes", Changes: []web.Note{{Text: "Round totals down", Revision: revision, Author: "Kofi"}}}},
			Authors: []string{d.name("Maya Lindqvist"), "Kofi"}, Issues: []string{"#12", "SHOP-7"}, Markdown: "# checkout 1.1.0\n"}, nil
	case "artifact_0":
		return web.ReleaseNotes{ArtifactID: id, Service: "checkout", Version: "1.0.0", Digest: digest}, nil
	}
	return web.ReleaseNotes{}, fault.New(fault.NotFound, "There is no artifact %s.", id)
}
