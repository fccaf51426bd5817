package logs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

func lines(t *testing.T, r io.Reader) (out []string) {
	t.Helper()
	s := bufio.NewScanner(r)
	for s.Scan() {
		l, ok := Parse(s.Bytes())
		if !ok {
			t.Fatalf("line %q is not of the format", s.Text())
		}
		out = append(out, string(l.Tag)+l.Text)
	}
	return out
}

func TestSecretsAreMaskedInEveryFormAcrossChunks(t *testing.T) {
	secret := "p@ss/w\"ord é1"
	forms := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)), `p@ss/w\"ord é1`}
	for shift := range 3 {
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte("ab"[:shift%3]+secret+"tail")))
	}
	for _, f := range forms {
		for cut := range len(f) {
			d := New(t.TempDir())
			w, err := d.Create("run_1", "job_1", 1)
			if err != nil {
				t.Fatal(err)
			}
			w.Mask(secret)
			fmt.Fprintf(w, "before %s", f[:cut])
			fmt.Fprintf(w, "%s after\n", f[cut:])
			if err := w.Close(pipeline.Success); err != nil {
				t.Fatal(err)
			}
			r, _ := d.Open("run_1", "job_1", 1, 0)
			got := strings.Join(lines(t, r), "\n")
			r.Close()
			for _, p := range Patterns(secret) {
				if strings.Contains(got, p) {
					t.Fatalf("%q cut at %d shows %q: %s", f, cut, p, got)
				}
			}
			if !strings.Contains(got, "***") || !strings.HasPrefix(got, "|before ") {
				t.Fatalf("%q cut at %d: %s", f, cut, got)
			}
		}
	}
}

