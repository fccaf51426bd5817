// Package detect looks at a repository and writes the weir.yaml that it would
// have, for `weir init`. It is pure: it reads a file tree and facts about git,
// runs nothing and follows no link out of the tree.
//
// Each thing that it found has a value, the place where it was seen, and how
// certain it is. What it could not find stands as TODO in the file, and
// catalog.Parse refuses a TODO with the sentence that says what to write. A
// service of a kind that Weir does not build is refused by name.
package detect

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/mod/semver"

	"weir/internal/base/fault"
)

// Certainty says how much a line of the report can be relied on.
type Certainty string

// The certainties.
const (
	Certain Certainty = "certain" // it stands there
	Likely  Certainty = "likely"  // it follows from what stands there, as a rule
	Guess   Certainty = "guess"   // a habit or a default; look at it
)

// Line is one thing that was found.
type Line struct {
	What      string    `json:"what"` // service, port, ready path, workflow, secret name, ...
	Value     string    `json:"value"`
	Source    string    `json:"source"` // "cmd/app/main.go:12"; what it follows from, if that is no file
	Certainty Certainty `json:"certainty"`
}

// Finding is something that a workflow file asks for and does not get.
type Finding struct {
	Line    int
	Message string
	Refused bool // the file is refused because of it
}

// Git is what git knows of the repository.
type Git struct {
	Name   string // of the folder or the remote, without .git
	Branch string // the branch that is checked out; "" if unknown
	Tags   []string
}

// Report is what was found, in the order of the file.
type Report struct {
	Lines []Line `json:"lines"`
	YAML  []byte `json:"-"` // a weir.yaml with comments
	// Workflow is a first workflow, for a repository that has none and whose checks are known; nil if not.
	Workflow []byte `json:"-"`
}

// FirstWorkflow is the name of Report.Workflow below .github/workflows.
const FirstWorkflow = "ci.yml"

// Limits on what is looked at.
const (
	maxFiles = 50_000
	maxFile  = 1 << 20
)

// Inspect looks at the files of a repository. check judges a workflow file. A
// repository without a service that Weir could deliver is an Invalid fault; the
// report then still says what was found.
func Inspect(files fs.FS, git Git, check func(path string, content []byte) []Finding) (Report, error) {
	t, err := walk(files)
	if err != nil {
		return Report{}, fmt.Errorf("look at the repository: %w", err)
	}
	s := &scan{tree: t, git: git}
	s.golang()
	s.dockerfiles()
	s.node()
	s.static()
	s.refused()
	s.versions()
	s.workflows(check)
	first := s.workflow()
	if first != nil {
		s.files, s.required = []string{FirstWorkflow}, []string{FirstWorkflow + "/test"}
		s.flows = []Line{{"workflow", FirstWorkflow + ": it is written too, with what package.json tests and builds", "no .github/workflows", Likely}}
	}
	s.owners()
	r := Report{Lines: s.lines()}
	if len(s.services) == 0 {
		return r, s.nothing()
	}
	r.YAML, r.Workflow = s.yaml(), first
	return r, nil
}

// tree is the files of a repository that are worth looking at.
type tree struct {
	files fs.FS
	paths []string // sorted
}

// skipped are folders that hold other people's code or what tools have made.
var skipped = []string{"node_modules", "vendor", "testdata", "target", "build", "_build"}

func walk(files fs.FS) (*tree, error) {
	t := &tree{files: files}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			hidden := strings.HasPrefix(name, ".") && p != "." && name != ".github" && name != ".weir"
			if hidden || strings.HasPrefix(name, "_") || slices.Contains(skipped, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil // A link may lead anywhere.
		}
		if strings.ContainsFunc(p, unicode.IsControl) {
			return nil // Nobody means such a name, and it could end a comment.
		}
		if len(t.paths) == maxFiles {
			return fault.New(fault.Invalid, "The folder has more than %d files. Start in the folder of one repository.", maxFiles)
		}
		t.paths = append(t.paths, p)
		return nil
	})
	slices.Sort(t.paths)
	return t, err
}

// read returns a file, or nil if it is too large or cannot be read: then it
// tells nothing.
func (t *tree) read(p string) []byte {
	info, err := fs.Stat(t.files, p)
	if err != nil || info.Size() > maxFile {
		return nil
	}
	b, err := fs.ReadFile(t.files, p)
	if err != nil {
		return nil
	}
	return b
}

