// Package deploy is what runs where, how it got there, and the way back.
//
// An admitted artifact becomes a Release. For each environment that its service declares there is a
// Promotion, which waits until policy lets it in. Then a Rollout moves the environment to the release:
//
//	pending ─> starting ─> baking ─> starting (next step) ... ─> promoting ─> completed
//	              │           │ ⇅ paused                             │
//	              └───────────┴─────────> rolling_back <─────────────┘
//	                                          ├─> rolled_back   a verdict, or a person
//	                                          └─> failed        it could not run
//
// First, rolling and direct rollouts (no baseline, no strategy, a rollback) go from starting to completed.
//
// Promises:
//   - rules of an environment are read from the current trunk, never from the release;
//   - a step is stored before it is done, and doing it again changes nothing: targets are told what should
//     be, by generation and fencing epoch;
//   - there is one live rollout in an environment at a time;
//   - going back needs no build and no approval: requests move first, the record follows;
//   - what a verdict took back is remembered, by digest, and never goes there again by itself;
//   - decisions are appended to a log and to the ledger, and never rewritten.
package deploy
