package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nodePackage is what a package.json says that matters here.
type nodePackage struct {
	dir          string
	Name         string
	Main         string
	Scripts      map[string]string
	Dependencies map[string]string
}

var (
	startRe   = regexp.MustCompile(`(?:^|&&\s*)node\s+(?:--?[\w-]+(?:=\S+)?\s+)*(?:\./)?([\w./-]+)\s*$`)
	listenRe  = regexp.MustCompile(`\.listen\(`)
	portRe    = regexp.MustCompile(`\.listen\(\s*([0-9]{2,5})\b`)
	envPortRe = regexp.MustCompile(`process\.env\.PORT\b(?:\s*(?:\|\||\?\?)\s*["']?([0-9]{2,5}))?`)
	jsPathRe  = regexp.MustCompile("[\"'`](/[A-Za-z0-9/_.-]+)[\"'`]")
	jsEnvRe   = regexp.MustCompile(`process\.env\.([A-Z][A-Z0-9_]*)`)
	exposeRe  = regexp.MustCompile(`(?im)^\s*EXPOSE\s+([0-9]{2,5})`)
)

// frameworks are packages that a service listens with, also where no call of listen is to be seen.
var frameworks = []string{"express", "fastify", "koa", "@hapi/hapi", "hono", "@nestjs/core", "next", "restify", "polka"}

// script reads one JavaScript or TypeScript file, by its letters: what it serves and reads.
func (p *pkg) script(name string, src []byte) {
	n := 0
	for line := range bytes.Lines(src) {
		n++
		at := fmt.Sprintf("%s:%d", name, n)
		if listenRe.Match(line) {
			p.serves = or(p.serves, at)
		}
		if m := portRe.FindSubmatch(line); m != nil && portLike(string(m[1])) {
			p.ports = append(p.ports, Line{"port", string(m[1]), at, Certain})
		}
		if m := envPortRe.FindSubmatch(line); m != nil {
			p.getPort = or(p.getPort, at)
			if portLike(string(m[1])) {
				p.ports = append(p.ports, Line{"port", string(m[1]), at, Likely})
			}
		}
		for _, m := range jsPathRe.FindAllSubmatch(line, 16) {
			p.paths = append(p.paths, Line{"path", string(m[1]), at, Likely})
		}
		for _, m := range jsEnvRe.FindAllSubmatch(line, 16) {
			switch v := string(m[1]); {
			case v == "PORT" || v == "NODE_ENV":
			case secretRe.MatchString(v):
				p.env = append(p.env, Line{"secret name", v, at, Likely})
			default:
				p.env = append(p.env, Line{"setting", v, at, Certain})
			}
		}
	}
}

// scripts reads the JavaScript below a folder, without its tests.
func (s *scan) scripts(dir string) *pkg {
	p := &pkg{dir: dir}
	for _, f := range s.paths {
		switch path.Ext(f) {
		case ".js", ".mjs", ".cjs", ".ts", ".mts":
			if within(dir, path.Dir(f)) && !strings.Contains(f, ".test.") && !strings.Contains(f, ".spec.") && !strings.Contains("/"+f, "/test/") && !strings.Contains("/"+f, "/tests/") {
				p.script(f, s.read(f))
			}
		}
	}
	return p
}

// dockerfiles finds images that are built from a Dockerfile, except for those of services that are built from their source.
func (s *scan) dockerfiles() {
	for _, f := range s.paths {
		dir, base := path.Dir(f), path.Base(f)
		if base != "Dockerfile" && base != "Containerfile" || s.covered(dir) {
			continue
		}
		p := s.scripts(dir)
		v := &service{name: s.unique(s.folder(dir)), path: dir, build: "dockerfile: " + base, source: f, certainty: Likely}
		if m := exposeRe.FindSubmatchIndex(s.read(f)); m != nil {
			src := s.read(f)
			v.port = Line{"port", string(src[m[2]:m[3]]), fmt.Sprintf("%s:%d", f, 1+bytes.Count(src[:m[2]], []byte("\n"))), Certain}
		}
		s.finish(v, p)
	}
}