// service is one that will stand in the file.
type service struct {
	name, path string
	build      string // "go: ./cmd/app"
	source     string
	certainty  Certainty
	port       Line // Value "" if unknown
	ready      Line
	live       Line
	secrets    []Line
	settings   []Line
}

// scan gathers what is found.
type scan struct {
	*tree
	git       Git
	modules   []module
	services  []*service
	nodes     []nodePackage
	others    []Line // programs, folders and kinds that are no service
	version   []Line
	flows     []Line
	files     []string // workflow file names
	required  []string // checks
	names     []Line   // secrets in workflows
	owner     Line
	hasOwners bool
	kinds     []string // refused, by name
}

func (s *scan) lines() []Line {
	var out []Line
	for _, v := range s.services {
		out = append(out, Line{"service", v.name, v.source, v.certainty}, Line{"path", v.path, v.source, Certain}, Line{"build", v.build, v.source, v.certainty})
		for _, l := range []Line{v.port, v.ready, v.live} {
			if l.Value == "" {
				l.Value, l.Source, l.Certainty = "TODO", "not found", Guess
			}
			out = append(out, l)
		}
		out = append(out, v.secrets...)
		out = append(out, v.settings...)
	}
	out = append(out, s.others...)
	out = append(out, s.version...)
	out = append(out, s.flows...)
	out = append(out, s.names...)
	out = append(out, s.owner)
	for i := range out {
		out[i].Value, out[i].Source = printable(out[i].Value), printable(out[i].Source)
	}
	return out
}

// printable drops what could move a terminal's cursor: values come from files.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// nothing is the refusal of a repository that has no service for Weir.
func (s *scan) nothing() error {
	switch {
	case len(s.kinds) > 0:
		return fault.New(fault.Invalid, "This repository is of a kind that Weir does not build: %s. Weir builds Go and Node programs that serve HTTP, folders of static files with an index.html, and anything with a Dockerfile. Its workflows can run here all the same: write a weir.yaml with the key repository only.", strings.Join(s.kinds, ", "))
	case len(s.others) > 0:
		return fault.New(fault.Invalid, "There is a Go program here (%s), but as far as can be seen none that serves HTTP, and Weir delivers only those. If it does serve HTTP, write weir.yaml by hand; `weir schema` lists the keys.", s.others[0].Source)
	}
	return fault.New(fault.Invalid, "Nothing here can be delivered: there is no Go or Node program, no Dockerfile and no folder with an index.html. Start in the folder of a repository.")
}

// kinds are files that give away a project of a kind that Weir does not build.
var kinds = []struct{ file, name string }{
	{"package.json", "Node.js"}, {"deno.json", "Deno"}, {"pom.xml", "Java (Maven)"}, {"build.gradle", "Java (Gradle)"}, {"build.gradle.kts", "Kotlin (Gradle)"},
	{"requirements.txt", "Python"}, {"pyproject.toml", "Python"}, {"setup.py", "Python"}, {"Pipfile", "Python"}, {"Cargo.toml", "Rust"}, {"Gemfile", "Ruby"},
	{"composer.json", "PHP"}, {"mix.exs", "Elixir"}, {"Package.swift", "Swift"}, {"build.sbt", "Scala"}, {"CMakeLists.txt", "C or C++ (CMake)"},
	{"Dockerfile", "image by Dockerfile"}, {"Containerfile", "image by Containerfile"}, {"Chart.yaml", "Helm chart"},
}

// kindOf names the kind that a file gives away.
func kindOf(p string) string {
	base := path.Base(p)
	for _, k := range kinds {
		if base == k.file {
			return k.name
		}
	}
	if ext := path.Ext(base); ext == ".csproj" || ext == ".fsproj" {
		return ".NET"
	}
	return ""
}

// refused names what is there and is not built by Weir.
func (s *scan) refused() {
	for _, p := range s.paths {
		kind := kindOf(p)
		if kind == "" {
			continue
		}
		dir := path.Dir(p)
		if slices.ContainsFunc(s.services, func(v *service) bool {
			return v.source == p || strings.HasPrefix(v.build, "dockerfile: ") && within(v.path, dir) && v.path != "."
		}) {
			continue
		}
		value := kind + " in " + dir + ": not built by Weir"
		if s.covered(dir) {
			// A Go service with a Dockerfile is built from Go all the same.
			value = kind + " in " + dir + ": not used, the service is built from its source"
		} else if named := kind + " (" + p + ")"; !slices.Contains(s.kinds, named) {
			s.kinds = append(s.kinds, named)
		}
		s.others = append(s.others, Line{"refused", value, p, Certain})
	}
}

