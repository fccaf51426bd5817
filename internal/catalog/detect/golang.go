package detect

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
)

// module is a folder with a go.mod.
type module struct{ dir, path string }

// pkg is what the files of one folder say.
type pkg struct {
	dir     string
	main    string // place of func main, if it is a program
	imports []string
	serves  string // place where it listens for HTTP
	ports   []Line
	getPort string // place where it reads PORT
	paths   []Line // of requests it answers, or literals that look like it
	env     []Line // variables it reads
}

// golang finds programs that serve HTTP.
func (s *scan) golang() {
	for _, p := range s.paths {
		if path.Base(p) == "go.mod" {
			if f, err := modfile.ParseLax(p, s.read(p), nil); err == nil && f.Module != nil {
				s.modules = append(s.modules, module{path.Dir(p), f.Module.Mod.Path})
			}
		}
	}
	pkgs := map[string]*pkg{}
	var dirs []string
	for _, p := range s.paths {
		if path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
			continue
		}
		dir := path.Dir(p)
		if pkgs[dir] == nil {
			pkgs[dir] = &pkg{dir: dir}
			dirs = append(dirs, dir)
		}
		pkgs[dir].file(p, s.read(p))
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		p := pkgs[dir]
		m, ok := s.moduleOf(dir)
		if p.main == "" {
			continue
		}
		if !ok {
			s.others = append(s.others, Line{"program", dir + ": no go.mod above it, so it cannot be built", p.main, Certain})
			continue
		}
		all := s.reachable(p, pkgs)
		serves := ""
		for _, q := range all {
			if serves == "" {
				serves = q.serves
			}
		}
		if serves == "" {
			s.others = append(s.others, Line{"program", dir + ": does not serve HTTP, so it is no service", p.main, Likely})
			continue
		}
		certainty := Certain
		if p.serves == "" {
			certainty = Likely
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(dir, m.dir), "/")
		build := "./" + rel
		if rel == "" || dir == m.dir {
			build = "."
		}
		if m.dir == "." && dir != "." {
			build = "./" + dir
		}
		v := &service{name: s.unique(nameOf(dir, m, s.git.Name)), path: m.dir, build: "go: " + build, source: p.main, certainty: certainty}
		v.port, v.ready, v.live = port(all), health(all, "ready path", ready), health(all, "live path", live)
		if v.live.Value == "" && v.ready.Value != "" {
			v.live = Line{"live path", v.ready.Value, "the ready path", Guess}
		}
		for _, q := range all {
			for _, e := range q.env {
				if e.What == "secret name" {
					v.secrets = appendNew(v.secrets, e)
				} else {
					v.settings = appendNew(v.settings, e)
				}
			}
		}
		s.services = append(s.services, v)
	}
}

func appendNew(lines []Line, l Line) []Line {
	if slices.ContainsFunc(lines, func(k Line) bool { return k.Value == l.Value }) {
		return lines
	}
	return append(lines, l)
}

// moduleOf returns the innermost module around a folder.
func (s *scan) moduleOf(dir string) (m module, ok bool) {
	for _, k := range s.modules {
		if within(k.dir, dir) && (!ok || len(k.dir) > len(m.dir) || m.dir == ".") {
			m, ok = k, true
		}
	}
	return m, ok
}

// nameOf names a service after its folder, or after its module at the root.
func nameOf(dir string, m module, repository string) string {
	if dir != m.dir {
		if name := path.Base(dir); name != "cmd" && name != "server" && name != "main" {
			return name
		}
		if up := path.Base(path.Dir(dir)); up != "cmd" && up != "." {
			return up
		}
	}
	if m.dir != "." {
		return path.Base(m.dir)
	}
	base := path.Base(m.path)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(m.path)) // example.com/shop/v2
	}
	if base == "." || base == "/" {
		return repository
	}
	return base
}

// reachable returns a program's package and those of the repository that it
// imports, near ones first.
func (s *scan) reachable(p *pkg, pkgs map[string]*pkg) []*pkg {
	all := []*pkg{p}
	for i := 0; i < len(all); i++ {
		for _, imp := range all[i].imports {
			for _, m := range s.modules {
				if imp != m.path && !strings.HasPrefix(imp, m.path+"/") {
					continue
				}
				q := pkgs[path.Join(m.dir, strings.TrimPrefix(imp, m.path))]
				if q != nil && !slices.Contains(all, q) {
					all = append(all, q)
				}
			}
		}
	}
	return all
}

var (
	addressRe = regexp.MustCompile(`^[A-Za-z0-9.\-\[\]:]*:([0-9]{2,5})$`)
	pathRe    = regexp.MustCompile(`^(?:GET )?(/[A-Za-z0-9/_.-]*)$`)
	envRe     = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	secretRe  = regexp.MustCompile(`(^|_)(TOKEN|KEY|SECRET|PASSWORD|PASSWD|URL|DSN|CREDENTIALS)$`)
)

