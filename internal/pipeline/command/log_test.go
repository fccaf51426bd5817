package command_test

import (
	"io"
	"strings"
	"testing"

	"weir/internal/pipeline"
	"weir/internal/pipeline/command"
	"weir/internal/pipeline/logs"
)

// FuzzCommandsIntoALog: however the output is cut into chunks, the log is the same, and what is no command is kept as it is.
func FuzzCommandsIntoALog(f *testing.F) {
	f.Add("plain\n::error::x\n  ::group::g\nab::c\n::add-mask::secretx\nsecretx", 5)
	f.Add("::stop-commands::T\n::error::not one\n::T::\n::notice::n", 1)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		if len(in) > 4096 {
			return
		}
		cut = min(max(cut, 0), len(in))
		run := func(parts ...string) string {
			d := logs.New(t.TempDir())
			w, err := d.Create("run_1", "job_1", 1)
			if err != nil {
				t.Fatal(err)
			}
			c := command.New(&command.Job{}, w, 1)
			for _, p := range parts {
				_, _ = c.Write([]byte(p))
			}
			c.Close()
			_ = w.Close(pipeline.Success)
			r, err := d.Open("run_1", "job_1", 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			b, _ := io.ReadAll(r)
			var out strings.Builder
			for line := range strings.Lines(string(b)) {
				l, _ := logs.Parse([]byte(strings.TrimSuffix(line, "\n")))
				out.WriteString(string(l.Tag) + l.Text + "\n")
			}
			return out.String()
		}
		whole, parts := run(in), run(in[:cut], in[cut:])
		if whole != parts {
			t.Errorf("%q cut at %d:\n%s\nwhole:\n%s", in, cut, parts, whole)
		}
	})
}
