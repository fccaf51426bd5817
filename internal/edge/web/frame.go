package web

import (
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/guard/identity"
)

// frame is everything that the layout shows.
type frame struct {
	page    page
	shell   Shell
	who     identity.Actor
	theme   string
	assets  assets
	now     time.Time
	refused string
	back    string
}

func (f frame) known() bool { return f.who.Kind != identity.Nobody && f.who.Kind != "" }

func (f frame) themeAttr() templ.Attributes { return themeAttr(f.theme) }

func themeAttr(theme string) templ.Attributes {
	if theme == "" {
		return nil
	}
	return templ.Attributes{"data-theme": theme}
}

type navEntry struct {
	Name, Href, Icon, Key string
	Current               bool
	Count                 Count
}

func (n navEntry) attrs() templ.Attributes {
	if n.Key == "" {
		return nil
	}
	return templ.Attributes{"data-key": n.Key}
}

func current(on bool) templ.Attributes {
	if on {
		return templ.Attributes{"aria-current": "page"}
	}
	return nil
}

func (f frame) nav() []navEntry {
	all := []navEntry{
		{Name: "Overview", Href: "/", Icon: "overview", Key: "g o"},
		{Name: "Changes", Href: "/changes", Icon: "change", Key: "g c"},
		{Name: "Runs", Href: "/runs", Icon: "run", Key: "g r"},
		{Name: "Artifacts", Href: "/artifacts", Icon: "artifact"},
		{Name: "Rollouts", Href: "/rollouts", Icon: "rollout"},
		{Name: "Audit ledger", Href: "/audit", Icon: "audit", Key: "g a"},
	}
	for i := range all {
		name := strings.TrimPrefix(all[i].Href, "/")
		all[i].Current = f.page.nav == name && f.page.nav != "" || name == "" && f.page.nav == "overview"
		all[i].Count = f.shell.Counts[name]
	}
	return all
}

func roles(who identity.Actor) string {
	if len(who.Roles) == 0 {
		return "no role"
	}
	r := slices.Clone(who.Roles)
	slices.Sort(r)
	return strings.Join(r, ", ")
}