// file reads one Go file. A file that does not parse tells what it can.
func (p *pkg) file(name string, src []byte) {
	fset := token.NewFileSet()
	f, _ := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if f == nil || ignored(f) {
		return
	}
	at := func(n ast.Node) string { return fmt.Sprintf("%s:%d", name, fset.Position(n.Pos()).Line) }
	for _, i := range f.Imports {
		if v, err := strconv.Unquote(i.Path.Value); err == nil {
			p.imports = append(p.imports, v)
		}
	}
	http := slices.Contains(p.imports, "net/http")
	claimed := map[*ast.BasicLit]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if f.Name.Name == "main" && n.Recv == nil && n.Name.Name == "main" {
				p.main = at(n)
			}
		case *ast.CallExpr:
			p.call(n, at, http, claimed)
		case *ast.CompositeLit:
			if typeName(n.Type) == "http.Server" {
				p.serves = or(p.serves, at(n))
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && ident(kv.Key) == "Addr" {
						p.address(kv.Value, at, Certain, claimed)
					}
				}
			}
		case *ast.BasicLit:
			if v, ok := literal(n); ok && !claimed[n] {
				if addressRe.MatchString(v) {
					p.address(n, at, Guess, claimed)
				} else if pathRe.MatchString(v) && len(v) > 1 {
					p.paths = append(p.paths, Line{"path", pathRe.FindStringSubmatch(v)[1], at(n), Likely})
				}
			}
		}
		return true
	})
}

// ignored reports a file that is not part of the build, such as a generator.
func ignored(f *ast.File) bool {
	for _, g := range f.Comments {
		for _, c := range g.List {
			if c.Pos() < f.Package && strings.HasPrefix(c.Text, "//go:build ") && strings.Contains(c.Text, "ignore") {
				return true
			}
		}
	}
	return false
}

func (p *pkg) call(n *ast.CallExpr, at func(ast.Node) string, http bool, claimed map[*ast.BasicLit]bool) {
	name := typeName(n.Fun)
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case name == "http.ListenAndServe" || name == "http.ListenAndServeTLS" || name == "http.Serve" || name == "http.ServeTLS":
		p.serves = or(p.serves, at(n))
		if strings.Contains(last, "Listen") && len(n.Args) > 0 {
			p.address(n.Args[0], at, Certain, claimed)
		}
	case name == "net.Listen" && len(n.Args) == 2:
		p.address(n.Args[1], at, Certain, claimed)
	case (last == "HandleFunc" || last == "Handle") && http && len(n.Args) == 2:
		if v, ok := literal(n.Args[0]); ok && pathRe.MatchString(v) {
			claimed[n.Args[0].(*ast.BasicLit)] = true
			p.paths = append(p.paths, Line{"path", pathRe.FindStringSubmatch(v)[1], at(n.Args[0]), Certain})
		}
	case (name == "os.Getenv" || name == "os.LookupEnv") && len(n.Args) == 1:
		v, ok := literal(n.Args[0])
		switch {
		case !ok || !envRe.MatchString(v):
		case v == "PORT":
			p.getPort = or(p.getPort, at(n))
		case secretRe.MatchString(v):
			p.env = append(p.env, Line{"secret name", v, at(n), Likely})
		default:
			p.env = append(p.env, Line{"setting", v, at(n), Certain})
		}
	case name == "flag.String" || name == "flag.Int" || name == "flag.StringVar" || name == "flag.IntVar":
		for _, a := range n.Args {
			lit, ok := a.(*ast.BasicLit)
			v, _ := literal(a)
			switch {
			case !ok:
			case addressRe.MatchString(v):
				p.address(a, at, Likely, claimed)
			case lit.Kind == token.INT && portLike(lit.Value):
				p.ports = append(p.ports, Line{"port", lit.Value, at(n), Likely})
			}
		}
	}
}

// address takes the port of an address that is written out, also as ":" + port.
func (p *pkg) address(e ast.Expr, at func(ast.Node) string, c Certainty, claimed map[*ast.BasicLit]bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok {
			return true
		}
		claimed[lit] = true
		if v, ok := literal(lit); ok {
			if m := addressRe.FindStringSubmatch(v); m != nil && portLike(m[1]) {
				p.ports = append(p.ports, Line{"port", m[1], at(lit), c})
			}
		}
		return true
	})
}

func portLike(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 80 && n <= 65535
}

// port chooses among what was found: a program that reads PORT takes what Weir
// gives it, so any port does, and the default of the program is the natural one.
func port(all []*pkg) Line {
	best := Line{What: "port"}
	rank := map[Certainty]int{Certain: 3, Likely: 2, Guess: 1}
	reads := ""
	for _, p := range all {
		reads = or(reads, p.getPort)
		for _, l := range p.ports {
			if rank[l.Certainty] > rank[best.Certainty] {
				best = l
			}
		}
	}
	if reads != "" {
		if best.Value == "" || best.Certainty == Guess {
			best.Value = or(best.Value, "8080")
		}
		return Line{"port", best.Value, reads + " reads PORT, which Weir sets", Certain}
	}
	return best
}

// What the paths are called by which a process says how it is, best first.
var (
	ready = []string{"/readyz", "/ready", "/-/ready", "/health/ready", "/healthz", "/health", "/healthcheck", "/ping", "/status"}
	live  = []string{"/livez", "/live", "/alive", "/-/healthy", "/health/live", "/healthz", "/health", "/healthcheck", "/ping", "/status"}
)

func health(all []*pkg, what string, names []string) Line {
	for _, c := range []Certainty{Certain, Likely} {
		for _, name := range names {
			for _, p := range all {
				for _, l := range p.paths {
					if l.Certainty == c && l.Value == name {
						return Line{what, name, l.Source, c}
					}
				}
			}
		}
	}
	return Line{What: what}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	v, err := strconv.Unquote(lit.Value)
	return v, err == nil
}

func ident(e ast.Expr) string {
	if i, ok := e.(*ast.Ident); ok {
		return i.Name
	}
	return ""
}

// typeName writes pkg.Name for a selector and Name for an identifier.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return ident(e.X) + "." + e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	}
	return ""
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
