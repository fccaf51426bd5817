package vuln

import (
	"net/url"
	"regexp"
	"strings"
)

// Package tells the ecosystem, name and version by which OSV knows a package URL
// (github.com/package-url/purl-spec). Packages of a distribution have the name
// and version of their source package, as advisories do. ok is false where there
// is no OSV name for it.
func Package(purl string) (ecosystem, name, version string, ok bool) {
	rest, found := strings.CutPrefix(purl, "pkg:")
	if !found {
		return "", "", "", false
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	kind, rest, found := strings.Cut(rest, "/")
	if !found {
		return "", "", "", false
	}
	if at := strings.LastIndex(rest, "@"); at > 0 {
		rest, version = rest[:at], rest[at+1:]
	}
	var err error
	if name, err = url.PathUnescape(rest); err != nil {
		return "", "", "", false
	}
	if version, err = url.PathUnescape(version); err != nil {
		return "", "", "", false
	}
	if kind == "deb" || kind == "apk" {
		return distributed(name, version, query)
	}
	ecosystem, ok = map[string]string{"golang": "Go", "npm": "npm", "cargo": "crates.io", "pypi": "PyPI", "maven": "Maven", "gem": "RubyGems", "nuget": "NuGet", "composer": "Packagist",
		"hackage": "Hackage", "cran": "CRAN", "hex": "Hex", "pub": "Pub"}[kind]
	switch {
	case ecosystem == "Go" && (name == "std" || name == "stdlib"):
		name, version = "stdlib", strings.TrimPrefix(version, "go")
	case ecosystem == "Maven":
		name = strings.Replace(name, "/", ":", 1)
	case ecosystem == "PyPI":
		name = strings.ToLower(separators.ReplaceAllString(name, "-"))
	}
	return ecosystem, name, version, ok && name != ""
}

var (
	separators = regexp.MustCompile(`[-_.]+`)
	release    = regexp.MustCompile(`^([a-z]+)-([0-9]+)(?:\.([0-9]+))?`)
)

// distributed is a package of a Linux distribution, whose name is NAMESPACE/NAME
// and whose query says which release of it: distro=debian-12, and
// upstream=SOURCE@VERSION where the source package is called otherwise.
func distributed(name, version, query string) (string, string, string, bool) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return "", "", "", false
	}
	namespace, name, _ := strings.Cut(name, "/")
	if source, of, _ := strings.Cut(q.Get("upstream"), "@"); source != "" {
		name = source
		if of != "" {
			version = of
		}
	}
	ecosystem := ""
	m := release.FindStringSubmatch(q.Get("distro"))
	switch {
	case namespace == "wolfi":
		ecosystem = "Wolfi"
	case namespace == "chainguard":
		ecosystem = "Chainguard"
	case m == nil || m[1] != namespace:
	case namespace == "debian":
		ecosystem = "Debian:" + m[2]
	case namespace == "ubuntu" && m[3] != "":
		ecosystem = "Ubuntu:" + m[2] + "." + m[3]
		if m[3] == "04" && strings.ContainsAny(m[2][len(m[2])-1:], "02468") {
			ecosystem += ":LTS"
		}
	case namespace == "alpine" && m[3] != "":
		ecosystem = "Alpine:v" + m[2] + "." + m[3]
	}
	return ecosystem, name, version, ecosystem != "" && name != ""
}
