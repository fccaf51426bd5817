package testdb_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/testresult"
	"weir/internal/pipeline/testresult/testdb"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, d *db.DB) *testdb.Store {
	t.Helper()
	if err := testdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return testdb.New(d)
}

func attempt(run string, number int) testresult.Attempt {
	return testresult.Attempt{Org: "default", RepositoryID: "repo_1", Workflow: "ci.yml", RunID: pipeline.RunID(run), JobID: pipeline.JobID("job_" + run), Job: "test",
		Number: number, Revision: "rev of " + run, Trust: pipeline.Landed, At: now.Add(time.Duration(number) * time.Second)}
}

func results(c *testresult.Collector, add ...pipeline.TestResult) (pipeline.TestReport, []pipeline.TestResult) {
	for _, r := range add {
		c.Add(r)
	}
	return c.Report()
}

func result(name string, o pipeline.TestOutcome, took time.Duration) pipeline.TestResult {
	r := pipeline.TestResult{Outcome: o, Duration: took}
	r.Package, r.Name = "pkg", name
	return r
}

func put(t *testing.T, s *testdb.Store, a testresult.Attempt, add ...pipeline.TestResult) {
	t.Helper()
	report, all := results(testresult.NewCollector(testresult.Scope{RepositoryID: "repo_1", Workflow: "ci.yml", Job: "test"}), add...)
	for range 2 { // as after a crash
		if err := s.Put(t.Context(), a, report, all); err != nil {
			t.Fatal(err)
		}
	}
}

func names(all []pipeline.TestResult) (out []string) {
	for _, r := range all {
		out = append(out, r.Name+" "+string(r.Outcome))
	}
	return out
}

func TestFailuresComeFirstAndTheLatestAttemptCounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		put(t, s, attempt("run_1", 1), result("TestA", pipeline.TestFailed, 1))
		broken := result("Test_C", pipeline.TestFailed, time.Millisecond)
		broken.Message, broken.File, broken.Line, broken.LogLine = "it broke\nhere", "c_test.go", 7, 99
		put(t, s, attempt("run_1", 2), result("TestA", pipeline.TestPassed, time.Second), result("TestB", pipeline.TestPassed, 2*time.Second), broken, result("TestD", pipeline.TestSkipped, 0))
		reports, err := s.Reports(t.Context(), "run_1")
		if err != nil || len(reports) != 1 || reports[0].Attempt != 2 || reports[0].Count.Failed != 1 || reports[0].Count.Total != 4 || reports[0].Job != "test" {
			t.Fatalf("Reports() = %+v, %v", reports, err)
		}
		all, err := s.Results(t.Context(), "run_1", pipeline.TestFilter{Limit: 10})
		if want := []string{"Test_C failed", "TestD skipped", "TestB passed", "TestA passed"}; err != nil || !reflect.DeepEqual(names(all), want) {
			t.Errorf("Results() = %q, %v; want %q", names(all), err, want)
		}
		if r := all[0]; r.Message != "it broke\nhere" || r.File != "c_test.go" || r.Line != 7 || r.LogLine != 99 || r.Revision != "rev of run_1" || r.Attempt != 2 || r.Duration != time.Millisecond || r.Job != "test" {
			t.Errorf("a result comes back as %+v", r)
		}
		for text, want := range map[string]int{"test_c": 1, "_": 1, "%": 0, "pkg testa": 1, "TEST": 4} {
			if got, err := s.Results(t.Context(), "run_1", pipeline.TestFilter{Limit: 10, Text: text}); err != nil || len(got) != want {
				t.Errorf("%q finds %q, %v; want %d", text, names(got), err, want)
			}
		}
		if got, err := s.Results(t.Context(), "run_1", pipeline.TestFilter{Limit: 2, Offset: 1, Outcome: pipeline.TestPassed}); err != nil || len(got) != 1 {
			t.Errorf("the second page has %q, %v", names(got), err)
		}
	})
}

