package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"weir/internal/pipeline/expr"
)

// install says how to get the tools that jobs use most.
var install = map[string]string{
	"bash": "apt-get install bash", "git": "apt-get install git", "python3": "apt-get install python3", "python": "apt-get install python-is-python3",
	"go": "see https://go.dev/doc/install, or apt-get install golang", "node": "apt-get install nodejs", "npm": "apt-get install npm", "make": "apt-get install make",
	"gcc": "apt-get install gcc", "curl": "apt-get install curl", "jq": "apt-get install jq", "docker": "Weir builds images without Docker; see artifact.build in weir.yaml",
	"zip": "apt-get install zip", "unzip": "apt-get install unzip", "tar": "apt-get install tar", "sh": "apt-get install dash",
}

// missing is the sentence for a tool that the runner does not have.
func missing(tool string) string {
	how, ok := install[tool]
	if !ok {
		how = "install it on the machine that runs Weir"
	}
	return fmt.Sprintf("the runner has no %s. Install it there: %s", tool, how)
}

// toolchain is the Go installation that jobs use: what setup-go chose, else the one on Weir's own PATH.
func (j *job) toolchain() string {
	if j.goroot != "" {
		return j.goroot
	}
	if all := toolchains(); len(all) > 0 {
		return all[0].root
	}
	return ""
}

type golang struct {
	root    string
	version string // "1.26.8"
}

// toolchains lists what is installed: on PATH first, then in the usual places.
var toolchains = sync.OnceValue(func() []golang {
	var roots []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "go")); err == nil {
			roots = append(roots, filepath.Dir(filepath.Dir(real)))
		}
	}
	home, _ := os.UserHomeDir()
	for _, pattern := range []string{"/usr/local/go", "/usr/local/go1*", "/usr/lib/go-1*", "/opt/go*", filepath.Join(home, "sdk", "go1*")} {
		found, _ := filepath.Glob(pattern)
		roots = append(roots, found...)
	}
	var all []golang
	for _, root := range roots {
		if real, err := filepath.EvalSymlinks(root); err == nil {
			root = real
		}
		if slices.ContainsFunc(all, func(g golang) bool { return g.root == root }) {
			continue
		}
		if _, err := exec.LookPath(filepath.Join(root, "bin", "go")); err != nil {
			continue
		}
		if v := versionOf(root); v != "" {
			all = append(all, golang{root, v})
		}
	}
	return all
})

func versionOf(root string) string {
	b, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	v, ok := strings.CutPrefix(strings.TrimSpace(line), "go")
	if !ok {
		return ""
	}
	return v
}

var directive = regexp.MustCompile(`(?m)^(toolchain\s+go|go\s+)([0-9][0-9a-zA-Z.]*)`)

// setupGo chooses an installed toolchain. It never downloads one.
func (j *job) setupGo(ctx context.Context, with, outputs map[string]string) error {
	want, from := strings.TrimSpace(with["go-version"]), "go-version"
	least := false
	if file := with["go-version-file"]; want == "" && file != "" {
		text, err := j.read(filepath.Join("workspace", filepath.FromSlash(file)), 1<<20)
		if err != nil {
			return err
		}
		if text == "" {
			return failure(fmt.Sprintf("setup-go: the file %s is not in the workspace; check the repository out first, or correct go-version-file", file))
		}
		from = file
		if m := directive.FindAllStringSubmatch(text, -1); m != nil {
			want, least = m[len(m)-1][2], true
		} else {
			want = strings.TrimPrefix(strings.TrimSpace(text), "go")
		}
	}
	all := toolchains()
	if len(all) == 0 {
		return failure(missing("go"))
	}
	var best *golang
	for i := range all {
		if satisfies(all[i].version, want, least) && (best == nil || want != "" && compare(all[i].version, best.version) > 0) {
			best = &all[i]
		}
	}
	if best == nil {
		var have []string
		for _, g := range all {
			have = append(have, g.version)
		}
		return failure(fmt.Sprintf("setup-go: %s asks for Go %s, and the runner has %s. Install it under /usr/local/go%s, or ask for an installed one",
			from, want, strings.Join(have, ", "), want))
	}
	j.goroot = best.root
	j.show(best.root)
	outputs["go-version"], outputs["cache-hit"] = best.version, "true"
	j.log.Say("go %s %s/%s from %s", best.version, runtime.GOOS, runtime.GOARCH, best.root)
	return ctx.Err()
}

// satisfies reports whether version meets what was asked: "1.26", "1.26.x", "^1.25", "~1.25.3", ">=1.24 <1.27", "stable", "".
func satisfies(version, want string, least bool) bool {
	if want == "" || want == "stable" || want == "oldstable" || want == "latest" {
		return true
	}
	if least {
		return compare(version, want) >= 0
	}
	for alternative := range strings.SplitSeq(want, "||") {
		all := true
		for w := range strings.FieldsSeq(alternative) {
			all = all && one(version, w)
		}
		if all {
			return true
		}
	}
	return false
}

func one(version, w string) bool {
	for _, op := range []string{">=", "<=", ">", "<", "="} {
		if rest, ok := strings.CutPrefix(w, op); ok {
			c := compare(version, rest)
			switch op {
			case ">=":
				return c >= 0
			case "<=":
				return c <= 0
			case ">":
				return c > 0
			case "<":
				return c < 0
			}
			return prefix(version, rest)
		}
	}
	if rest, ok := strings.CutPrefix(w, "^"); ok {
		return compare(version, rest) >= 0 && numbers(version)[0] == numbers(rest)[0]
	}
	if rest, ok := strings.CutPrefix(w, "~"); ok {
		v, r := numbers(version), numbers(rest)
		return compare(version, rest) >= 0 && v[0] == r[0] && v[1] == r[1]
	}
	return prefix(version, w)
}

func prefix(version, w string) bool {
	v, parts := strings.Split(version, "."), strings.Split(strings.TrimPrefix(w, "go"), ".")
	for i, p := range parts {
		if p == "x" || p == "X" || p == "*" {
			return true
		}
		if i >= len(v) || v[i] != p {
			return false
		}
	}
	return true
}

func numbers(v string) (n [3]int) {
	v = strings.TrimPrefix(v, "go")
	for i, p := range strings.SplitN(v, ".", 3) {
		digits := strings.TrimRightFunc(p, func(r rune) bool { return r < '0' || r > '9' })
		if k := strings.IndexFunc(p, func(r rune) bool { return r < '0' || r > '9' }); k >= 0 {
			digits = p[:k]
		}
		n[i], _ = strconv.Atoi(digits)
	}
	return n
}

func compare(a, b string) int {
	x, y := numbers(a), numbers(b)
	return slices.Compare(x[:], y[:])
}

// inputs fills in the with: of a built-in.
func (j *job) inputs(with map[string]string, fr *frame, c *expr.Object) (map[string]string, error) {
	out, err := j.fill(with, fr, c)
	if err != nil {
		return nil, failure("its with: could not be computed: " + err.Error())
	}
	return out, nil
}