// folder names a service after its folder, or the repository at the root.
func (s *scan) folder(dir string) string {
	if dir == "." {
		return s.git.Name
	}
	return path.Base(dir)
}

// finish fills in what a service's scripts say.
func (s *scan) finish(v *service, p *pkg) {
	all := []*pkg{p}
	if v.port.Value == "" {
		v.port = port(all)
	}
	v.ready, v.live = health(all, "ready path", ready), health(all, "live path", live)
	if v.live.Value == "" && v.ready.Value != "" {
		v.live = Line{"live path", v.ready.Value, "the ready path", Guess}
	}
	for _, e := range p.env {
		if e.What == "secret name" {
			v.secrets = appendNew(v.secrets, e)
		} else {
			v.settings = appendNew(v.settings, e)
		}
	}
	s.services = append(s.services, v)
}

// node finds Node programs that serve HTTP.
func (s *scan) node() {
	for _, f := range s.paths {
		if path.Base(f) != "package.json" || s.covered(path.Dir(f)) {
			continue
		}
		k := nodePackage{dir: path.Dir(f)}
		if json.Unmarshal(s.read(f), &k) != nil {
			continue
		}
		p := s.scripts(k.dir)
		certainty := Certain
		if p.serves == "" {
			certainty = Likely
			i := slices.IndexFunc(frameworks, func(name string) bool { return k.Dependencies[name] != "" })
			if i < 0 {
				continue
			}
		}
		program, from := s.program(k)
		if program == "" {
			s.others = append(s.others, Line{"program", "Node.js in " + k.dir + ": it is not said which file Node runs; give it a start script such as node server.js", f, Likely})
			continue
		}
		name := path.Base(k.Name)
		if k.dir == "." && name == "." {
			name = s.git.Name
		} else if name == "." {
			name = path.Base(k.dir)
		}
		v := &service{name: s.unique(name), path: k.dir, build: "node: " + program, source: f, certainty: certainty}
		if from == Guess {
			v.certainty = Guess
		}
		s.finish(v, p)
		s.nodes = append(s.nodes, k)
	}
}

// program is the file that Node runs.
func (s *scan) program(k nodePackage) (string, Certainty) {
	if m := startRe.FindStringSubmatch(k.Scripts["start"]); m != nil {
		p := path.Clean(m[1])
		if path.Ext(p) == "" {
			p += ".js"
		}
		if !strings.HasPrefix(p, "..") && !path.IsAbs(p) {
			return p, Certain
		}
	}
	for _, p := range []string{k.Main, "server.js", "index.js", "app.js", "src/server.js", "src/index.js"} {
		if p = path.Clean(p); p != "." && slices.Contains(s.paths, path.Join(k.dir, p)) {
			return p, Guess
		}
	}
	return "", Guess
}

// workflow writes a first workflow for Node services of a repository that has none.
func (s *scan) workflow() []byte {
	if len(s.files) > 0 || len(s.nodes) == 0 {
		return nil
	}
	var b bytes.Buffer
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w("# Checks of every change, written by `weir init`. Images are built by Weir itself, as weir.yaml says.")
	w("name: ci")
	w("on:")
	w("  push:")
	w("    branches: [main]")
	w("  pull_request:")
	w("jobs:")
	w("  test:")
	w("    runs-on: ubuntu-latest")
	w("    steps:")
	w("      - uses: actions/checkout@v4")
	for _, k := range s.nodes {
		at := ""
		if k.dir != "." {
			at = "\n        working-directory: " + quoted(k.dir)
		}
		if slices.Contains(s.paths, path.Join(k.dir, "package-lock.json")) {
			w("      - run: npm ci%s", at)
		}
		for _, name := range []string{"build", "test"} {
			if v := k.Scripts[name]; v != "" && !strings.Contains(v, "no test specified") {
				w("      - run: npm run %s%s", name, at)
			}
		}
		w("      - run: node --check %s%s", strconv.Quote(s.entry(k)), at)
	}
	return b.Bytes()
}

func (s *scan) entry(k nodePackage) string {
	p, _ := s.program(k)
	return p
}
