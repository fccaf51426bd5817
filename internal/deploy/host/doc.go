// Package host is `weir host`: the process that owns what runs on a machine. It has the proxies, the
// processes and the image cache, and outlives the server, which only tells it what should be.
//
// Each environment has one loop. It makes a group of processes for every desired slot (role and release),
// and moves requests when all of them can take their share:
//
//	desired ──pull, verify──> start ──all ready──> in force ──next in force──> drained ──> warm ──> gone
//	                              \──> failed: what was in force stays in force
//
// What it promises:
//   - an image is pulled by digest, its evidence is verified before a process starts, its files every time;
//   - a request goes to a process that is ready; one that ran when traffic moved is finished (up to drain);
//   - the requests that a slot gets are its weight; a slot without a ready process is served by the stable
//     one, and the failure is counted against the slot;
//   - what is in force survives a restart of the host, and the last releases stay on the machine with
//     image, evidence and configuration, so that Rollback needs nobody;
//   - a server with a lower fencing epoch than the highest seen changes nothing.
//
// The state file is written before it is acted on; a full disk refuses pulls, never a rollback.
package host