// covered reports whether a folder belongs to a service that was found.
func (s *scan) covered(dir string) bool {
	return slices.ContainsFunc(s.services, func(v *service) bool { return within(v.path, dir) })
}

// within reports whether dir is parent or lies below it.
func within(parent, dir string) bool {
	return parent == "." || dir == parent || strings.HasPrefix(dir, parent+"/")
}

// static finds folders of files with an index.html, outside Go modules with a
// service, whose assets they would be, and outside Node projects, whose source.
func (s *scan) static() {
	var found []string
	shallow := slices.Clone(s.paths)
	slices.SortStableFunc(shallow, func(a, b string) int { return strings.Count(a, "/") - strings.Count(b, "/") })
	for _, p := range shallow {
		dir := path.Dir(p)
		if path.Base(p) != "index.html" || s.covered(dir) || slices.ContainsFunc(found, func(f string) bool { return within(f, dir) }) {
			continue
		}
		if slices.ContainsFunc(s.paths, func(q string) bool { return path.Base(q) == "package.json" && within(path.Dir(q), dir) }) {
			continue
		}
		found = append(found, dir)
		name := path.Base(dir)
		if slices.Contains([]string{".", "public", "dist", "site", "www", "html", "static", "docs", "web"}, name) {
			if name = path.Base(path.Dir(dir)); name == "." {
				name = s.git.Name
			}
		}
		// The image of a static service carries a small server of its files.
		const server = "the server that Weir puts into the image"
		s.services = append(s.services, &service{name: s.unique(name), path: ".", build: "static: " + dir, source: p, certainty: Likely,
			port:  Line{"port", "8080", server, Certain},
			ready: Line{"ready path", "/readyz", server, Certain}, live: Line{"live path", "/readyz", server, Certain}})
	}
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// unique makes a service name of any text.
func (s *scan) unique(name string) string {
	name = strings.Trim(notName.ReplaceAllString(strings.ToLower(name), "-"), "-")
	name = strings.Trim(name[:min(len(name), 36)], "-")
	if name == "" {
		name = "service"
	}
	for try, n := name, 2; ; n++ {
		if !slices.ContainsFunc(s.services, func(v *service) bool { return v.name == try }) {
			return try
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

// versions says where counting starts.
func (s *scan) versions() {
	for _, v := range s.services {
		prefix := "v"
		if len(s.services) > 1 {
			prefix = v.name + "/v"
		}
		best := ""
		for _, tag := range s.git.Tags {
			if n, ok := strings.CutPrefix(tag, prefix); ok && semver.IsValid("v"+n) && semver.Prerelease("v"+n) == "" && (best == "" || semver.Compare("v"+n, "v"+best) > 0) {
				best = n
			}
		}
		l := Line{"version", fmt.Sprintf("%s counts up from %s by conventional commits", v.name, best), "tag " + prefix + best, Certain}
		if best == "" {
			l = Line{"version", v.name + " begins with 0.1.0", "no tag " + prefix + "X.Y.Z", Certain}
		}
		s.version = append(s.version, l)
	}
	switch s.git.Branch {
	case "main":
		s.version = append(s.version, Line{"trunk", "main", "the branch that is checked out", Certain})
	case "":
		s.version = append(s.version, Line{"trunk", "main", "git says nothing of a branch", Guess})
	default:
		s.version = append(s.version, Line{"trunk", "main", "Weir's trunk is main; this branch is " + s.git.Branch + ": push it as main", Likely})
	}
}

// owners finds CODEOWNERS and who owns everything.
func (s *scan) owners() {
	s.owner = Line{"owner", "TODO", "no CODEOWNERS", Guess}
	for _, p := range []string{".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"} {
		src := s.read(p)
		if src == nil || !slices.Contains(s.paths, p) {
			continue
		}
		s.hasOwners = true
		s.owner = Line{"owner", "TODO", p + " names nobody for *", Guess}
		n := 0
		for line := range strings.Lines(string(src)) {
			n++
			line, _, _ = strings.Cut(line, "#")
			if f := strings.Fields(line); len(f) > 1 && f[0] == "*" {
				s.owner = Line{"owner", path.Base(strings.TrimPrefix(f[1], "@")), fmt.Sprintf("%s:%d", p, n), Likely}
			}
		}
		return
	}
}
