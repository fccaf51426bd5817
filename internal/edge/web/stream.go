package web

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/guard/identity"
)

var seed = maphash.MakeSeed()

// stream sends the parts of a page that change, as they change, until nothing
// will change any more or the reader leaves. It renders when a topic is woken
// and, because wake-ups may be lost, every pulse.
func (s *Site) stream(f pageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		p, err := f(r)
		if err != nil {
			http.Error(w, s.sentence(ctx, err), statusOf(err))
			return
		}
		woken, cancel := s.data.Watch(p.topics...)
		defer cancel()
		out, ok := newEvents(w)
		if !ok {
			http.Error(w, "This connection cannot be streamed.", http.StatusInternalServerError)
			return
		}
		sent := map[string]uint64{}
		pulse := time.NewTicker(s.pulse)
		defer pulse.Stop()
		quiet := 0
		for look := 0; ; look++ {
			if look%5 == 0 {
				p.parts = append(p.parts, s.side(r, p)...)
			}
			body, err := changed(r, p, sent)
			if err != nil {
				s.log.ErrorContext(ctx, "live part not rendered", "path", r.URL.Path, "error", err)
				return
			}
			switch {
			case body != "":
				quiet = 0
				if out.send("", "", body) != nil {
					return
				}
			case quiet >= 5:
				quiet = 0
				if out.send("beat", "", "1") != nil {
					return
				}
			}
			if p.over {
				_ = out.send("over", "", "1")
				return
			}
			if !s.wait(ctx, woken, pulse.C, p.slow) {
				return
			}
			quiet++
			if p, err = f(r); err != nil {
				return
			}
		}
	})
}

// side are the parts of the side bar. They are about everything, so they are
// looked at seldom.
func (s *Site) side(r *http.Request, p page) []part {
	shell, err := s.data.Shell(r.Context())
	if err != nil {
		return nil
	}
	f := frame{page: p, shell: shell, who: identity.From(r.Context())}
	return []part{{"side-nav", sideNav(f)}, {"side-pins", sidePins(f)}, {"side-ledger", sideLedger(f)}}
}

// wait returns when it is time to look again; false once the reader has left. A
// page that costs much is looked at every fifth pulse, and at most once a pulse.
func (s *Site) wait(ctx context.Context, woken <-chan struct{}, pulse <-chan time.Time, slow bool) bool {
	if !slow {
		select {
		case <-ctx.Done():
			return false
		case <-woken:
		case <-pulse:
		}
		return true
	}
	due := false
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return false
		case <-woken:
			due = true
		case <-pulse:
			if due || n >= 5 {
				return true
			}
		}
	}
}

// changed renders the parts that are not as they were sent last.
func changed(r *http.Request, p page, sent map[string]uint64) (string, error) {
	var all strings.Builder
	for _, part := range p.parts {
		var buf bytes.Buffer
		if err := part.body.Render(r.Context(), &buf); err != nil {
			return "", err
		}
		sum := maphash.Bytes(seed, buf.Bytes())
		if was, ok := sent[part.id]; ok && was == sum {
			continue
		}
		sent[part.id] = sum
		fmt.Fprintf(&all, `<hx-partial hx-target="#%s" hx-swap="outerMorph">%s</hx-partial>`, templ.EscapeString(part.id), buf.String())
	}
	return all.String(), nil
}

// events writes server-sent events.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newEvents(w http.ResponseWriter) (events, bool) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	_ = control.SetWriteDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	return events{w, control}, control.Flush() == nil
}

func (e events) send(event, id, data string) error {
	var b strings.Builder
	if event != "" {
		b.WriteString("event: " + event + "\n")
	}
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	// A carriage return would end the line for the reader.
	for line := range strings.SplitSeq(strings.ReplaceAll(data, "\r", ""), "\n") {
		b.WriteString("data: " + line + "\n")
	}
	b.WriteString("\n")
	_ = e.control.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if _, err := e.w.Write([]byte(b.String())); err != nil {
		return err
	}
	return e.control.Flush()
}
