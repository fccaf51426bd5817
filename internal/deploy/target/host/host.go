// Package host is a deploy target that is a machine with `weir host` on it, spoken to over its socket.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// Target speaks to one host.
type Target struct {
	socket string
	client *http.Client
}

// New returns the target behind a socket. It connects when it is first used, and again when it has to.
func New(socket string) *Target {
	return &Target{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 8,
	}}}
}

var _ deploy.Target = (*Target)(nil)

// Apply tells the host what an environment should be.
func (t *Target) Apply(ctx context.Context, epoch int64, d deploy.Desired) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return t.call(ctx, http.MethodPut, "environments", protocol.Desired{
		Epoch: epoch, ServiceID: d.ServiceID, Service: d.Service, Environment: d.Environment, Generation: d.Generation, Slots: d.Slots, Bad: d.Bad,
	}, nil)
}

// Observe waits for a change.
func (t *Target) Observe(ctx context.Context, after int64, wait time.Duration) (deploy.Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+10*time.Second)
	defer cancel()
	var o protocol.Observed
	if err := t.call(ctx, http.MethodGet, fmt.Sprintf("environments?after=%d&wait=%s", after, wait), nil, &o); err != nil {
		return deploy.Observed{}, err
	}
	out := deploy.Observed{Sequence: o.Sequence, Instance: o.Instance}
	for _, e := range o.Environments {
		r := deploy.Running{
			ServiceID: e.ServiceID, Environment: e.Environment, Generation: e.Generation, Applied: e.Applied, Address: e.Address, Confined: e.Confined, Pending: e.Pending,
		}
		for _, s := range e.Slots {
			r.Slots = append(r.Slots, deploy.SlotState{
				Role: s.Role, ReleaseID: s.ReleaseID, Version: s.Version, Group: s.Group, Weight: s.Weight, Replicas: s.Replicas, Ready: s.Ready,
				Restarts: s.Restarts, Failed: s.State == protocol.Failed, Reason: s.Reason, Unenforced: s.Unenforced,
			})
		}
		for _, w := range e.Warm {
			r.Warm = append(r.Warm, deploy.ReleaseID(w))
		}
		for _, k := range e.Kept {
			if k.Bad == "" {
				r.Kept = append(r.Kept, k.ReleaseID)
			}
		}
		out.Environments = append(out.Environments, r)
	}
	return out, nil
}

// Counters are those of all environments.
func (t *Target) Counters(ctx context.Context) (c []deploy.Counters, err error) {
	err = t.call(ctx, http.MethodGet, "counters", nil, &c)
	return c, err
}

// Events are those that wait to be acknowledged.
func (t *Target) Events(ctx context.Context) ([]deploy.Event, error) {
	var events []protocol.Event
	if err := t.call(ctx, http.MethodGet, "events", nil, &events); err != nil {
		return nil, err
	}
	var out []deploy.Event
	for _, e := range events {
		out = append(out, deploy.Event{
			ID: e.ID, Time: e.Time, Kind: e.Kind, ServiceID: e.ServiceID, Environment: e.Environment, From: e.From, To: e.To,
			FromVersion: e.FromVersion, ToVersion: e.ToVersion, By: e.By, Took: e.Took,
		})
	}
	return out, nil
}

// Acknowledge forgets events.
func (t *Target) Acknowledge(ctx context.Context, epoch, upTo int64) error {
	return t.call(ctx, http.MethodPost, "events/ack", protocol.Ack{Epoch: epoch, UpTo: upTo}, nil)
}

// Rollback is the operator's own, for `weir host rollback`: the server has no part in it.
func (t *Target) Rollback(ctx context.Context, q protocol.Rollback) (e protocol.Event, err error) {
	err = t.call(ctx, http.MethodPost, "rollback", q, &e)
	return e, err
}

// Hello asks who the host is.
func (t *Target) Hello(ctx context.Context) (h protocol.Hello, err error) {
	err = t.call(ctx, http.MethodGet, "hello", nil, &h)
	return h, err
}

// Status is everything that the host knows, for `weir host status`.
func (t *Target) Status(ctx context.Context) (o protocol.Observed, err error) {
	err = t.call(ctx, http.MethodGet, "environments", nil, &o)
	return o, err
}

func (t *Target) call(ctx context.Context, method, path string, body, into any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://host/host/v1/"+path, r)
	if err != nil {
		return err
	}
	res, err := t.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("ask the host at %s: %w", t.socket, err)
		}
		return fault.Wrap(fault.Unavailable, err, "No weir host answers at %s. Start it with: weir host", t.socket)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var p protocol.Problem
		if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p); err != nil || p.Detail == "" {
			return fault.New(fault.Unavailable, "The weir host at %s answered %s.", t.socket, res.Status)
		}
		if p.Type == "" {
			p.Type = fault.Unavailable
		}
		return fault.New(p.Type, "%s", p.Detail)
	}
	if into == nil {
		io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the host to %s: %w", path, err)
	}
	return nil
}
