package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"weir/internal/pipeline"
)

// Bounds on matchers.
const (
	maxMatchers    = 20
	maxPatterns    = 10
	maxMatcherFile = 256 << 10
	maxMatchLine   = 4096
)

// matcher finds problems in output: one pattern for each line that describes one, the last of which may repeat.
type matcher struct {
	owner    string
	severity string
	patterns []linePattern
	at       int // how many patterns have matched so far
	problem  pipeline.Annotation
}

type linePattern struct {
	re                                                  *regexp.Regexp
	file, line, column, severity, code, message, folder int
	loop                                                bool
}

// matcherFile is the JSON of ::add-matcher::, as GitHub documents it.
type matcherFile struct {
	ProblemMatcher []struct {
		Owner    string `json:"owner"`
		Severity string `json:"severity"`
		Pattern  []struct {
			Regexp   string `json:"regexp"`
			File     int    `json:"file"`
			Line     int    `json:"line"`
			Column   int    `json:"column"`
			Severity int    `json:"severity"`
			Code     int    `json:"code"`
			Message  int    `json:"message"`
			FromPath int    `json:"fromPath"`
			Loop     bool   `json:"loop"`
		} `json:"pattern"`
	} `json:"problemMatcher"`
}

func (s *Stream) addMatcher(file string) {
	if s.job.Open == nil {
		s.warn("the matchers of " + file + " cannot be added: this job has no workspace")
		return
	}
	raw, err := s.job.Open(file)
	if err == nil {
		err = s.job.add(raw)
	}
	if err != nil {
		s.warn(fmt.Sprintf("the problem matchers of %s cannot be used: %v", file, err))
	}
}

// add reads matchers. One with the name of another takes its place.
func (j *Job) add(raw []byte) error {
	if len(raw) > maxMatcherFile {
		return fmt.Errorf("the file has %d bytes; %d are allowed", len(raw), maxMatcherFile)
	}
	var f matcherFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("it is not the JSON of problem matchers: %w", err)
	}
	if len(f.ProblemMatcher) == 0 {
		return errors.New("it names no problemMatcher")
	}
	for _, d := range f.ProblemMatcher {
		m := &matcher{owner: d.Owner, severity: d.Severity}
		if d.Owner == "" || len(d.Pattern) == 0 || len(d.Pattern) > maxPatterns {
			return fmt.Errorf("a matcher needs an owner and from 1 to %d patterns", maxPatterns)
		}
		for i, p := range d.Pattern {
			re, err := regexp.Compile(p.Regexp)
			if err != nil {
				return fmt.Errorf("pattern %d of %s is not understood: %w; Weir reads RE2 syntax, which has no lookahead and no backreferences", i+1, d.Owner, err)
			}
			for _, group := range []int{p.File, p.Line, p.Column, p.Severity, p.Code, p.Message, p.FromPath} {
				if group < 0 || group > re.NumSubexp() {
					return fmt.Errorf("pattern %d of %s has no group %d", i+1, d.Owner, group)
				}
			}
			if p.Loop && (i != len(d.Pattern)-1 || i == 0) {
				return fmt.Errorf("pattern %d of %s may not loop: only the last of several may", i+1, d.Owner)
			}
			m.patterns = append(m.patterns, linePattern{re, p.File, p.Line, p.Column, p.Severity, p.Code, p.Message, p.FromPath, p.Loop})
		}
		if last := m.patterns[len(m.patterns)-1]; last.message == 0 {
			return fmt.Errorf("the last pattern of %s needs a message", d.Owner)
		}
		j.remove(d.Owner)
		if len(j.matchers) >= maxMatchers {
			return fmt.Errorf("a job may have %d matchers", maxMatchers)
		}
		j.matchers = append(j.matchers, m)
	}
	return nil
}

func (j *Job) remove(owner string) {
	kept := j.matchers[:0]
	for _, m := range j.matchers {
		if m.owner != owner {
			kept = append(kept, m)
		}
	}
	j.matchers = kept
}

func (s *Stream) removeMatcher(owner, file string) {
	if owner != "" {
		s.job.remove(owner)
		return
	}
	if s.job.Open == nil {
		return
	}
	var f matcherFile
	if raw, err := s.job.Open(file); err == nil && json.Unmarshal(raw, &f) == nil {
		for _, m := range f.ProblemMatcher {
			s.job.remove(m.Owner)
		}
	}
}

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// match shows one line of output to the matchers. The first that is done with a problem takes the line.
func (s *Stream) match(line []byte) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) > maxMatchLine || s.found >= MaxNotes {
		return
	}
	if bytes.IndexByte(line, 0x1b) >= 0 {
		line = colour.ReplaceAll(line, nil)
	}
	for _, m := range s.job.matchers {
		if a, ok := m.take(string(line)); ok {
			s.found++
			s.annotate(a)
			return
		}
	}
}

// take moves a matcher by one line and returns the problem that the line completes.
func (m *matcher) take(line string) (pipeline.Annotation, bool) {
	last := len(m.patterns) - 1
	if m.at > last { // the last pattern repeats
		if !m.patterns[last].loop {
			m.at = 0
		} else if a, ok := m.apply(last, line); ok {
			return a, true
		}
		m.at = 0
	}
	g := m.patterns[m.at].re.FindStringSubmatch(line)
	if g == nil {
		if m.at == 0 {
			return pipeline.Annotation{}, false
		}
		m.at = 0 // the lines do not belong together; this one may begin another problem
		return m.take(line)
	}
	if m.at == 0 {
		m.problem = pipeline.Annotation{}
	}
	if m.at == last {
		a, _ := m.apply(last, line)
		m.at++
		return a, true
	}
	m.fill(&m.problem, m.at, g)
	m.at++
	return pipeline.Annotation{}, false
}

// apply completes a problem with pattern i, leaving what the lines before said for the next.
func (m *matcher) apply(i int, line string) (pipeline.Annotation, bool) {
	g := m.patterns[i].re.FindStringSubmatch(line)
	if g == nil {
		return pipeline.Annotation{}, false
	}
	a := m.problem
	m.fill(&a, i, g)
	switch strings.ToLower(a.Level) {
	case "warning", "notice":
		a.Level = strings.ToLower(a.Level)
	case "info":
		a.Level = "notice"
	case "":
		a.Level = "error"
		if sev := strings.ToLower(m.severity); sev == "warning" || sev == "notice" {
			a.Level = sev
		}
	default:
		a.Level = "error"
	}
	return a, true
}

func (m *matcher) fill(a *pipeline.Annotation, i int, g []string) {
	p := m.patterns[i]
	text := func(group int) string {
		if group == 0 {
			return ""
		}
		return strings.TrimSpace(g[group])
	}
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&a.File, text(p.file))
	if from := text(p.folder); from != "" && a.File != "" && !path.IsAbs(a.File) {
		a.File = path.Join(path.Dir(from), a.File)
	}
	if n, err := strconv.Atoi(text(p.line)); err == nil {
		a.Line = n
	}
	if n, err := strconv.Atoi(text(p.column)); err == nil {
		a.Col = n
	}
	set(&a.Level, text(p.severity))
	set(&a.Title, text(p.code))
	set(&a.Message, text(p.message))
}
