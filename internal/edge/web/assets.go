package web

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
)

//go:embed all:assets/dist
var built embed.FS

// assets are the built files. The zero value has none.
type assets struct {
	files fs.FS
	names map[string]string // "app.css" to the name with its hash
}

func loadAssets() assets {
	sub, err := fs.Sub(built, "assets/dist")
	if err != nil {
		return assets{}
	}
	raw, err := fs.ReadFile(sub, "manifest.json")
	if err != nil {
		return assets{}
	}
	a := assets{files: sub}
	if json.Unmarshal(raw, &a.names) != nil {
		return assets{}
	}
	return a
}

// missing reports whether the assets were not built.
func (a assets) missing() bool { return a.names["app.css"] == "" || a.names["app.js"] == "" }

// href is where a built file is served.
func (a assets) href(name string) string { return "/assets/" + a.names[name] }

// ServeHTTP serves files under names that carry a hash: they never change.
func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if a.files == nil || name == "manifest.json" || name == ".keep" || r.URL.Path != "/assets/"+name {
		http.Error(w, "There is no such file. If no file is there, the assets were not built: run make build.", http.StatusNotFound)
		return
	}
	if _, err := fs.Stat(a.files, name); err != nil {
		http.Error(w, "There is no such file.", http.StatusNotFound)
		return
	}
	if path.Ext(name) == ".woff2" {
		w.Header().Set("Content-Type", "font/woff2")
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, a.files, name)
}
