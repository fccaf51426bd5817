package sbom

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/textproto"
	"path"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// readers are the files of an image that tell of packages. What cannot be read
// tells nothing: a broken file of somebody's image is no reason to refuse it.
var readers = []struct {
	match func(p string) bool
	read  func(p string, b []byte) finding
}{
	{func(p string) bool { return p == "etc/os-release" || p == "usr/lib/os-release" }, osRelease},
	{func(p string) bool {
		return p == "var/lib/dpkg/status" || path.Dir(p) == "var/lib/dpkg/status.d" && path.Ext(p) != ".md5sums"
	}, dpkg},
	{func(p string) bool {
		return path.Base(p) == "copyright" && path.Dir(path.Dir(p)) == "usr/share/doc"
	}, copyright},
	{func(p string) bool { return p == "lib/apk/db/installed" || p == "usr/lib/apk/db/installed" }, apk},
	{func(p string) bool { return p == "usr/share/weir/node.json" }, nodeVersions},
	{npmPackage, npm},
	{func(p string) bool {
		return path.Ext(p) == ".gemspec" && (path.Base(path.Dir(p)) == "specifications" || path.Base(path.Dir(path.Dir(p))) == "specifications")
	}, gemspec},
	{func(p string) bool { return strings.HasSuffix(p, "node_modules/.package-lock.json") }, npmLock},
	{func(p string) bool {
		return path.Base(p) == "METADATA" && strings.HasSuffix(path.Dir(p), ".dist-info")
	}, distInfo},
	{func(p string) bool {
		return path.Base(p) == "requirements.txt" && !strings.Contains(p, "site-packages/")
	}, requirements},
}

// paragraphs reads blocks of "Key: value" with continued lines, as dpkg and
// email headers have them.
func paragraphs(b []byte, fn func(map[string]string)) {
	fields, last := map[string]string{}, ""
	flush := func() {
		if len(fields) > 0 {
			fn(fields)
		}
		fields, last = map[string]string{}, ""
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			if k, v, ok := strings.Cut(line, ":"); ok {
				last = k
				fields[k] = strings.TrimSpace(v)
			}
		}
	}
	flush()
}

func osRelease(_ string, b []byte) finding {
	v := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, val, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[k] = strings.Trim(val, `"'`)
		}
	}
	id := v["ID"]
	if id == "" || !simple.MatchString(id+v["VERSION_ID"]) {
		return finding{}
	}
	return finding{distro: strings.TrimSuffix(id+"-"+v["VERSION_ID"], "-")}
}

var simple = regexp.MustCompile(`^[A-Za-z0-9._+~:-]+$`)

func dpkg(_ string, b []byte) finding {
	var f finding
	paragraphs(b, func(m map[string]string) {
		status := m["Status"]
		if m["Package"] == "" || m["Version"] == "" || status != "" && !strings.HasSuffix(status, " installed") || !simple.MatchString(m["Package"]) {
			return
		}
		f.packages = append(f.packages, pkg{kind: "deb", name: m["Package"], version: m["Version"], arch: word(m["Architecture"]), source: debSource(m)})
	})
	return f
}

// debSource is the source package that a package says that it was built from, if
// it has another name or version: advisories are about source packages.
func debSource(m map[string]string) string {
	name, version, _ := strings.Cut(m["Source"], " ")
	version = strings.Trim(version, " ()")
	switch {
	case name == "" || !simple.MatchString(name):
		return ""
	case version != "" && version != m["Version"] && simple.MatchString(version):
		return name + "@" + version
	case name != m["Package"]:
		return name
	}
	return ""
}

// copyright reads the licences of Debian's machine-readable copyright files.
func copyright(_ string, b []byte) finding {
	if !bytes.HasPrefix(b, []byte("Format:")) {
		return finding{}
	}
	var all []string
	paragraphs(b, func(m map[string]string) {
		l, _, _ := strings.Cut(m["License"], "\n")
		if l = strings.TrimSpace(l); l != "" && m["Files"] != "" && known(l) && !slices.Contains(all, l) {
			all = append(all, l)
		}
	})
	slices.Sort(all)
	return finding{licence: strings.Join(all, " AND ")}
}

func apk(_ string, b []byte) finding {
	var f finding
	paragraphs(b, func(m map[string]string) {
		if m["P"] == "" || m["V"] == "" || !simple.MatchString(m["P"]) {
			return
		}
		p := pkg{kind: "apk", name: m["P"], version: m["V"], arch: word(m["A"]), licence: m["L"]}
		if m["o"] != m["P"] {
			p.source = word(m["o"])
		}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m["C"], "Q1")); err == nil && len(sum) == 20 {
			p.hash = cdx.Hash{Algorithm: cdx.HashAlgoSHA1, Value: hex.EncodeToString(sum)}
		}
		f.packages = append(f.packages, p)
	})
	return f
}