func TestHistoryGoesOverRunsAndAttempts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		put(t, s, attempt("run_1", 1), result("TestA", pipeline.TestFailed, 1))
		put(t, s, attempt("run_1", 2), result("TestA", pipeline.TestPassed, 1))
		put(t, s, attempt("run_2", 3), result("TestA", pipeline.TestFailed, 1), result("TestB", pipeline.TestPassed, 1))
		key := testresult.Scope{RepositoryID: "repo_1", Workflow: "ci.yml", Job: "test"}.Key("", "pkg", "TestA")
		test, all, err := s.History(t.Context(), key, 10)
		if err != nil || test.Name != "TestA" || !reflect.DeepEqual(names(all), []string{"TestA failed", "TestA passed", "TestA failed"}) || all[1].Attempt != 2 || all[0].RunID != "run_2" {
			t.Errorf("History() = %+v %q, %v", test, names(all), err)
		}
		some, err := s.Histories(t.Context(), []string{key}, 2)
		if err != nil || len(some[key]) != 2 || some[key][0].Outcome != pipeline.TestFailed {
			t.Errorf("Histories() = %+v, %v", some, err)
		}
		if _, _, err := s.History(t.Context(), "nothing", 1); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "There is no test nothing") {
			t.Errorf("History() of nothing = %v", err)
		}
	})
}

func TestThousandsOfTestsAreStored(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		var all []pipeline.TestResult
		for i := range 5000 {
			all = append(all, result(fmt.Sprintf("Test%d", i), pipeline.TestPassed, 1))
		}
		put(t, s, attempt("run_1", 1), all...)
		got, err := s.Results(t.Context(), "run_1", pipeline.TestFilter{Limit: 1000, Offset: 4900})
		if err != nil || len(got) != 100 {
			t.Errorf("the last page has %d, %v", len(got), err)
		}
	})
}

// found is a run with artifacts.
type found struct{ artifacts []pipeline.Artifact }

func (f found) Load(context.Context, pipeline.RunID) (pipeline.Run, error) {
	return pipeline.Run{}, nil
}
func (f found) Artifacts(context.Context, pipeline.RunID) ([]pipeline.Artifact, error) {
	return f.artifacts, nil
}

func TestResultsAreReadFromArtifactsAndLogs(t *testing.T) {
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{
		"out/junit.xml": `<testsuite name="js"><testcase name="adds one" classname="cart"><failure message="no"/></testcase></testsuite>`,
		"broken.xml":    "<testsuite",
		"notes.txt":     "not a report",
		"go.json":       `{"Action":"pass","Package":"a","Test":"TestA","Elapsed":1}` + "\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
	}
	w.Close()
	digest, _, err := blobs.Put(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	l := logs.New(t.TempDir())
	out, _ := l.Create("run_1", "job_1", 1)
	fmt.Fprintln(out, "running\n  ✗ cart adds one\n{\"Action\":\"pass\",\"Package\":\"b\",\"Test\":\"TestB\"}")
	out.Close(pipeline.Failure)
	read := func(artifacts ...pipeline.Artifact) (pipeline.TestReport, []pipeline.TestResult) {
		t.Helper()
		r := &testresult.Reader{Runs: found{artifacts}, Logs: l, Blobs: blobs}
		c, err := r.Read(t.Context(), testresult.Scope{}, "run_1", "job_1", 1, now)
		if err != nil {
			t.Fatal(err)
		}
		return c.Report()
	}
	a := pipeline.Artifact{Name: "test-results-test", JobID: "job_1", Digest: digest, Created: now.Add(time.Second)}
	report, all := read(a)
	if report.Count.Total != 2 || report.Count.Failed != 1 || len(report.Problems) == 0 || !strings.Contains(report.Problems[0], "broken.xml") {
		t.Errorf("read %+v %q", report, names(all))
	}
	for _, r := range all {
		if r.Name == "adds one" && r.LogLine != 2 {
			t.Errorf("the failure stands at line %d of the log; want 2", r.LogLine)
		}
	}
	other, old := a, a
	other.JobID, old.Created = "job_2", now.Add(-time.Second)
	if report, all := read(other, old); report.Count.Total != 1 || all[0].Name != "TestB" || !reflect.DeepEqual(report.Sources, []string{"log"}) {
		t.Errorf("without artifacts of its own it read %+v %q", report, names(all))
	}
}
