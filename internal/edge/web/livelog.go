package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"weir/internal/base/fault"
)

// liveLog goes on with a log where the page's reader stands: finished HTML and
// the place for it, gathered for a moment so that a chatty job does not send a
// message for each line.
func (s *Site) liveLog(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	offset, _ := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if last := r.Header.Get("Last-Event-ID"); last != "" { // a connection that broke
		offset, _ = strconv.ParseInt(last, 10, 64)
	}
	attempt, err := strconv.Atoi(r.PathValue("attempt"))
	if err != nil || attempt < 1 || offset < 0 {
		http.Error(w, "There is no such place in a log.", http.StatusNotFound)
		return
	}
	log, err := s.data.RunLog(ctx, r.PathValue("id"), r.PathValue("job"), attempt, 0, true)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			// Nothing more will come: 204 tells an EventSource not to ask again.
			w.WriteHeader(http.StatusNoContent)
			return
		}
		http.Error(w, s.sentence(ctx, err), statusOf(err))
		return
	}
	defer log.Close()
	out, ok := newEvents(w)
	if !ok {
		return
	}
	lines := make(chan []byte, 256)
	failed := make(chan error, 1)
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(log, 64<<10)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed <- err
				}
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	s.tell(ctx, out, lines, offset)
	cancel()
	_ = log.Close() // ends the reader, which is waited for
	for range lines {
	}
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			s.log.DebugContext(ctx, "log not followed to its end", "error", err)
		}
	default:
	}
}

// tell sends what comes after offset; what was before it only sets the place.
func (s *Site) tell(ctx context.Context, out events, lines <-chan []byte, offset int64) {
	var v logView
	var waiting []piece
	beat := time.NewTicker(15 * time.Second)
	defer beat.Stop()
	gather := time.NewTicker(100 * time.Millisecond)
	defer gather.Stop()
	flush := func() error {
		if len(waiting) == 0 {
			return nil
		}
		raw, err := json.Marshal(merge(waiting))
		if err != nil {
			return err
		}
		waiting = nil
		return out.send("log", strconv.FormatInt(v.Offset, 10), string(raw))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if out.send("beat", "", "1") != nil {
				return
			}
		case <-gather.C:
			if flush() != nil {
				return
			}
		case line, ok := <-lines:
			if !ok {
				if flush() == nil {
					_ = out.send("end", "", "1")
				}
				return
			}
			at := v.Offset
			pieces := v.take(line)
			for _, s := range v.Steps {
				s.Lines = nil // The page has them.
			}
			v.shown = 0
			if at >= offset {
				waiting = append(waiting, pieces...)
			}
			if len(waiting) >= 500 && flush() != nil {
				return
			}
		}
	}
}

// merge joins appends to the same place.
func merge(pieces []piece) []piece {
	var out []piece
	for _, p := range pieces {
		if n := len(out); n > 0 && p.Op == "append" && out[n-1].Op == "append" && out[n-1].Into == p.Into {
			out[n-1].HTML += p.HTML
			continue
		}
		out = append(out, p)
	}
	return out
}
