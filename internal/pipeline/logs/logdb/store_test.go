package logdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/logs/logdb"
)

type world struct {
	root  string
	blobs blob.Store
	index *logdb.Store
	db    *db.DB
}

func open(t *testing.T, d *db.DB) world {
	t.Helper()
	if err := logdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return world{t.TempDir(), blobs, logdb.New(d), d}
}

func (w world) logs() *logs.Dir { return logs.New(w.root).Archive(w.blobs, w.index) }

func (w world) files(t *testing.T) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.root, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func ref(job string) pipeline.LogRef {
	return pipeline.LogRef{Run: "run_1", Job: pipeline.JobID(job), Attempt: 1}
}

func text(t *testing.T, d *logs.Dir, r pipeline.LogRef, offset int64) string {
	t.Helper()
	in, err := d.Open(r.Run, r.Job, r.Attempt, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// line is long enough that 20 MB are not too many of them.
func line(i int) string { return fmt.Sprintf("%07d %s", i, strings.Repeat("abcdefghij", 20)) }

func TestASealedLogReadsAsItWasWritten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		l := w.logs()
		out, err := l.Begin("run_1", "job_1", 1)
		if err != nil {
			t.Fatal(err)
		}
		const n = 100_000
		out.Begin(pipeline.Step{Number: 1, Name: "one"})
		for i := range n {
			fmt.Fprintln(out, line(i))
			if i == n/2 {
				if err := l.Seal(t.Context()); err != nil { // while it grows
					t.Fatal(err)
				}
			}
		}
		out.Annotate(pipeline.Annotation{Level: "error", Message: "the needle broke"})
		out.End(pipeline.Step{Number: 1, Name: "one", State: pipeline.Failure})
		if err := out.Close(pipeline.Failure); err != nil {
			t.Fatal(err)
		}
		before, outline := text(t, l, ref("job_1"), 0), must(l.Outline(t.Context(), ref("job_1")))
		if left := w.files(t); len(left) == 0 || len(before) < 20<<20 {
			t.Fatalf("%d files, %d bytes; want what is not sealed yet", len(left), len(before))
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := w.files(t); len(left) != 0 {
			t.Errorf("files are left: %v", left)
		}
		if after := text(t, l, ref("job_1"), 0); after != before {
			t.Errorf("sealing changed the log: %d bytes, before %d", len(after), len(before))
		}
		at := int64(len(before)) * 2 / 3
		if got := text(t, l, ref("job_1"), at); got != before[at:] {
			t.Errorf("from offset %d it reads otherwise", at)
		}
		got := must(l.Outline(t.Context(), ref("job_1")))
		if !reflect.DeepEqual(got, outline) || got.Lines != n+4 || !got.Ended || len(got.Steps) != 1 || got.Steps[0].State != pipeline.Failure || len(got.Errors) != 1 || got.Errors[0] != n+2 {
			t.Errorf("Outline() = %+v\nbefore sealing %+v", got, outline)
		}
		for _, from := range []int64{1, 2, 4711, 50_000, 99_999, n + 1} {
			lines := must(l.Lines(t.Context(), ref("job_1"), from, 3))
			if len(lines) != 3 || lines[0].Number != from || lines[1].Kind == pipeline.LogOutput && from > 1 && lines[1].Text != line(int(from)-1) {
				t.Errorf("Lines(%d) = %+v", from, lines)
			}
		}
		for q, want := range map[string]int64{"0099998": n, "NEEDLE": n + 2, "^0000007 ": 9} {
			m := must(l.Search(t.Context(), ref("job_1"), pipeline.LogQuery{Text: q, Regexp: q[0] == '^'}))
			if len(m.Matches) != 1 || m.Matches[0].Number != want || m.Next != 0 {
				t.Errorf("Search(%s) = %+v; want line %d", q, m, want)
			}
		}
		m := must(l.Search(t.Context(), ref("job_1"), pipeline.LogQuery{Text: "abc", Limit: 10, From: 500}))
		if len(m.Matches) != 10 || m.Matches[0].Number != 500 || m.Next != 510 {
			t.Errorf("a bounded Search() goes on from %d after %d matches", m.Next, len(m.Matches))
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// halting fails the n-th time that something is stored, as a crash would.
type halting struct {
	logs.Index
	blob.Store
	left *int
}

var errHalt = errors.New("halted")

func (h halting) Put(ctx context.Context, r io.Reader) (blob.Digest, int64, error) {
	if *h.left--; *h.left == 0 {
		return "", 0, errHalt
	}
	return h.Store.Put(ctx, r)
}

func (h halting) Record(ctx context.Context, c []logs.Chunk, o map[pipeline.LogRef]pipeline.LogOutline, now time.Time) error {
	if *h.left--; *h.left == 0 {
		return errHalt
	}
	err := h.Index.Record(ctx, c, o, now)
	if *h.left--; *h.left == 0 { // recorded, and then the process ends
		return errors.Join(err, errHalt)
	}
	return err
}

func TestSealingThatIsCutShortLosesAndDoublesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for round := range 12 { // logs that go on, and new ones
			at := round/2 + 1
			w := open(t, d)
			run := pipeline.RunID(fmt.Sprintf("run_%d", round))
			left := at
			h := halting{w.index, w.blobs, &left}
			l := logs.New(w.root).Archive(h, h)
			create := l.Create
			if round%2 == 1 {
				create = l.Begin
			}
			for job := range 3 {
				if job == 2 { // whose process was killed
					var b strings.Builder
					for i := range 1000 {
						fmt.Fprintf(&b, "%d | %s\n", i, line(i))
					}
					if err := os.WriteFile(filepath.Join(w.root, string(run), fmt.Sprintf("job_%d2.1.log", round)), []byte(b.String()), 0o600); err != nil {
						t.Fatal(err)
					}
					continue
				}
				out := must(create(run, pipeline.JobID(fmt.Sprintf("job_%d%d", round, job)), 1))
				for i := range []int{45_000, 1000}[job] {
					fmt.Fprintln(out, line(i))
				}
				out.Close(pipeline.Success)
			}
			want := map[pipeline.JobID]string{}
			for job := range 3 {
				id := pipeline.JobID(fmt.Sprintf("job_%d%d", round, job))
				want[id] = text(t, l, pipeline.LogRef{Run: run, Job: id, Attempt: 1}, 0)
			}
			if err := l.Seal(t.Context()); !errors.Is(err, errHalt) {
				t.Fatalf("at %d: Seal() = %v; want it to be cut short", at, err)
			}
			again := w.logs() // the next process
			for id, text0 := range want {
				if got := text(t, again, pipeline.LogRef{Run: run, Job: id, Attempt: 1}, 0); got != text0 {
					t.Fatalf("at %d, before sealing again: %s has %d bytes; want %d", at, id, len(got), len(text0))
				}
			}
			if err := again.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			for id, text0 := range want {
				if got := text(t, again, pipeline.LogRef{Run: run, Job: id, Attempt: 1}, 0); got != text0 {
					t.Fatalf("at %d: %s has %d bytes; want %d", at, id, len(got), len(text0))
				}
			}
			if f := w.files(t); len(f) != 0 {
				t.Errorf("at %d: files are left: %v", at, f)
			}
		}
	})
}

func TestAFollowerReadsThroughSealing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		l := w.logs()
		in, err := l.Follow(t.Context(), "run_1", "job_1", 1, 0, func() bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		go func() {
			out := must(l.Create("run_1", "job_1", 1))
			for i := range 90_000 {
				fmt.Fprintln(out, line(i))
				if i%20_000 == 0 {
					_ = l.Seal(context.Background())
				}
			}
			out.Close(pipeline.Success)
			_ = l.Seal(context.Background())
		}()
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("\n")); n != 90_001 || string(b) != text(t, l, ref("job_1"), 0) {
			t.Errorf("followed %d lines; want 90001, as they are stored", n)
		}
	})
}

func TestALogThatWasInterruptedGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		if err := os.MkdirAll(filepath.Join(w.root, "run_1"), 0o700); err != nil {
			t.Fatal(err)
		}
		torn := "1000000 | one\n2000000 | tw"
		if err := os.WriteFile(filepath.Join(w.root, "run_1", "job_1.1.log"), []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		l := w.logs()
		resume := func(word string) {
			t.Helper()
			out := must(l.Create("run_1", "job_1", 1))
			fmt.Fprintln(out, word)
			out.Close(pipeline.Success)
		}
		resume("three")
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		resume("four")
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range must(l.Lines(t.Context(), ref("job_1"), 1, 0)) {
			got = append(got, x.Text)
		}
		if want := []string{"one", "tw", "three", "success", "four", "success"}; !reflect.DeepEqual(got, want) {
			t.Errorf("lines %q; want %q", got, want)
		}
	})
}

func TestARemovedLogSaysSoAndItsBytesAreGone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		l := w.logs()
		for _, run := range []pipeline.RunID{"run_1", "run_2"} { // sealed into one blob
			out := must(l.Create(run, "job_1", 1))
			fmt.Fprintln(out, "hello")
			out.Close(pipeline.Success)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		chunk := must(w.index.Chunks(t.Context(), ref("job_1")))[0]
		remove := func(run pipeline.RunID, wantCleared int) {
			t.Helper()
			at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
			if err := d.Write(t.Context(), func(tx *db.Tx) error { return w.index.Remove(t.Context(), tx, []pipeline.RunID{run}, at) }); err != nil {
				t.Fatal(err)
			}
			if n := must(w.index.Clear(t.Context(), w.blobs)); n != wantCleared {
				t.Errorf("after %s: %d blobs deleted; want %d", run, n, wantCleared)
			}
		}
		remove("run_2", 0)
		if got := text(t, l, ref("job_1"), 0); !strings.Contains(got, "hello") {
			t.Errorf("the log of another run is damaged: %q", got)
		}
		remove("run_1", 1)
		if _, err := w.blobs.Stat(t.Context(), chunk.Blob); !fault.Is(err, fault.NotFound) {
			t.Errorf("the bytes are still there: %v", err)
		}
		_, err := l.Open("run_1", "job_1", 1, 0)
		if !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "was removed on 2026-11-02") {
			t.Errorf("Open() = %v; want when it was removed", err)
		}
	})
}

func TestADamagedChunkIsNotShown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		other, _, err := w.blobs.Put(t.Context(), strings.NewReader(strings.Repeat("x", 100)))
		if err != nil {
			t.Fatal(err)
		}
		c := logs.Chunk{Ref: ref("job_1"), Bytes: 50, Line: 1, Lines: 1, Blob: other, Stored: 100}
		if err := w.index.Record(t.Context(), []logs.Chunk{c}, map[pipeline.LogRef]pipeline.LogOutline{ref("job_1"): {Bytes: 50, Lines: 1}}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.logs().Lines(t.Context(), ref("job_1"), 1, 1); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("Lines() = %v; want it named as damaged", err)
		}
	})
}
