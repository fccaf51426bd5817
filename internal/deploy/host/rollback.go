package host

import (
	"context"
	"fmt"
	"slices"
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// rollback takes an environment back by itself: server, database, registry and git may all be away.
func (h *Host) rollback(ctx context.Context, q protocol.Rollback) (protocol.Event, error) {
	began := time.Now()
	key := q.Service + "/" + q.Environment
	var ev protocol.Event
	err := h.store.update(func(s *state) error {
		e, ok := s.Environments[key]
		if !ok {
			return fault.New(fault.NotFound, "Nothing of %s runs in %s on this machine.", q.Service, q.Environment)
		}
		to, err := choose(e, q.To)
		if err != nil {
			return err
		}
		if !h.images.has(to.Digest) {
			return fault.New(fault.Unavailable, "The image of %s %s is no longer on this machine. Name another version.", q.Service, to.Version)
		}
		from := leaving(e)
		s.LastEvent++
		ev = protocol.Event{
			ID: s.LastEvent, Time: h.config.Clock(), Kind: "rollback", ServiceID: e.Desired.ServiceID, Service: q.Service, Environment: q.Environment,
			From: from.ReleaseID, FromVersion: from.Version, FromDigest: from.Digest,
			To: to.ReleaseID, ToVersion: to.Version, ToDigest: to.Digest, By: q.By,
		}
		s.Events = append(s.Events, ev)
		e.Desired.Slots = []protocol.Slot{{Role: deploy.Stable, Replicas: to.Workload.Replicas, Weight: 10000, Release: to}}
		e.Pending = true
		s.Environments[key] = e
		return nil
	})
	if err != nil {
		return protocol.Event{}, err
	}
	e, err := h.start(key, h.store.read().Environments[key])
	if err != nil {
		return protocol.Event{}, err
	}
	e.adopt(h.store.read().Environments[key], true)
	if err := h.await(ctx, e, ev.To); err != nil {
		return ev, err
	}
	ev.Took = time.Since(began)
	err = h.store.update(func(s *state) error {
		for i := range s.Events {
			if s.Events[i].ID == ev.ID {
				s.Events[i].Took = ev.Took
			}
		}
		return nil
	})
	return ev, err
}

// leaving is the release that a rollback goes away from: the one on trial, if there is one.
func leaving(e envRecord) protocol.Release {
	if c, ok := e.slot(deploy.Canary); ok {
		return c.Release
	}
	s, _ := e.slot(deploy.Stable)
	return s.Release
}

// choose finds the release to go back to among those that ran here.
func choose(e envRecord, to string) (protocol.Release, error) {
	d := e.Desired
	if to == "" {
		if stable, ok := e.slot(deploy.Stable); ok {
			if _, trial := e.slot(deploy.Canary); trial {
				return stable.Release, nil
			}
			for _, k := range slices.Backward(e.Kept) {
				// Ids grow with time: back is to an older release, even after an earlier rollback.
				if k.ReleaseID < stable.Release.ReleaseID && e.Bad[k.Digest] == "" {
					return k.Release, nil
				}
			}
		}
		return protocol.Release{}, fault.New(fault.NotFound, "There is no earlier good release of %s in %s on this machine to go back to.", d.Service, d.Environment)
	}
	for _, k := range slices.Backward(e.Kept) {
		if k.Version != to && string(k.ReleaseID) != to && k.Digest != to {
			continue
		}
		if why := e.Bad[k.Digest]; why != "" {
			return protocol.Release{}, fault.New(fault.Denied, "%s %s is remembered as bad in %s: %s. Choose another release.", d.Service, k.Version, d.Environment, why)
		}
		return k.Release, nil
	}
	have := ""
	for _, k := range slices.Backward(e.Kept) {
		have += " " + k.Version
	}
	return protocol.Release{}, fault.New(fault.NotFound, "%s %s has not run in %s on this machine. These have:%s.", d.Service, to, d.Environment, have)
}

// await returns once requests go to the release alone, or says why they do not.
func (h *Host) await(ctx context.Context, e *environment, to deploy.ReleaseID) error {
	ctx, cancel := context.WithTimeout(ctx, h.config.ReadyTimeout)
	defer cancel()
	for after := int64(-1); ; {
		o := h.observe(ctx, after)
		after = o.Sequence
		s := e.status()
		if len(s.Slots) == 1 && s.Slots[0].ReleaseID == to && s.Slots[0].Weight == 10000 {
			return nil
		}
		why := ""
		for _, slot := range s.Slots {
			if slot.ReleaseID == to && slot.Weight == 0 {
				why = slot.Reason
				if slot.State == protocol.Failed {
					return fault.New(fault.Unavailable, "%s could not go back: %s What ran before still answers.", e.service, why)
				}
			}
		}
		if ctx.Err() != nil {
			return fault.Wrap(fault.Unavailable, ctx.Err(), "%s", fmt.Sprintf("%s has not gone back yet (%s). The host goes on trying.", e.service, orElse(why, "its processes are not ready")))
		}
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// acknowledge forgets events that a server has recorded, and lets it drive again.
func (h *Host) acknowledge(a protocol.Ack) error {
	err := h.store.update(func(s *state) error {
		if a.Epoch < s.Epoch {
			return fault.New(fault.Conflict, "A newer server (epoch %d) drives this host; the one with epoch %d changes nothing.", s.Epoch, a.Epoch)
		}
		s.Epoch = a.Epoch
		s.Events = slices.DeleteFunc(s.Events, func(e protocol.Event) bool { return e.ID <= a.UpTo })
		for key, e := range s.Environments {
			e.Pending = slices.ContainsFunc(s.Events, func(ev protocol.Event) bool { return ev.Service+"/"+ev.Environment == key })
			s.Environments[key] = e
		}
		return nil
	})
	if err != nil {
		return err
	}
	for key, rec := range h.store.read().Environments {
		h.mu.Lock()
		e := h.envs[key]
		h.mu.Unlock()
		if e != nil {
			e.adopt(rec, false)
		}
	}
	return nil
}
