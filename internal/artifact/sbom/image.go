package sbom

import (
	"archive/tar"
	"cmp"
	"debug/buildinfo"
	"fmt"
	"io"
	"io/fs"
	"maps"
	neturl "net/url"
	"os"
	"path"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"weir/internal/artifact/layout"
	"weir/internal/base/fault"
)

// maxRead bounds the files that are read whole: databases and manifests of packages.
const maxRead = 32 << 20

// FromLayout lists the packages in every image of a layout: those of Debian and
// Alpine, of npm, Python, Ruby and Java, and the modules of Go programs, as they lie in the
// file tree that the layers make together.
func FromLayout(s Subject, l *layout.Layout, dir string, modules *Modules) (*Document, error) {
	var list []cdx.Component
	var left []string
	for _, img := range l.Images {
		t := tree{found: map[string]finding{}, inside: map[string]int{}, dir: dir, modules: modules}
		if err := l.Files(img, t.add); err != nil {
			return nil, err
		}
		list = append(list, t.components()...)
		left = append(left, t.left...)
	}
	for _, b := range s.Bases {
		ref := b.Name + "@" + b.Digest
		list = append(list, cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeContainer, Name: b.Name, Version: b.Digest,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: strings.TrimPrefix(b.Digest, "sha256:")}}})
	}
	bom := document(s, "app:"+s.Name, list)
	if slices.Sort(left); len(left) > 0 { // said, because whoever reads the list should know what it is not about
		left = slices.Compact(left)
		var notes []cdx.Property
		for _, p := range left[:min(len(left), maxLeft)] {
			notes = append(notes, cdx.Property{Name: "weir:not-made", Value: "/" + p})
		}
		bom.Metadata.Component.Properties = &notes
	}
	return &Document{bom}, nil
}

// maxLeft is how many devices and pipes of an image are named.
const maxLeft = 100

// FromTree lists the packages in a tree of files: a tar as a release job stages it.
func FromTree(s Subject, files io.Reader, dir string) (*Document, error) {
	t := tree{found: map[string]finding{}, inside: map[string]int{}, dir: dir}
	_, err := layout.Walk("tar", files, &layout.Budget{}, func(e layout.Entry, body io.Reader) error { return t.add(0, e, body) })
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The files of %s cannot be listed: the archive %s.", s.Name, err)
	}
	return &Document{document(s, "app:"+s.Name, t.components())}, nil
}

// finding is what one file says.
type finding struct {
	packages []pkg
	distro   string            // "debian-12", of an os-release
	licence  string            // of the Debian package that the file belongs to
	locked   map[string]string // of npm's hidden lock file: path of a package to its integrity
}

// pkg is an installed package.
type pkg struct {
	kind, name, version, arch string // kind is that of its package URL
	source                    string // package that it was built from, as NAME or NAME@VERSION, if that is called otherwise
	licence                   string
	hash                      cdx.Hash
	sum                       string // of a Go module
}

// tree is the file tree of an image as its layers build it up.
type tree struct {
	found   map[string]finding // by path
	inside  map[string]int     // how many of them a folder holds
	dir     string             // for temporary files
	modules *Modules
	left    []string // devices and pipes, which no host makes
}

// add takes one entry of a layer.
func (t *tree) add(_ int, e layout.Entry, body io.Reader) error {
	dir, base := path.Split(e.Path)
	switch {
	case base == ".wh..wh..opq":
		t.remove(path.Clean(dir), false)
		return nil
	case strings.HasPrefix(base, ".wh."):
		t.remove(path.Join(dir, strings.TrimPrefix(base, ".wh.")), true)
		return nil
	}
	mode := e.FileInfo().Mode()
	if mode.IsDir() {
		return nil
	}
	t.remove(e.Path, true)
	if e.Left() && len(t.left) < maxLeft {
		t.left = append(t.left, e.Path)
	}
	if !mode.IsRegular() || e.Typeflag == tar.TypeLink {
		return nil
	}
	f, err := t.look(e, body, mode)
	if err != nil {
		return err
	}
	if f.packages != nil || f.distro != "" || f.licence != "" || f.locked != nil {
		t.found[e.Path] = f
		for d := path.Dir(e.Path); ; d = path.Dir(d) {
			t.inside[d]++
			if d == "." {
				break
			}
		}
	}
	return nil
}

// remove forgets a file or a folder; with self false only what lies in it.
func (t *tree) remove(p string, self bool) {
	if _, ok := t.found[p]; ok && self {
		t.forget(p)
	}
	if t.inside[p] == 0 {
		return // as good as always
	}
	for k := range t.found {
		if p == "." || strings.HasPrefix(k, p+"/") {
			t.forget(k)
		}
	}
}

