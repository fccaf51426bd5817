// Package protocol is how the server and `weir host` talk: HTTP and JSON on a unix socket, version 1.
//
//	GET  /host/v1/hello                      Hello
//	PUT  /host/v1/environments               Desired -> Environment
//	GET  /host/v1/environments?after=&wait=  Observed; waits for a change after a sequence number
//	GET  /host/v1/counters                   []deploy.Counters
//	POST /host/v1/rollback                   Rollback -> Event; by the operator of the machine, server or not
//	GET  /host/v1/events                     []Event that no server has acknowledged
//	POST /host/v1/events/ack                 Ack
//
// What the server changes carries a fencing epoch; one lower than the highest seen is refused with 409, so
// that a server which was cut off changes nothing. The same request twice has the effect of one.
package protocol

import (
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
)

// Version is the protocol's. The host refuses another major one.
const Version = 1

// What runs is described by the types of the layer.
type (
	Release  = deploy.Spec
	Workload = deploy.Workload
	Slot     = deploy.Slot
)

// Desired is what an environment should be.
type Desired struct {
	Epoch       int64  `json:"epoch"`
	ServiceID   string `json:"service_id"`
	Service     string `json:"service"`
	Environment string `json:"environment"`
	// Generation grows with every change. A lower one than the host has is refused.
	Generation int64  `json:"generation"`
	Slots      []Slot `json:"slots"`
	// Bad are digests that no rollback on the host may choose, with the reason.
	Bad map[string]string `json:"bad,omitempty"`
}

// SlotState is how far a slot is.
type SlotState string

const (
	Pulling  SlotState = "pulling"  // fetching and verifying the image
	Starting SlotState = "starting" // processes are not all ready yet
	Running  SlotState = "running"
	Failed   SlotState = "failed" // see Reason; the host has given up on it
)

// SlotStatus is a slot as it is.
type SlotStatus struct {
	Role       deploy.Role      `json:"role"`
	ReleaseID  deploy.ReleaseID `json:"release_id"`
	Version    string           `json:"version"`
	Digest     string           `json:"digest"`
	Group      string           `json:"group"`
	State      SlotState        `json:"state"`
	Reason     string           `json:"reason,omitempty"`
	Weight     int              `json:"weight"` // in force
	Replicas   int              `json:"replicas"`
	Ready      int              `json:"ready"`
	Restarts   int              `json:"restarts"`
	Since      time.Time        `json:"since"`
	Unenforced []string         `json:"unenforced,omitempty"` // limits that the machine cannot hold the processes to
}

// Environment is what an environment is.
type Environment struct {
	ServiceID   string `json:"service_id"`
	Service     string `json:"service"`
	Environment string `json:"environment"`
	Generation  int64  `json:"generation"` // the last desired
	Applied     int64  `json:"applied"`    // the last one whose traffic is in force
	Address     string `json:"address"`    // where the proxy listens
	Confined    bool   `json:"confined"`
	// Slots are those in force, then those on their way.
	Slots []SlotStatus `json:"slots"`
	Warm  []string     `json:"warm,omitempty"` // releases that run without requests
	// Kept are releases that a rollback may choose, newest first.
	Kept []Kept `json:"kept,omitempty"`
	// Pending is a rollback made on the machine that the server has not taken note of.
	Pending bool      `json:"pending,omitempty"`
	Since   time.Time `json:"since"` // of the traffic in force
}

// Kept is a release that ran here before and is still on the machine.
type Kept struct {
	ReleaseID deploy.ReleaseID `json:"release_id"`
	Version   string           `json:"version"`
	Digest    string           `json:"digest"`
	Time      time.Time        `json:"time"`
	Bad       string           `json:"bad,omitempty"`
}

// Observed is every environment at one moment.
type Observed struct {
	Instance     string        `json:"instance"`
	Sequence     int64         `json:"sequence"`
	Environments []Environment `json:"environments"`
}

// Hello says who the host is.
type Hello struct {
	Protocol int       `json:"protocol"`
	Instance string    `json:"instance"` // new with every start
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Epoch    int64     `json:"epoch"`
	Confined bool      `json:"confined"`
}

// Rollback asks for an earlier release. To is a version or a release id; empty is the newest good one before.
type Rollback struct {
	Service     string `json:"service"`
	Environment string `json:"environment"`
	To          string `json:"to,omitempty"`
	By          string `json:"by,omitempty"`
}

// Event is something done on the machine itself.
type Event struct {
	ID          int64            `json:"id"`
	Time        time.Time        `json:"time"`
	Kind        string           `json:"kind"` // rollback
	ServiceID   string           `json:"service_id"`
	Service     string           `json:"service"`
	Environment string           `json:"environment"`
	From        deploy.ReleaseID `json:"from"`
	FromVersion string           `json:"from_version"`
	FromDigest  string           `json:"from_digest"`
	To          deploy.ReleaseID `json:"to"`
	ToVersion   string           `json:"to_version"`
	ToDigest    string           `json:"to_digest"`
	By          string           `json:"by"`
	Took        time.Duration    `json:"took"` // until requests went to the other release
}

// Ack says up to where events have been taken note of.
type Ack struct {
	Epoch int64 `json:"epoch"`
	UpTo  int64 `json:"up_to"`
}

// Problem is an error on the wire (RFC 9457).
type Problem struct {
	Type   fault.Kind `json:"type"`
	Status int        `json:"status"`
	Detail string     `json:"detail"`
}
