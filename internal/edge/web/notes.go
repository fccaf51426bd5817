package web

import (
	"net/http"
	"strings"
)

// ReleaseNotes say what an artifact brings that the one before it has not.
type ReleaseNotes struct {
	ArtifactID       string
	Service, Version string
	Tag, Digest      string
	From             string // version of the artifact before it; "" if it is the first
	FromID           string
	Groups           []NoteGroup
	Authors, Issues  []string
	Markdown         string
}

// NoteGroup is changes of one kind.
type NoteGroup struct {
	Title   string
	Changes []Note
}

// Note is one commit, with the change that it landed as.
type Note struct {
	Scope, Text, Revision, Author string
	Change                        string // id, "" if it landed with a later commit of its change
	Issues                        []string
}

func (n ReleaseNotes) count() (all int) {
	for _, g := range n.Groups {
		all += len(g.Changes)
	}
	return all
}

func (s *Site) notes(r *http.Request) (page, error) {
	n, err := s.data.Notes(r.Context(), r.PathValue("id"))
	if err != nil {
		return page{}, err
	}
	return page{title: n.Service + " " + n.Version + " release notes", nav: "artifacts", body: notesPage(n),
		crumbs: []Link{{Text: "Artifacts", Href: "/artifacts"}, {Text: n.Service + " " + n.Version, Href: "/artifacts/" + n.ArtifactID}, {Text: "Release notes"}}}, nil
}

// notesFile sends the notes as Markdown.
func (s *Site) notesFile(w http.ResponseWriter, r *http.Request) {
	n, err := s.data.Notes(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+strings.NewReplacer(`"`, "", "/", "-").Replace(n.Service+"-"+n.Version)+`.md"`)
	_, _ = w.Write([]byte(n.Markdown))
}
