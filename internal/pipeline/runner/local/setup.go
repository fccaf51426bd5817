package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// tool is an installed version of a language.
type tool struct {
	root    string // folder that holds bin/
	bin     string // folder to put on PATH
	program string
	version string
}

// language says how to find what is installed of it.
type language struct {
	name     string // as people call it
	action   string
	programs []string // names to look for on PATH
	folders  []string // patterns of roots
	args     []string // that make it say its version
	version  *regexp.Regexp
	install  string
}

var (
	nodeLanguage = language{name: "Node.js", action: "setup-node", programs: []string{"node"},
		folders: []string{"/usr/local/node*", "/opt/node*", "/usr/local/lib/nodejs/*", "~/.nvm/versions/node/*", "~/.local/share/fnm/node-versions/*/installation"},
		args:    []string{"--version"}, version: regexp.MustCompile(`v(\d+\.\d+\.\d+)`), install: "unpack it to /opt/node-VERSION, or apt-get install nodejs"}
	pythonLanguage = language{name: "Python", action: "setup-python", programs: []string{"python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"},
		folders: []string{"/usr/local/python*", "/opt/python*", "~/.pyenv/versions/*", "~/.local/share/uv/python/cpython-*"},
		args:    []string{"--version"}, version: regexp.MustCompile(`Python (\d+\.\d+\.\d+)`), install: "apt-get install python3, or build it to /opt/pythonVERSION"}
	javaLanguage = language{name: "Java", action: "setup-java", programs: []string{"java"},
		folders: []string{"/usr/lib/jvm/*", "/opt/java*", "/opt/jdk*", "~/.sdkman/candidates/java/*"},
		args:    []string{"-version"}, version: regexp.MustCompile(`version "(\d+(?:\.\d+){0,2})`), install: "apt-get install openjdk-21-jdk-headless"}
)

var (
	found   = map[string]func() []tool{}
	foundMu sync.Mutex
)

// tools lists the installed versions, those on Weir's own PATH first. The machine is looked at once.
func (l *language) tools() []tool {
	foundMu.Lock()
	once, ok := found[l.name]
	if !ok {
		once = sync.OnceValue(l.look)
		found[l.name] = once
	}
	foundMu.Unlock()
	return once()
}

func (l *language) look() []tool {
	var candidates []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		for _, p := range l.programs {
			candidates = append(candidates, filepath.Join(dir, p))
		}
	}
	home, _ := os.UserHomeDir()
	for _, pattern := range l.folders {
		roots, _ := filepath.Glob(strings.Replace(pattern, "~", home, 1))
		for _, r := range roots {
			candidates = append(candidates, filepath.Join(r, "bin", l.programs[0]))
		}
	}
	var all []tool
	for _, c := range candidates {
		real, err := filepath.EvalSymlinks(c)
		if err != nil || slices.ContainsFunc(all, func(t tool) bool { return t.program == real }) {
			continue
		}
		if head := make([]byte, 2); readHead(real, head) && string(head) == "#!" {
			continue // a shim that chooses by files in the home folder, which jobs do not see
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out, err := exec.CommandContext(ctx, real, l.args...).CombinedOutput()
		cancel()
		if m := l.version.FindSubmatch(out); err == nil && m != nil {
			all = append(all, tool{root: filepath.Dir(filepath.Dir(real)), bin: filepath.Dir(c), program: real, version: string(m[1])})
		}
	}
	return all
}

func readHead(path string, head []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	n, _ := f.Read(head)
	return n == len(head)
}

// choose picks the newest installed version that meets what is wanted, or the first if anything does.
func (l *language) choose(want, from string) (tool, error) {
	all := l.tools()
	if len(all) == 0 {
		return tool{}, failure(fmt.Sprintf("%s: the runner has no %s. Install it there: %s", l.action, l.name, l.install))
	}
	best := -1
	for i := range all {
		if satisfies(all[i].version, want, false) && (best < 0 || want != "" && compare(all[i].version, all[best].version) > 0) {
			best = i
		}
	}
	if best < 0 {
		var have []string
		for _, t := range all {
			have = append(have, t.version)
		}
		return tool{}, failure(fmt.Sprintf("%s: %s asks for %s %s, and the runner has %s. Install it there (%s), or ask for an installed one", l.action, from, l.name, want, strings.Join(have, ", "), l.install))
	}
	return all[best], nil
}

// show makes an installed tool visible in the sandbox, where it is not already.
func (j *job) show(root string) {
	for _, seen := range []string{"/usr", "/opt", "/bin", "/lib"} {
		if root == seen || strings.HasPrefix(root, seen+"/") {
			return
		}
	}
	if slices.Contains(j.readOnly, root) {
		return
	}
	j.readOnly = append(j.readOnly, root)
	if j.box != nil { // opened before it was known which tools the job wants
		_ = j.box.Close()
		j.box = nil
	}
}

