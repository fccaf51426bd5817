package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/pipeline"
)

// LogLines are lines of a log.
type LogLines struct {
	Lines []pipeline.LogLine `json:"lines"`
}

// LogRef is the path of a job's log.
type LogRef struct {
	Run     string `path:"run"`
	Job     string `path:"job"`
	Attempt int    `query:"attempt" minimum:"0" doc:"The latest, if absent."`
}

func (s *server) logs(a huma.API) {
	route(a, "GET", "/runs/{run}/jobs/{job}/log/outline", "outline-log", "Steps, groups and length of a log", func(ctx context.Context, in *LogRef) (pipeline.LogOutline, error) {
		return s.Pipeline.LogOutline(ctx, pipeline.RunID(in.Run), in.Job, in.Attempt)
	})
	route(a, "GET", "/runs/{run}/jobs/{job}/log/lines", "read-log", "Lines of a log from a number on", func(ctx context.Context, in *struct {
		LogRef
		From  int64 `query:"from" minimum:"0" doc:"Number of the first line; lines count from 1."`
		Limit int   `query:"limit" minimum:"0" maximum:"10000" default:"1000"`
	}) (LogLines, error) {
		lines, err := s.Pipeline.LogLines(ctx, pipeline.RunID(in.Run), in.Job, in.Attempt, in.From, in.Limit)
		if lines == nil {
			lines = []pipeline.LogLine{}
		}
		return LogLines{lines}, err
	})
	route(a, "GET", "/runs/{run}/jobs/{job}/log/search", "search-log", "Lines of a log that hold some text", func(ctx context.Context, in *struct {
		LogRef
		Q      string `query:"q" maxLength:"1000"`
		Regexp bool   `query:"regexp" doc:"Take q as a regular expression (RE2) instead of text in any case."`
		From   int64  `query:"from" minimum:"0"`
		Limit  int    `query:"limit" minimum:"0" maximum:"1000" default:"200"`
	}) (pipeline.LogMatches, error) {
		return s.Pipeline.SearchLog(ctx, pipeline.RunID(in.Run), in.Job, in.Attempt, pipeline.LogQuery{Text: in.Q, Regexp: in.Regexp, From: in.From, Limit: in.Limit})
	})
}
