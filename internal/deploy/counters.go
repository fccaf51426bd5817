package deploy

import "time"

// LatencyBounds are the upper bounds, in milliseconds, of the histogram that every role's requests are
// counted in. A request slower than all of them falls in one more bucket.
var LatencyBounds = []int64{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000}

// Role is what a release is in an environment right now.
type Role string

const (
	Stable   Role = "stable"   // what runs there
	Canary   Role = "canary"   // what may replace it
	Baseline Role = "baseline" // fresh processes of the stable release, to compare the canary with
)

// Counters are what the traffic layer saw of one role since Since. They only grow while Group is the same;
// a new Group starts from zero.
type Counters struct {
	ServiceID   string    `json:"service_id"`
	Environment string    `json:"environment"`
	Group       string    `json:"group"`
	Role        Role      `json:"role"`
	ReleaseID   ReleaseID `json:"release_id"`
	Since       time.Time `json:"since"`
	Requests    int64     `json:"requests"`
	Errors      int64     `json:"errors"`  // answers of 500 and above, and requests that got none
	Buckets     []int64   `json:"buckets"` // by LatencyBounds, to the first byte of the answer
}

// Slow counts the requests that took longer than the i-th latency bound.
func (c Counters) Slow(i int) (n int64) {
	for _, b := range c.Buckets[min(i+1, len(c.Buckets)):] {
		n += b
	}
	return n
}