func TestMaskLeavesEverythingElse(t *testing.T) {
	var m masker
	m.add("secret")
	m.add("secretly")
	m.add("cretaceous")
	for in, want := range map[string]string{
		"a secre b":              "a secre b",
		"secret":                 "***",
		"secretly yours":         "*** yours",
		"secretaceous!":          "***!", // overlapping: both are hidden
		"ssecretsecret":          "s***",
		"nothing here, secre":    "nothing here, secre",
		strings.Repeat("se", 50): strings.Repeat("se", 50),
	} {
		got := string(m.flush(m.write(nil, []byte(in))))
		if got != want {
			t.Errorf("mask(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestFollowSeesEverythingAndEnds(t *testing.T) {
	d := New(t.TempDir())
	// The reader is never told by others that it is over: the writer of the same process says it.
	r, err := d.Follow(t.Context(), "run_1", "job_1", 1, 0, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		w, err := d.Create("run_1", "job_1", 1)
		if err != nil {
			t.Error(err)
			return
		}
		w.Begin(pipeline.Step{Number: 1, Name: "one"})
		for i := range 1000 {
			fmt.Fprintf(w, "line %d\n", i)
		}
		io.WriteString(w, "no newline")
		w.End(pipeline.Step{Number: 1, Name: "one", State: pipeline.Success})
		w.Group("g")
		w.Group("")
		w.Annotate(pipeline.Annotation{Level: "error", Message: "m"})
		w.Close(pipeline.Success)
	}()
	got := lines(t, r)
	if len(got) != 1007 || got[1] != "|line 0" || got[1001] != "|no newline" || got[len(got)-1] != "=success" {
		t.Errorf("followed %d lines: first %v, last %v", len(got), got[:3], got[len(got)-5:])
	}
	steps, err := d.Steps("run_1", "job_1", 1)
	if err != nil || len(steps) != 1 || steps[0].State != pipeline.Success {
		t.Errorf("Steps() = %+v, %v", steps, err)
	}
	r.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) != 0 {
		t.Errorf("%d feeds are left", len(d.open))
	}
}

func TestOffsetsResume(t *testing.T) {
	d := New(t.TempDir())
	w, _ := d.Create("run_1", "job_1", 1)
	io.WriteString(w, "one\ntwo\n")
	w.Close(pipeline.Failure)
	all, _ := d.Open("run_1", "job_1", 1, 0)
	b, _ := io.ReadAll(all)
	i := int64(bytes.IndexByte(b, '\n') + 1)
	rest, err := d.Tail(context.Background(), "run_1", "job_1", 1, i, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(rest)
	rest.Close()
	if !bytes.Equal(got, b[i:]) {
		t.Errorf("from %d: %q; want %q", i, got, b[i:])
	}
}

func TestNamesCannotLeaveTheFolder(t *testing.T) {
	d := New(t.TempDir())
	for _, run := range []string{"../x", "", "a/b", "a.b"} {
		if _, err := d.Open(pipeline.RunID(run), "job_1", 1, 0); !fault.Is(err, fault.NotFound) {
			t.Errorf("Open(%q) = %v; want not found", run, err)
		}
	}
}

// FuzzMask cuts a text that holds a secret in one of its forms into writes of any lengths: no cut may show a form.
func FuzzMask(f *testing.F) {
	f.Add("s3cr3t/va\"lue", "before ", " after", uint8(3), []byte{1, 2, 3})
	f.Add("line one\nline two!", "", "\n", uint8(0), []byte{9})
	f.Add("aaaaaaaab", "aaaaaaaaaaaa", "", uint8(7), []byte{4, 4})
	f.Fuzz(func(t *testing.T, secret, before, after string, form uint8, cuts []byte) {
		patterns := Patterns(secret)
		if len(patterns) == 0 || len(secret) > 1000 || len(before)+len(after) > 10_000 {
			t.Skip()
		}
		for _, p := range patterns { // what stands around it could hold a form by chance, and *** could complete one
			if strings.Contains(p, "*") {
				t.Skip()
			}
		}
		text := before + patterns[int(form)%len(patterns)] + after
		var m masker
		m.add(secret)
		var out []byte
		rest := []byte(text)
		for _, c := range cuts {
			n := min(int(c), len(rest))
			out, rest = m.write(out, rest[:n]), rest[n:]
		}
		out = m.flush(m.write(out, rest))
		for _, p := range patterns {
			if bytes.Contains(out, []byte(p)) {
				t.Fatalf("%q cut by %v shows %q: %q", text, cuts, p, out)
			}
		}
		var whole masker
		whole.add(secret)
		if want := whole.flush(whole.write(nil, []byte(text))); !bytes.Equal(out, want) {
			t.Fatalf("%q cut by %v gives %q; in one piece %q", text, cuts, out, want)
		}
	})
}

func TestABinaryOrEndlessLineIsBoundedWithASentence(t *testing.T) {
	d := New(t.TempDir())
	w, _ := d.Create("run_1", "job_1", 1)
	long := bytes.Repeat([]byte("x"), 10<<20)
	w.Write(long)
	io.WriteString(w, "\nnext\n")
	w.Write(bytes.Repeat([]byte("\x7fELF\x00\x01\n"), 1000))
	io.WriteString(w, "text again\n")
	w.Write([]byte{0, 1, 2})
	w.Close(pipeline.Success)
	r, _ := d.Open("run_1", "job_1", 1, 0)
	got := lines(t, r)
	r.Close()
	kept := 0
	var said []string
	for _, l := range got {
		if strings.HasPrefix(l, "|xxx") {
			kept += len(l) - 1
		} else {
			said = append(said, l)
		}
	}
	want := []string{fmt.Sprintf("#%d bytes of this line are missing here: a line may have 1 MiB", 9<<20), "|next",
		"#7000 bytes of binary output are not kept; upload a file as an artifact instead", "|text again",
		"#4 bytes of binary output are not kept; upload a file as an artifact instead", "=success"}
	if kept != 1<<20 || !slices.Equal(said, want) {
		t.Errorf("kept %d of the long line, and\n%q; want\n%q", kept, said, want)
	}
}

func TestATextBesideTheLogIsMaskedToo(t *testing.T) {
	d := New(t.TempDir())
	w, _ := d.Create("run_1", "job_1", 1)
	defer w.Close(pipeline.Success)
	io.WriteString(w, "hunt")
	w.Mask("hunter22")
	if got := w.Masked("the summary has hunter22 and aHVudGVyMjI= in it"); got != "the summary has *** and ***I= in it" && got != "the summary has *** and ***= in it" {
		t.Errorf("Masked() = %q", got)
	}
	io.WriteString(w, "er22\n")
}

func TestBase64ThatAToolWrappedIsMasked(t *testing.T) {
	secret := strings.Repeat("a long secret that needs more than one line; ", 4)
	text := base64.StdEncoding.EncodeToString([]byte(secret))
	for _, width := range []int{64, 76} {
		var m masker
		m.add(secret)
		var wrapped strings.Builder
		for rest := text; rest != ""; {
			n := min(width, len(rest))
			wrapped.WriteString(rest[:n] + "\n")
			rest = rest[n:]
		}
		out := string(m.flush(m.write(nil, []byte(wrapped.String()))))
		if strings.Count(out, "***") < 3 || len(out) > 40 {
			t.Errorf("wrapped at %d it shows %q", width, out)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	d := New(b.TempDir())
	w, _ := d.Create("run_1", "job_1", 1)
	for i := range 20 {
		w.Mask(fmt.Sprintf("secret-number-%d", i))
	}
	chunk := []byte(strings.Repeat("a line of ordinary output from a build, s\n", 800))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		w.Write(chunk)
		w.size = 0
	}
	w.Close(pipeline.Success)
}
