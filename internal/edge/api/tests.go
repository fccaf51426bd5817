package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/pipeline"
)

// TestHistory is what became of one test over time.
type TestHistory struct {
	Test    pipeline.Test         `json:"test"`
	Results []pipeline.TestResult `json:"results"`
}

func (s *server) tests(a huma.API) {
	route(a, "GET", "/runs/{run}/tests", "list-tests", "Tests of a run, failures first", func(ctx context.Context, in *struct {
		RunRef
		Outcome string `query:"outcome" enum:"passed,failed,skipped"`
		Q       string `query:"q" maxLength:"500" doc:"Text in suite, package or name."`
		Job     string `query:"job"`
		Limit   int    `query:"limit" minimum:"0" maximum:"1000" default:"100"`
		Offset  int    `query:"offset" minimum:"0"`
	}) (pipeline.RunTests, error) {
		return s.Pipeline.RunTests(ctx, pipeline.RunID(in.Run), pipeline.TestFilter{Outcome: pipeline.TestOutcome(in.Outcome), Text: in.Q, Job: in.Job, Limit: in.Limit, Offset: in.Offset})
	})
	route(a, "GET", "/tests/{test}", "get-test", "What became of one test over time, newest first", func(ctx context.Context, in *struct {
		Test  string `path:"test"`
		Limit int    `query:"limit" minimum:"0" maximum:"500" default:"50"`
	}) (TestHistory, error) {
		t, all, err := s.Pipeline.TestHistory(ctx, in.Test, in.Limit)
		if all == nil {
			all = []pipeline.TestResult{}
		}
		return TestHistory{t, all}, err
	})
}