func (t *tree) forget(p string) {
	delete(t.found, p)
	for d := path.Dir(p); ; d = path.Dir(d) {
		t.inside[d]--
		if d == "." {
			return
		}
	}
}

// look reads a file that may tell of packages.
func (t *tree) look(e layout.Entry, body io.Reader, mode fs.FileMode) (finding, error) {
	for _, r := range readers {
		if !r.match(e.Path) || e.Size > maxRead {
			continue
		}
		b, err := io.ReadAll(body)
		if err != nil {
			return finding{}, err
		}
		return r.read(e.Path, b), nil
	}
	if jar(e.Path) && e.Size <= maxJar {
		return t.java(e, body)
	}
	if mode&0o111 == 0 || e.Size < 4096 || e.Size > 1<<30 {
		return finding{}, nil
	}
	return t.program(e, body)
}

// program reads the modules of a Go program, if it is one.
func (t *tree) program(e layout.Entry, body io.Reader) (finding, error) {
	var magic [4]byte
	if _, err := io.ReadFull(body, magic[:]); err != nil || string(magic[:]) != "\x7fELF" {
		return finding{}, nil
	}
	f, err := os.CreateTemp(t.dir, "program-")
	if err != nil {
		return finding{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(magic[:]); err != nil {
		return finding{}, err
	}
	if _, err := io.Copy(f, body); err != nil {
		return finding{}, err
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return finding{}, nil // no Go program
	}
	return finding{packages: goPackages(info, t.modules)}, nil
}

// components names every package once, in the distribution that it comes from.
func (t *tree) components() []cdx.Component {
	distro, integrity, licences := "", map[string]string{}, map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(t.found)) {
		f := t.found[p]
		distro = cmp.Or(distro, f.distro)
		for at, sum := range f.locked {
			integrity[path.Join(path.Dir(path.Dir(p)), at)] = sum
		}
		if f.licence != "" {
			licences[path.Base(path.Dir(p))] = f.licence
		}
	}
	var list []cdx.Component
	for _, at := range slices.Sorted(maps.Keys(t.found)) {
		for _, p := range t.found[at].packages {
			if p.kind == "deb" {
				p.licence = licences[p.name]
			}
			if sum := integrity[path.Dir(at)]; p.kind == "npm" && sum != "" {
				p.hash = subresource(sum)
			}
			list = append(list, p.component(distro, at))
		}
	}
	return list
}

func (p pkg) component(distro, at string) cdx.Component {
	url := packageURL(p, distro)
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: p.name, Version: p.version, PackageURL: url}
	if p.hash.Value != "" {
		c.Hashes = &[]cdx.Hash{p.hash}
	}
	if p.sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: p.sum}}
	}
	c.Licenses = licences(p.licence)
	if at != "" {
		c.Evidence = &cdx.Evidence{Occurrences: &[]cdx.EvidenceOccurrence{{Location: "/" + at}}}
	}
	return c
}

func fromBuildInfo(info *buildinfo.BuildInfo, modules *Modules) []cdx.Component {
	var list []cdx.Component
	for _, p := range goPackages(info, modules) {
		list = append(list, p.component("", ""))
	}
	return list
}

func goPackages(info *buildinfo.BuildInfo, modules *Modules) []pkg {
	list := []pkg{{kind: "golang", name: "std", version: strings.TrimPrefix(info.GoVersion, "go"), licence: "BSD-3-Clause"}}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		if strings.HasPrefix(d.Path, ".") || strings.HasPrefix(d.Path, "/") {
			continue // replaced by a folder of the same repository: part of the program itself
		}
		list = append(list, pkg{kind: "golang", name: d.Path, version: d.Version, sum: d.Sum, licence: modules.Licence(d.Path, d.Version, d.Sum)})
	}
	return list
}

func packageURL(p pkg, distro string) string {
	name := p.name
	switch p.kind {
	case "npm":
		name = strings.Replace(name, "@", "%40", 1)
	case "pypi":
		name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	case "deb", "apk":
		id, _, _ := strings.Cut(distro, "-")
		if id == "" {
			id = map[string]string{"deb": "debian", "apk": "alpine"}[p.kind]
		}
		url := fmt.Sprintf("pkg:%s/%s/%s@%s", p.kind, id, name, escape(p.version))
		var q []string
		if p.arch != "" {
			q = append(q, "arch="+p.arch)
		}
		if distro != "" {
			q = append(q, "distro="+distro)
		}
		if p.source != "" {
			q = append(q, "upstream="+neturl.QueryEscape(p.source))
		}
		if len(q) > 0 {
			url += "?" + strings.Join(q, "&")
		}
		return url
	}
	return "pkg:" + p.kind + "/" + name + "@" + escape(p.version)
}

// escape writes a version as a package URL needs it.
func escape(v string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", "@", "%40", " ", "%20").Replace(v)
}
