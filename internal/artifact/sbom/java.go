package sbom

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"weir/internal/artifact/layout"
)

// Bounds of what is read of archives of Java programs: they nest, and say
// themselves how large they are.
const (
	maxJar    = 1 << 30  // an archive in the image
	maxNested = 64 << 20 // an archive inside of one
	maxJars   = 5_000    // archives inside of one
	maxWithin = 1 << 30  // all of those together, unpacked
	maxPom    = 64 << 10
	maxList   = 16 << 20 // the list of files of an archive
)

// jar reports an archive of a Java program.
func jar(p string) bool {
	switch path.Ext(p) {
	case ".jar", ".war", ".ear":
		return true
	}
	return false
}

// java lists the Maven artifacts that an archive says it is made of, those in
// the archives inside of it included. What is no archive tells nothing.
func (t *tree) java(e layout.Entry, body io.Reader) (finding, error) {
	f, err := os.CreateTemp(t.dir, "jar-")
	if err != nil {
		return finding{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, body)
	if err != nil {
		return finding{}, err
	}
	left := &within{jars: maxJars, bytes: maxWithin}
	return finding{packages: left.archive(f, size, 0)}, nil
}

// within is what may still be read inside of one archive.
type within struct {
	jars  int
	bytes int64
}

func (w *within) archive(r io.ReaderAt, size int64, depth int) (all []pkg) {
	if !listed(r, size) {
		return nil
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil
	}
	for _, f := range z.File {
		switch {
		case path.Base(f.Name) == "pom.properties" && strings.HasPrefix(f.Name, "META-INF/maven/"):
			if b := w.read(f, maxPom); b != nil {
				if p, ok := pom(b); ok {
					all = append(all, p)
				}
			}
		case jar(f.Name) && depth < 2 && w.jars > 0: // a program of Spring holds its libraries, a WAR in an EAR does as well
			w.jars--
			if b := w.read(f, maxNested); b != nil {
				all = append(all, w.archive(bytes.NewReader(b), int64(len(b)), depth+1)...)
			}
		}
	}
	return all
}

// listed reports whether an archive's list of files is short enough to be read:
// all of it is kept in memory, and hostile ones hold nothing else.
func listed(r io.ReaderAt, size int64) bool {
	tail := make([]byte, min(size, 66<<10))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	at := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if at < 0 || len(tail)-at < 22 {
		return false
	}
	end, from := size-int64(len(tail))+int64(at), int64(binary.LittleEndian.Uint32(tail[at+16:]))
	return from <= end && end-from <= maxList
}

// read unpacks one file of an archive; nil if it is too large or damaged.
func (w *within) read(f *zip.File, most int64) []byte {
	if most = min(most, w.bytes); f.UncompressedSize64 > uint64(most) {
		return nil
	}
	rc, err := f.Open()
	if err != nil {
		return nil
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, most+1))
	if w.bytes -= int64(len(b)); err != nil || int64(len(b)) > most {
		return nil
	}
	return b
}

var coordinate = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$`)

// pom reads what Maven writes into each archive that it builds.
func pom(b []byte) (pkg, bool) {
	v := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, val, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[strings.TrimSpace(k)] = strings.TrimSpace(val)
		}
	}
	group, name, version := v["groupId"], v["artifactId"], v["version"]
	if !coordinate.MatchString(group) || !coordinate.MatchString(name) || !coordinate.MatchString(version) {
		return pkg{}, false
	}
	return pkg{kind: "maven", name: group + "/" + name, version: version}, true
}

var gemLicence = regexp.MustCompile(`(?m)^\s*s\.licenses = \[(?:"([A-Za-z0-9.+-]{1,80})"(?:\.freeze)?)\]`)

// gemspec reads what RubyGems writes beside each gem that it installs.
func gemspec(_ string, b []byte) finding {
	for line := range strings.Lines(string(b[:min(len(b), 4096)])) {
		stub, ok := strings.CutPrefix(line, "# stub: ")
		if !ok {
			continue
		}
		w := strings.Fields(stub)
		if len(w) < 2 || !coordinate.MatchString(w[0]) || !coordinate.MatchString(w[1]) {
			return finding{}
		}
		p := pkg{kind: "gem", name: w[0], version: w[1]}
		if m := gemLicence.FindSubmatch(b); m != nil {
			p.licence = string(m[1])
		}
		return finding{packages: []pkg{p}}
	}
	return finding{}
}
