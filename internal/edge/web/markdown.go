package web

import (
	"bytes"
	"html"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
)

// Jobs write summaries as GitHub's do: Markdown with tables and some HTML. Both are hostile, so what comes out is cleaned: text,
// tables, lists, links to http, https and mailto; no script, style, form, frame or picture, and no id that could take the place of
// one of the page's own.
var (
	md = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe()))

	clean = func() *bluemonday.Policy {
		p := bluemonday.NewPolicy()
		p.AllowStandardURLs()
		p.AllowAttrs("href").OnElements("a")
		p.RequireNoFollowOnLinks(true)
		p.RequireNoReferrerOnLinks(true)
		p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "b", "i", "em", "strong", "del", "s", "sub", "sup", "code", "pre", "kbd", "samp", "blockquote",
			"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "div", "span")
		p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("th", "td")
		p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("th", "td")
		p.AllowAttrs("open").OnElements("details")
		return p
	}()
)

// markdown renders a summary. One that cannot be rendered is shown as it is.
func markdown(text string) string {
	var b bytes.Buffer
	if err := md.Convert([]byte(text), &b); err != nil {
		return "<pre>" + html.EscapeString(text) + "</pre>"
	}
	return string(clean.SanitizeBytes(b.Bytes()))
}
