package testresult

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"weir/internal/pipeline"
)

const (
	maxXML   = 128 << 20
	maxDepth = 64
	maxToken = 4 << 20
)

// JUnit reads one file of JUnit XML, in any of the forms that test runners write. It streams: a file of a million tests needs no
// more memory than its largest message.
func (c *Collector) JUnit(name string, r io.Reader) {
	g := &guard{r: io.LimitReader(r, maxXML+1)}
	d := xml.NewDecoder(g)
	d.Strict = true
	d.CharsetReader = charset
	p := junit{c: c}
	for {
		t, err := d.Token()
		if err == io.EOF {
			break
		}
		if err == nil && g.total > maxXML {
			err = fmt.Errorf("it is longer than %d MiB", maxXML>>20)
		}
		if err == nil {
			err = p.token(t)
		}
		if err != nil {
			c.Problem("%s: %s", name, reason(err))
			break
		}
	}
	if p.seen == 0 && !p.suite {
		c.Problem("%s is not JUnit XML: it has no testsuite", name)
		return
	}
	c.Source(name)
}

func reason(err error) string {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("it is not well-formed at line %d: %s", syntax.Line, syntax.Msg)
	}
	return err.Error()
}

// guard refuses a file whose next token would be out of bounds, before the decoder holds it in memory.
type guard struct {
	r     io.Reader
	total int64
	since int // bytes since the last end of a tag
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.total += int64(n)
	if i := strings.LastIndexByte(string(p[:n]), '>'); i >= 0 {
		g.since = n - i
	} else {
		g.since += n
	}
	if g.since > maxToken {
		return 0, fmt.Errorf("one of its texts is longer than %d MiB", maxToken>>20)
	}
	return n, err
}

// charset reads the encodings that old tools declare.
func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "latin-1", "windows-1252", "iso-8859-15":
		return &latin{in: in}, nil
	}
	return nil, fmt.Errorf("its encoding %s is not read; write UTF-8", label)
}

// latin turns one byte into one letter.
type latin struct {
	in   io.Reader
	rest []byte
}

func (l *latin) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		raw := make([]byte, 4096)
		n, err := l.in.Read(raw)
		for _, b := range raw[:n] {
			l.rest = append(l.rest, string(rune(b))...)
		}
		if len(l.rest) == 0 {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// junit follows the elements of one file.
type junit struct {
	c       *Collector
	depth   int
	suites  []string
	inCase  bool
	test    pipeline.TestResult
	element string // of a test case that is read: failure, error, skipped, ...
	body    strings.Builder
	seen    int
	suite   bool
}

func (p *junit) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		if p.depth++; p.depth > maxDepth {
			return fmt.Errorf("its elements are nested deeper than %d", maxDepth)
		}
		p.start(t)
	case xml.EndElement:
		p.depth--
		p.end(t.Name.Local)
	case xml.CharData:
		if p.element != "" && p.body.Len() < maxDetail {
			p.body.Write(t[:min(len(t), maxDetail-p.body.Len())])
		}
	case xml.Directive:
		if strings.Contains(string(t[:min(len(t), 1000)]), "ENTITY") {
			return errors.New("it defines entities, which are not read")
		}
	}
	return nil
}

func attributes(e xml.StartElement) map[string]string {
	m := make(map[string]string, len(e.Attr))
	for _, a := range e.Attr {
		m[a.Name.Local] = a.Value
	}
	return m
}

func (p *junit) start(e xml.StartElement) {
	switch name := e.Name.Local; {
	case name == "testsuite":
		p.suite = true
		p.suites = append(p.suites, attributes(e)["name"])
	case name == "testsuites":
		p.suite = true
	case name == "testcase":
		a := attributes(e)
		p.seen++
		p.inCase = true
		p.test = pipeline.TestResult{Outcome: pipeline.TestPassed, File: a["file"], Duration: seconds(a["time"])}
		p.test.Name, p.test.Package = a["name"], a["classname"]
		if n := len(p.suites); n > 0 {
			p.test.Suite = p.suites[n-1]
		}
		if n, err := strconv.Atoi(a["line"]); err == nil && n > 0 && n < 1<<30 {
			p.test.Line = n
		}
	case p.inCase && p.element == "":
		a := attributes(e)
		message := a["message"]
		if message == "" {
			message = a["type"]
		}
		switch name {
		case "failure", "error":
			p.test.Outcome = pipeline.TestFailed
		case "skipped", "disabled":
			if p.test.Outcome == pipeline.TestPassed {
				p.test.Outcome = pipeline.TestSkipped
			}
		case "flakyFailure", "flakyError": // it failed, ran again and passed
			p.test.Flaky = true
		case "rerunFailure", "rerunError":
		default:
			return
		}
		if p.test.Message == "" {
			p.test.Message = message
		}
		p.element = name
		p.body.Reset()
	}
}

func (p *junit) end(name string) {
	switch {
	case p.element != "" && name == p.element:
		body := strings.TrimSpace(p.body.String())
		if p.test.Detail == "" {
			p.test.Detail = body
		}
		if p.test.Message == "" {
			p.test.Message, _, _ = strings.Cut(body, "\n")
		}
		p.element = ""
	case name == "testcase" && p.inCase:
		p.inCase, p.element = false, ""
		p.c.Add(p.test)
	case name == "testsuite" && len(p.suites) > 0:
		p.suites = p.suites[:len(p.suites)-1]
	}
}

// seconds reads "1,234.5" and "0.01".
func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
	if err != nil || !(f >= 0 && f < 1e7) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
