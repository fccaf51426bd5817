package catalog

import (
	"regexp"
	"strings"
)

// repositoryRe is HOST[:PORT]/PATH.
var repositoryRe = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]{1,5})?/[a-z0-9]+([._/-]+[a-z0-9]+)*$`)

var stage = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// kind names the keys of b that say what is built, in the order of the file.
func (b Build) kinds() (names []string) {
	for _, k := range []struct{ name, value string }{{"go", b.Go}, {"static", b.Static}, {"node", b.Node}, {"layout", b.Layout}, {"dockerfile", b.Dockerfile}, {"external", b.External}} {
		if k.value != "" {
			names = append(names, k.name)
		}
	}
	return names
}

// build checks what a service says of its build.
func (p *parser) build(at string, b Build) {
	kinds := b.kinds()
	if len(kinds) > 1 {
		p.at(at, "build needs exactly one kind, not both %s and %s", kinds[0], kinds[1])
	}
	if pkg := b.Go; pkg != "" && pkg != "." && !strings.HasPrefix(pkg, "./") {
		p.at(at+".go", "go must be a package inside the service's path, such as ./cmd/app, not %q", pkg)
	}
	for _, v := range []string{b.Go, b.Static, b.Node, b.Layout, b.Dockerfile, b.Context} {
		if strings.Contains(v, "..") || strings.ContainsAny(v, " \t\n'\"$`;&|<>\\") || strings.HasPrefix(v, "/") || strings.HasPrefix(v, "-") {
			p.at(at, "%q is not a path inside the service", v)
		}
	}
	if b.External != "" && !repositoryRe.MatchString(b.External) {
		p.at(at+".external", "%q is not a repository in a registry; write it without a tag, such as ghcr.io/acme/shop", b.External)
	}
	for k, v := range map[string]string{"run": b.Run, "from": b.From} {
		if v != "" && b.Layout == "" {
			p.at(at+"."+k, "%s belongs to layout; write the path of the image layout that it makes, such as layout: out/image", k)
		}
	}
	for k, v := range map[string]string{"context": b.Context, "target": b.Target} {
		if v != "" && b.Dockerfile == "" {
			p.at(at+"."+k, "%s belongs to dockerfile; write the path of the file too, such as dockerfile: Dockerfile", k)
		}
	}
	if b.Target != "" && !stage.MatchString(b.Target) {
		p.at(at+".target", "%q cannot name a stage of a Dockerfile", b.Target)
	}
	if b.Run != "" && b.From != "" {
		p.at(at+".from", "run and from cannot both be given: the layout is made by the command, or comes from another job")
	}
	if len(b.Run) > 64<<10 || strings.ContainsRune(b.Run, 0) {
		p.at(at+".run", "run must be a command of at most 64 KiB")
	}
	if len(b.From) > 256 || strings.ContainsAny(b.From, "\x00\n\r\"':<>|*?\\/") {
		p.at(at+".from", "%q cannot name an artifact of a run", b.From)
	}
}
