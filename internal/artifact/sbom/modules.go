package sbom

import (
	"archive/zip"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/licensecheck"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// Modules finds the licences of Go modules in a module cache. Jobs write to that
// cache, so nothing of it is believed: a module's archive must have the sum that
// the program carries in it. What was found once is remembered by that sum.
type Modules struct {
	// Caches are module caches (GOMODCACHE), looked at in order.
	Caches []string
}

// found is what is known by sum; archives do not change.
var found sync.Map

const (
	maxArchive  = 64 << 20 // of a module whose licence is looked for
	maxLicence  = 256 << 10
	maxLicences = 8
)

// Licence is the licence of a module as an SPDX expression, or "".
func (m *Modules) Licence(name, version, sum string) string {
	if m == nil || sum == "" {
		return ""
	}
	if l, ok := found.Load(sum); ok {
		return l.(string)
	}
	escaped, err := module.EscapePath(name)
	if err != nil {
		return ""
	}
	v, err := module.EscapeVersion(version)
	if err != nil {
		return ""
	}
	for _, dir := range m.Caches {
		file := filepath.Join(dir, "cache", "download", filepath.FromSlash(escaped), "@v", v+".zip")
		if st, err := os.Lstat(file); err != nil || !st.Mode().IsRegular() || st.Size() > maxArchive {
			continue
		}
		if got, err := dirhash.HashZip(file, dirhash.Hash1); err != nil || got != sum {
			continue
		}
		l := licenceOf(file, name+"@"+version+"/")
		found.Store(sum, l)
		return l
	}
	return ""
}

// licenceOf reads the licence files at the top of a module's archive.
func licenceOf(file, prefix string) string {
	z, err := zip.OpenReader(file)
	if err != nil {
		return ""
	}
	defer z.Close()
	var all []string
	read := 0
	for _, f := range z.File {
		name := strings.TrimPrefix(f.Name, prefix)
		if strings.Contains(name, "/") || !licenceFile(name) || f.UncompressedSize64 > maxLicence || read == maxLicences {
			continue
		}
		read++
		rc, err := f.Open()
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(rc, maxLicence))
		rc.Close()
		if err != nil {
			continue
		}
		cover := licensecheck.Scan(text)
		for _, m := range cover.Match {
			if cover.Percent >= 50 && ids[m.ID] && !slices.Contains(all, m.ID) {
				all = append(all, m.ID)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, " AND ")
}

func licenceFile(name string) bool {
	base := strings.ToUpper(strings.TrimSuffix(name, path.Ext(name)))
	for _, n := range []string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE"} {
		if base == n || strings.HasPrefix(base, n+"-") || strings.HasPrefix(base, n+".") {
			return true
		}
	}
	return false
}