// wanted is the version that an input names, or that a file of the workspace does.
func (j *job) wanted(action, input, fileInput string, with map[string]string, parse func(string) string) (want, from string, err error) {
	if v := strings.TrimSpace(with[input]); v != "" || with[fileInput] == "" {
		return v, input, nil
	}
	file := with[fileInput]
	text, err := j.read(filepath.Join("workspace", filepath.FromSlash(file)), 1<<20)
	if err != nil {
		return "", "", err
	}
	if text == "" {
		return "", "", failure(fmt.Sprintf("%s: the file %s is not in the workspace; check the repository out first, or correct %s", action, file, fileInput))
	}
	return parse(text), file, nil
}

// use puts a tool before everything else on PATH, under the names that programs expect.
func (j *job) useTool(t tool, names map[string]string) error {
	j.show(t.root)
	// A folder of links, because /usr/bin holds much besides, and a version may be named python3.12 only.
	dir := "home/.tools/" + filepath.Base(t.program) + "-" + t.version
	if err := j.root.MkdirAll(dir, 0o700); err != nil {
		return failure(fmt.Sprintf("the folder %s cannot be made: %v", dir, err))
	}
	for name, target := range names {
		if _, err := os.Stat(target); err != nil {
			continue
		}
		_ = j.root.Remove(filepath.Join(dir, name))
		if err := j.root.Symlink(target, filepath.Join(dir, name)); err != nil {
			return failure(fmt.Sprintf("the link %s cannot be made: %v", name, err))
		}
	}
	j.path = append([]string{j.seen(dir)}, j.path...)
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

var engines = regexp.MustCompile(`"engines"\s*:\s*\{[^}]*"node"\s*:\s*"([^"]+)"`)

// setupNode is actions/setup-node with what is installed.
func (j *job) setupNode(_ context.Context, with, outputs map[string]string) error {
	want, from, err := j.wanted("setup-node", "node-version", "node-version-file", with, func(text string) string {
		if m := engines.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return firstLine(text)
	})
	if err != nil {
		return err
	}
	want = strings.TrimPrefix(want, "v")
	if strings.HasPrefix(want, "lts") || want == "node" || want == "current" {
		want = ""
	}
	t, err := nodeLanguage.choose(want, from)
	if err != nil {
		return err
	}
	names := map[string]string{"node": t.program}
	for _, n := range []string{"npm", "npx", "corepack"} {
		names[n] = filepath.Join(t.bin, n)
	}
	if err := j.useTool(t, names); err != nil {
		return err
	}
	outputs["node-version"], outputs["cache-hit"] = "v"+t.version, "false"
	j.log.Say("Node.js %s from %s", t.version, t.program)
	return nil
}

// setupPython is actions/setup-python with what is installed.
func (j *job) setupPython(_ context.Context, with, outputs map[string]string) error {
	want, from, err := j.wanted("setup-python", "python-version", "python-version-file", with, firstLine)
	if err != nil {
		return err
	}
	t, err := pythonLanguage.choose(strings.TrimPrefix(firstLine(want), "python-"), from)
	if err != nil {
		return err
	}
	names := map[string]string{"python": t.program, "python3": t.program}
	for _, n := range []string{"pip", "pip3"} {
		names[n] = filepath.Join(t.root, "bin", n)
	}
	if err := j.useTool(t, names); err != nil {
		return err
	}
	outputs["python-version"], outputs["python-path"], outputs["cache-hit"] = t.version, t.program, "false"
	j.env["pythonLocation"], j.env["Python3_ROOT_DIR"] = t.root, t.root
	j.log.Say("Python %s from %s", t.version, t.program)
	return nil
}

// setupJava is actions/setup-java with what is installed. Which company built it is not looked at, and said.
func (j *job) setupJava(_ context.Context, with, outputs map[string]string) error {
	want, from, err := j.wanted("setup-java", "java-version", "java-version-file", with, firstLine)
	if err != nil {
		return err
	}
	t, err := javaLanguage.choose(strings.TrimSuffix(firstLine(want), "-ea"), from)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, n := range []string{"java", "javac", "jar", "jlink", "javadoc", "keytool", "jcmd"} {
		names[n] = filepath.Join(t.root, "bin", n)
	}
	if err := j.useTool(t, names); err != nil {
		return err
	}
	j.env["JAVA_HOME"] = t.root
	outputs["version"], outputs["distribution"], outputs["path"] = t.version, with["distribution"], t.root
	j.log.Say("Java %s from %s; the distribution is the one that is installed", t.version, t.root)
	return nil
}

var nodeMajor = regexp.MustCompile(`^node(\d+)$`)

// node is the program that runs JavaScript actions: what setup-node chose does not matter to them.
func (j *job) node(using string) (string, error) {
	m := nodeMajor.FindStringSubmatch(strings.ToLower(using))
	if m == nil {
		return "", failure(fmt.Sprintf("runs.using: %s is not known; node20 and node24 are", using))
	}
	t, err := nodeLanguage.choose(">="+m[1], "runs.using")
	if err != nil {
		// Actions say the version that they were tested with. A runner that has an older one tries, and says so.
		if t, err = nodeLanguage.choose("", "runs.using"); err != nil {
			return "", err
		}
		j.log.Say("the action asks for %s and runs with Node.js %s, which is what the runner has", using, t.version)
	}
	j.show(t.root)
	return t.program, nil
}
