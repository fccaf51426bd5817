package web

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

func attemptOf(r *http.Request) (int, error) {
	attempt, err := strconv.Atoi(r.PathValue("attempt"))
	if err != nil || attempt < 1 {
		return 0, fault.New(fault.NotFound, "There is no such attempt.")
	}
	return attempt, nil
}

// logLines is a fragment: some lines of a log.
func (s *Site) logLines(w http.ResponseWriter, r *http.Request) {
	attempt, err := attemptOf(r)
	from, ferr := strconv.ParseInt(r.FormValue("from"), 10, 64)
	to, terr := strconv.ParseInt(r.FormValue("to"), 10, 64)
	if err != nil || ferr != nil || terr != nil || from < 1 || to < from {
		http.Error(w, "There are no such lines.", http.StatusNotFound)
		return
	}
	ctx, run, job := r.Context(), r.PathValue("id"), r.PathValue("job")
	to = min(to, from+pageLines-1)
	lines, err := s.data.LogLines(ctx, run, job, attempt, from, int(to-from+1))
	var o pipeline.LogOutline
	if err == nil {
		o, err = s.data.LogOutline(ctx, run, job, attempt)
	}
	if err != nil {
		http.Error(w, s.sentence(ctx, err), statusOf(err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, linesHTML(from, to, lines, o.Groups))
}

// logSearch answers with the numbers of the lines that hold some text.
func (s *Site) logSearch(w http.ResponseWriter, r *http.Request) {
	attempt, err := attemptOf(r)
	if err != nil {
		http.Error(w, s.sentence(r.Context(), err), statusOf(err))
		return
	}
	m, err := s.data.SearchLog(r.Context(), r.PathValue("id"), r.PathValue("job"), attempt, pipeline.LogQuery{Text: r.FormValue("q"), Limit: 1000})
	if err != nil {
		http.Error(w, s.sentence(r.Context(), err), statusOf(err))
		return
	}
	answer := struct {
		Lines []int64 `json:"lines"`
		More  bool    `json:"more"`
	}{[]int64{}, m.Next > 0}
	for _, l := range m.Matches {
		answer.Lines = append(answer.Lines, l.Number)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// rawLog is the log as text, with times and marks.
func (s *Site) rawLog(w http.ResponseWriter, r *http.Request) {
	attempt, err := attemptOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	log, err := s.data.RunLog(r.Context(), r.PathValue("id"), r.PathValue("job"), attempt, 0, false)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `inline; filename="job.log"`)
	_, _ = io.Copy(w, log)
}

// artifactFile is what a job kept, as it was kept.
func (s *Site) artifactFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	in, size, err := s.data.OpenArtifact(r.Context(), r.PathValue("id"), name)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer in.Close()
	magic := make([]byte, 2)
	n, _ := io.ReadFull(in, magic)
	ext := ".tar"
	if string(magic[:n]) == "PK" {
		ext = ".zip"
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment; filename="+strconv.Quote(name+ext))
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = w.Write(magic[:n])
	_, _ = io.Copy(w, in)
}
