package spec

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v4"

	"weir/internal/pipeline"
)

// Limits on one file.
const (
	MaxBytes = 512 << 10
	MaxNodes = 50_000 // after aliases are followed
	MaxDepth = 100
	MaxJobs  = 1000
	MaxSteps = 1000
)

// Parse reads the workflow at path. The workflow is nil if any diagnostic is an error.
func Parse(path string, content []byte) (w *Workflow, diags []pipeline.Diagnostic) {
	c := &checker{file: path, content: content}
	defer func() {
		if r := recover(); r != nil {
			slog.Error("workflow parser panicked", "file", path, "panic", r, "stack", string(debug.Stack())) // a file must not be able to take the server down
			w, diags = nil, append(c.diags, pipeline.Diagnostic{File: path, Line: 1, Col: 1, Severity: pipeline.Error,
				Message: "this file cannot be read as a workflow; check it with a YAML validator"})
		}
		slices.SortStableFunc(diags, func(a, b pipeline.Diagnostic) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
		})
	}()
	if len(content) > MaxBytes {
		c.errorf(Pos{1, 1}, "the file has %d bytes; a workflow may have %d. Move scripts into files of the repository", len(content), MaxBytes)
		return nil, c.diags
	}
	n, deep := nodes(content)
	if deep {
		c.errorf(Pos{1, 1}, "the file nests more than %d levels deep, or an alias contains itself; make it flatter", MaxDepth)
		return nil, c.diags
	}
	if n > MaxNodes {
		c.errorf(Pos{1, 1}, "the file unfolds to more than %d YAML nodes; use fewer or smaller aliases", MaxNodes)
		return nil, c.diags
	}
	ast, errs := actionlint.Parse(content)
	c.add(errs)
	if ast == nil || Refused(c.diags) {
		if len(c.diags) == 0 {
			c.errorf(Pos{1, 1}, "the file is empty; a workflow needs on: and jobs:")
		}
		return nil, c.diags
	}
	c.lint(content)
	w = c.workflow(ast)
	w.Source = string(content)
	if Refused(c.diags) {
		w = nil
	}
	return w, c.diags
}

