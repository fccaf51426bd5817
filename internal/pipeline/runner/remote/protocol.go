package remote

import (
	"fmt"
	"time"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// Timing of the protocol.
const (
	beatEvery = 4 * time.Second  // while an agent has jobs
	lostAfter = 12 * time.Second // without a word
	pingEvery = 15 * time.Second // on an idle stream
	heldAfter = 4 * time.Second  // without the first frame of a stream
)

// Key names an attempt on the wire: "job_x.2".
type Key string

func keyOf(job pipeline.JobID, attempt int) Key { return Key(fmt.Sprintf("%s.%d", job, attempt)) }

// Hello is what an agent says of itself, at connection and at each beat.
type Hello struct {
	Instance string   `json:"instance"` // new with every start of the process
	Version  string   `json:"version"`
	Labels   []string `json:"labels"`
	Slots    int      `json:"slots"`
	Draining bool     `json:"draining,omitempty"`
	Have     []Key    `json:"have,omitempty"` // what it runs, and what has ended and is not stored yet
}

// Frame is what the server wants of an agent: everything, each time.
type Frame struct {
	Ready bool   `json:"ready"` // the list is complete
	Want  []Want `json:"want,omitempty"`
}

// Want is one attempt of an agent.
type Want struct {
	Key    Key         `json:"key"`
	Job    *runner.Job `json:"job,omitempty"` // left out once the agent has it
	Cancel bool        `json:"cancel,omitempty"`
}

const maxSlots = 256
