package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// fold makes an outline of lines as they come.
type fold struct{ out pipeline.LogOutline }

// take adds one line, without its newline.
func (f *fold) take(line []byte) {
	o := &f.out
	o.Lines++
	o.Bytes += int64(len(line)) + 1
	if n := len(o.Steps); n > 0 {
		o.Steps[n-1].To = o.Lines
	}
	i := bytes.IndexByte(line, ' ')
	if i < 0 || len(line) < i+3 {
		return
	}
	tag, text := line[i+1], line[i+3:]
	switch tag {
	case TagOutput:
		if failing(text) {
			f.fails()
		}
	case TagBegin, TagEnd:
		f.step(line)
	case TagGroup:
		f.endGroup()
		if len(o.Groups) < pipeline.MaxLogGroups {
			o.Groups = append(o.Groups, pipeline.LogGroup{Title: string(text[:min(len(text), 200)]), From: o.Lines})
		}
	case TagEndGroup:
		f.endGroup()
	case TagAnnotation:
		if bytes.Contains(text, []byte(`"level":"error"`)) {
			f.fails()
		}
	case TagDone:
		f.endGroup()
		o.Ended = true
	}
}

func (f *fold) fails() {
	if len(f.out.Errors) < pipeline.MaxLogErrors {
		f.out.Errors = append(f.out.Errors, f.out.Lines)
	}
}

func (f *fold) endGroup() {
	if n := len(f.out.Groups); n > 0 && f.out.Groups[n-1].To == 0 {
		f.out.Groups[n-1].To = f.out.Lines
	}
}

func (f *fold) step(line []byte) {
	o := &f.out
	l, ok := Parse(line)
	var s pipeline.Step
	if !ok || json.Unmarshal([]byte(l.Text), &s) != nil {
		return
	}
	f.endGroup()
	if l.Tag == TagBegin {
		s.State, s.Started = pipeline.Running, l.Time
		o.Steps = append(o.Steps, pipeline.LogStep{Step: s, From: o.Lines, To: o.Lines})
	} else if n := len(o.Steps); n > 0 && o.Steps[n-1].Number == s.Number {
		o.Steps[n-1].Step = s
	} else {
		o.Steps = append(o.Steps, pipeline.LogStep{Step: s, From: o.Lines, To: o.Lines})
	}
}

// failing reports whether a line of output says by its form that something failed.
func failing(text []byte) bool {
	if len(text) > 0 && text[0] == 0x1b { // colours before the words
		if i := bytes.IndexByte(text, 'm'); i > 0 && i < 12 {
			text = text[i+1:]
		}
	}
	text = bytes.TrimLeft(text, " \t")
	for _, p := range [][]byte{[]byte("--- FAIL"), []byte("FAIL\t"), []byte("panic: "), []byte("Error:"), []byte("ERROR:"), []byte("error:"), []byte("fatal:"), []byte("AssertionError")} {
		if bytes.HasPrefix(text, p) {
			return true
		}
	}
	return len(text) == 4 && string(text) == "FAIL"
}

func (f *fold) clone() *fold {
	c := *f
	c.out.Steps, c.out.Groups, c.out.Errors = slices.Clone(c.out.Steps), slices.Clone(c.out.Groups), slices.Clone(c.out.Errors)
	return &c
}

// Outline implements pipeline.LogReader. What is sealed is known; the rest is read once and, while somebody writes or follows,
// remembered.
func (d *Dir) Outline(ctx context.Context, ref pipeline.LogRef) (pipeline.LogOutline, error) {
	base, err := d.base(ref)
	if err != nil {
		return pipeline.LogOutline{}, err
	}
	var f *fold
	d.mu.Lock()
	if feed := d.open[base]; feed != nil && feed.fold != nil {
		f = feed.fold.clone()
	}
	d.mu.Unlock()
	if f == nil {
		f = &fold{}
		if d.index != nil {
			if f.out, _, err = d.index.Outline(ctx, ref); err != nil {
				return f.out, err
			}
		}
	}
	if f.out.Ended {
		return f.out, nil
	}
	if err := d.scan(ctx, ref, f.out.Bytes, func(line []byte) bool { f.take(line); return true }); err != nil {
		return f.out, err
	}
	if f.out.Lines == 0 {
		c, err := d.cursor(ctx, ref, 0)
		if err != nil {
			return f.out, err
		}
		defer c.Close()
		return f.out, c.exists()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if feed := d.open[base]; feed != nil {
		feed.fold = f.clone()
	}
	return f.out, nil
}

// Steps returns the steps that a log shows so far.
func (d *Dir) Steps(run pipeline.RunID, job pipeline.JobID, attempt int) ([]pipeline.Step, error) {
	o, err := d.Outline(context.Background(), pipeline.LogRef{Run: run, Job: job, Attempt: attempt})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	steps := make([]pipeline.Step, len(o.Steps))
	for i, s := range o.Steps {
		steps[i] = s.Step
	}
	return steps, err
}