// JobIDs returns the ids of the jobs that a file names, as far as it can be read: a workflow that is refused still owes its checks.
func JobIDs(content []byte) (ids []string) {
	if len(content) > MaxBytes {
		return nil
	}
	if n, deep := nodes(content); deep || n > MaxNodes {
		return nil
	}
	var file struct {
		Jobs yaml.Node `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil || file.Jobs.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(file.Jobs.Content) && len(ids) < MaxJobs; i += 2 {
		if id := jobID(file.Jobs.Content[i].Value); id != "" && len(id) <= 100 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Check returns what Parse has to say about a file, and warns of what only a
// server can find out: whether it has the mirrors that the file needs.
func Check(path string, content []byte) []pipeline.Diagnostic {
	w, diags := Parse(path, content)
	if w == nil {
		return diags
	}
	c := &checker{file: path, diags: diags}
	for _, j := range w.Jobs {
		c.rebuild(&j)
		if j.Use != nil && !strings.HasPrefix(j.Use.Path, "./") {
			c.mirror(j.Use.Pos, j.Use.Path)
		}
		for _, s := range j.Steps {
			if remote.MatchString(s.Uses) {
				c.mirror(s.Pos, s.Uses)
			}
		}
	}
	return c.diags
}

func (c *checker) mirror(p Pos, uses string) {
	parts := strings.SplitN(uses, "/", 3)
	repo, _, _ := strings.Cut(parts[0]+"/"+parts[1], "@")
	c.warnf(p, "uses: %s comes from a mirror on the server, which nothing else fetches: weir mirror add %s URL", uses, repo)
}

// Refused reports whether any diagnostic is an error.
func Refused(diags []pipeline.Diagnostic) bool {
	return slices.ContainsFunc(diags, func(d pipeline.Diagnostic) bool { return d.Severity == pipeline.Error })
}

type checker struct {
	file    string
	diags   []pipeline.Diagnostic
	content []byte
	written map[[2]string]*yaml.Node // containers by job and service, as the file has them
}

func (c *checker) errorf(p Pos, format string, args ...any) {
	d := pipeline.Diagnostic{File: c.file, Line: max(p.Line, 1), Col: max(p.Col, 1), Severity: pipeline.Error, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(c.diags, d) && len(c.diags) < 200 {
		c.diags = append(c.diags, d)
	}
}

func (c *checker) warnf(p Pos, format string, args ...any) {
	d := pipeline.Diagnostic{File: c.file, Line: max(p.Line, 1), Col: max(p.Col, 1), Severity: pipeline.Warning, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(c.diags, d) && len(c.diags) < 200 {
		c.diags = append(c.diags, d)
	}
}

// unsupported refuses a construct by name.
func (c *checker) unsupported(p *actionlint.Pos, what, todo string) {
	c.errorf(pos(p), "%s is not supported by Weir: %s", what, todo)
}

func (c *checker) add(errs []*actionlint.Error) {
	for _, e := range errs {
		if strings.Contains(e.Message, `unexpected key "cancel-timeout-minutes" for "job"`) {
			continue // it has been one for years
		}
		d := pipeline.Diagnostic{File: c.file, Line: max(e.Line, 1), Col: max(e.Column, 1), Severity: pipeline.Error, Message: e.Message}
		if key := c.vacant(e); key != "" {
			d.Severity, d.Message = pipeline.Warning, "an empty "+key+": is as good as none; remove it"
		}
		if i := strings.Index(d.Message, " in object type {"); i > 0 && len(d.Message)-i > 80 {
			d.Message = d.Message[:i] // the list of everything that exists hides what is wrong
		}
		if len(d.Message) > 600 {
			d.Message = strings.ToValidUTF8(d.Message[:600], "") + "..."
		}
		if advice(e) {
			d.Severity = pipeline.Warning
		}
		if !slices.Contains(c.diags, d) && len(c.diags) < 200 {
			c.diags = append(c.diags, d)
		}
	}
}

// nothing is an empty value of a key that GitHub takes for the key not being there.
var nothing = regexp.MustCompile(`^\s*(?:-\s+)?(if|environment):\s*(?:''|"")?\s*(?:#.*)?$`)

// vacant names the key if that is all that is wrong.
func (c *checker) vacant(e *actionlint.Error) string {
	if !strings.Contains(e.Message, "string should not be empty") && !strings.Contains(e.Message, "unexpected end of input while parsing") {
		return ""
	}
	n := 0
	for line := range bytes.Lines(c.content) {
		if n++; n == e.Line {
			if m := nothing.FindSubmatch(bytes.TrimRight(line, "\r\n")); m != nil {
				return string(m[1])
			}
			return ""
		}
	}
	return ""
}

// advice tells what is worth reading from what is wrong: GitHub runs such files, too.
func advice(e *actionlint.Error) bool {
	if e.Kind == "if-cond" || e.Kind == "deprecated-commands" || e.Kind == "credentials" {
		return true
	}
	return slices.ContainsFunc([]string{"potentially untrusted", "should not be evaluated in template", "is found in matrix", "runs too frequently",
		"its default value will never be used", "is not defined in object type", "invalid activity type", `unknown Webhook event "project`,
		`unknown Webhook event "pull_request_comment"`, `"description" for "workflow" section`, "is not in the matrix",
		"type of expression at ", `"steps" section is missing in job`, `for "image_version" section`}, func(s string) bool { return strings.Contains(e.Message, s) })
}

// lint runs the rules of actionlint that are about the language, not about GitHub's machines, marketplace or taste.
func (c *checker) lint(content []byte) {
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{
		WorkingDir: "/",
		OnRulesCreated: func(rules []actionlint.Rule) []actionlint.Rule {
			return slices.DeleteFunc(rules, func(r actionlint.Rule) bool {
				switch r.Name() {
				case "action", "runner-label", "workflow-call", "shellcheck", "pyflakes", "shell-name":
					return true
				}
				return false
			})
		},
	})
	if err != nil {
		panic(err)
	}
	errs, err := l.Lint(c.file, content, nil)
	if err != nil {
		c.errorf(Pos{1, 1}, "the file cannot be checked: %v", err)
		return
	}
	c.add(errs)
}

// nodes counts the YAML nodes that content stands for, aliases followed, up to a bit over MaxNodes. Without it a few hundred
// bytes of nested aliases would unfold to billions.
func nodes(content []byte) (n int, deep bool) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var root yaml.Node
	if err := d.Decode(&root); err != nil {
		return 0, false // the real parser says what is wrong
	}
	memo := map[*yaml.Node]int{}
	var count func(n *yaml.Node, depth int) int
	count = func(n *yaml.Node, depth int) int {
		if depth > MaxDepth {
			deep = true
			return MaxNodes + 1
		}
		if n.Kind == yaml.AliasNode {
			if n.Alias == nil {
				return 1
			}
			return count(n.Alias, depth+1)
		}
		if v, ok := memo[n]; ok {
			return v
		}
		memo[n] = MaxNodes + 1 // an alias to its own parent
		total := 1
		for _, k := range n.Content {
			if total += count(k, depth+1); total > MaxNodes {
				total = MaxNodes + 1
				break
			}
		}
		memo[n] = total
		return total
	}
	n = count(&root, 0)
	return n, deep
}

func pos(p *actionlint.Pos) Pos {
	if p == nil {
		return Pos{1, 1}
	}
	return Pos{p.Line, p.Col}
}

func text(s *actionlint.String) Text {
	if s == nil {
		return Text{}
	}
	return Text{s.Value, pos(s.Pos)}
}