func word(s string) string {
	if !simple.MatchString(s) {
		return ""
	}
	return s
}

// npmPackage reports whether p is the package.json of an installed package.
func npmPackage(p string) bool {
	if path.Base(p) != "package.json" {
		return false
	}
	up := path.Dir(path.Dir(p))
	return path.Base(up) == "node_modules" || strings.HasPrefix(path.Base(up), "@") && path.Base(path.Dir(up)) == "node_modules"
}

func npm(_ string, b []byte) finding {
	var p struct {
		Name, Version string
		License       json.RawMessage
		Licenses      []struct{ Type string }
	}
	if json.Unmarshal(b, &p) != nil || p.Name == "" || p.Version == "" || len(p.Name) > 214 || !npmName.MatchString(p.Name) {
		return finding{}
	}
	out := pkg{kind: "npm", name: p.Name, version: p.Version}
	var object struct{ Type string }
	if json.Unmarshal(p.License, &out.licence) != nil && json.Unmarshal(p.License, &object) == nil {
		out.licence = object.Type
	}
	if out.licence == "" && len(p.Licenses) == 1 {
		out.licence = p.Licenses[0].Type
	}
	return finding{packages: []pkg{out}}
}

var npmName = regexp.MustCompile(`^(@[A-Za-z0-9~._-]+/)?[A-Za-z0-9~._-]+$`)

// npmLock reads what npm writes beside the packages that it has installed.
func npmLock(_ string, b []byte) finding {
	var l struct {
		Packages map[string]struct{ Integrity string }
	}
	if json.Unmarshal(b, &l) != nil {
		return finding{}
	}
	f := finding{locked: map[string]string{}}
	for at, p := range l.Packages {
		if p.Integrity != "" {
			f.locked[at] = p.Integrity
		}
	}
	return f
}

// subresource reads "sha512-BASE64"; of several, the first that is known.
func subresource(s string) cdx.Hash {
	for part := range strings.FieldsSeq(s) {
		alg, sum, _ := strings.Cut(part, "-")
		known := map[string]cdx.HashAlgorithm{"sha512": cdx.HashAlgoSHA512, "sha256": cdx.HashAlgoSHA256, "sha1": cdx.HashAlgoSHA1}[alg]
		if b, err := base64.StdEncoding.DecodeString(sum); err == nil && known != "" && len(b) > 0 {
			return cdx.Hash{Algorithm: known, Value: hex.EncodeToString(b)}
		}
	}
	return cdx.Hash{}
}

func distInfo(_ string, b []byte) finding {
	h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(b))).ReadMIMEHeader()
	name, version := h.Get("Name"), h.Get("Version")
	if !pyName.MatchString(name) || version == "" {
		return finding{}
	}
	licence := h.Get("License-Expression")
	if licence == "" {
		licence, _, _ = strings.Cut(h.Get("License"), "\n")
	}
	return finding{packages: []pkg{{kind: "pypi", name: name, version: version, licence: licence}}}
}

var (
	pyName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	pinned = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9,._ -]*\])?\s*==\s*([A-Za-z0-9.!+_-]+)`)
	pinSum = regexp.MustCompile(`--hash=sha256:([0-9a-f]{64})`)
)

// requirements reads what is pinned; a range is no version.
func requirements(_ string, b []byte) finding {
	var f finding
	for line := range strings.SplitSeq(strings.ReplaceAll(string(b), "\\\n", " "), "\n") {
		m := pinned.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		p := pkg{kind: "pypi", name: m[1], version: m[3]}
		if s := pinSum.FindAllStringSubmatch(line, -1); len(s) == 1 {
			p.hash = cdx.Hash{Algorithm: cdx.HashAlgoSHA256, Value: s[0][1]}
		}
		f.packages = append(f.packages, p)
	}
	return f
}

// nodeVersions are what a Node program says of itself: process.versions, with
// what is linked into it.
func nodeVersions(_ string, b []byte) finding {
	var v map[string]string
	if json.Unmarshal(b, &v) != nil {
		return finding{}
	}
	var f finding
	for name, version := range v {
		if name == "modules" || name == "napi" || !simple.MatchString(name) || !simple.MatchString(version) {
			continue // numbers of interfaces
		}
		f.packages = append(f.packages, pkg{kind: "generic", name: name, version: version})
	}
	return f
}
