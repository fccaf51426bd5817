package host

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// handler speaks the control protocol.
func (h *Host) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /host/v1/hello", func(w http.ResponseWriter, r *http.Request) {
		answer(w, protocol.Hello{Protocol: protocol.Version, Instance: h.instance, PID: os.Getpid(), Started: h.started, Epoch: h.store.read().Epoch, Confined: !h.config.Unconfined}, nil)
	})
	m.HandleFunc("PUT /host/v1/environments", func(w http.ResponseWriter, r *http.Request) {
		d, err := read[protocol.Desired](w, r)
		if err == nil {
			var e *environment
			if e, err = h.desire(d); err == nil {
				answer(w, e.status(), nil)
				return
			}
		}
		answer(w, nil, err)
	})
	m.HandleFunc("GET /host/v1/environments", func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseInt(orElse(r.FormValue("after"), "-1"), 10, 64)
		wait, err2 := time.ParseDuration(orElse(r.FormValue("wait"), "0s"))
		if err != nil || err2 != nil {
			answer(w, nil, fault.New(fault.Invalid, "after is a number and wait a span of time such as 10s."))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), min(wait, time.Minute))
		defer cancel()
		answer(w, h.observe(ctx, after), nil)
	})
	m.HandleFunc("GET /host/v1/counters", func(w http.ResponseWriter, r *http.Request) {
		all := []deploy.Counters{}
		for _, e := range h.all() {
			all = append(all, e.counters()...)
		}
		answer(w, all, nil)
	})
	m.HandleFunc("POST /host/v1/rollback", func(w http.ResponseWriter, r *http.Request) {
		q, err := read[protocol.Rollback](w, r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		ev, err := h.rollback(r.Context(), q)
		answer(w, ev, err)
	})
	m.HandleFunc("GET /host/v1/events", func(w http.ResponseWriter, r *http.Request) {
		answer(w, append([]protocol.Event{}, h.store.read().Events...), nil)
	})
	m.HandleFunc("POST /host/v1/events/ack", func(w http.ResponseWriter, r *http.Request) {
		a, err := read[protocol.Ack](w, r)
		if err == nil {
			err = h.acknowledge(a)
		}
		answer(w, struct{}{}, err)
	})
	return m
}

// read takes a small body and refuses what it does not know.
func read[T any](w http.ResponseWriter, r *http.Request) (v T, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fault.Wrap(fault.Invalid, err, "The request cannot be read: %s", err)
	}
	return v, nil
}

var status = map[fault.Kind]int{
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.Invalid: http.StatusBadRequest,
	fault.Denied: http.StatusForbidden, fault.Unavailable: http.StatusServiceUnavailable,
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		json.NewEncoder(w).Encode(v)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	code, ok := status[fault.KindOf(err)]
	if !ok {
		code = http.StatusInternalServerError
		if !errors.Is(err, context.Canceled) {
			slog.Error("host request failed", "error", err)
		}
	}
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(protocol.Problem{Type: fault.KindOf(err), Status: code, Detail: sentence(err)})
}
