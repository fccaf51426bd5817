// Package pipeline plans and runs workflows, and says when each run, job and step may move.
//
// A fact from source (a landed push, a new patchset) becomes one run per workflow, once. A run has jobs, a job has attempts,
// an attempt has steps. Work is stored before it is done; a job whose runner was lost is seen as a lost attempt and runs again
// as the next one in a fresh workspace, never twice as the same.
//
//	run      pending ─▶ running ─▶ success | failure | cancelled      refused (the workflow asks for what Weir does not do)
//	                        ▲          │
//	                        └─ rerun ──┘
//	job      waiting ─▶ queued ─▶ running ─▶ success | failure | cancelled
//	            │          │ ▲       │
//	            ▼          ▼ └─ lost ┘
//	         skipped   cancelled
//	attempt  running ─▶ success | failure | cancelled | lost
//
// Decisions are pure (Run.Next, Run.Claim, Run.Finish, Run.Lose); the engine stores what they say and then acts. Invariants:
//   - A workflow that guards a change is read from the target branch, what it runs on is the change's revision.
//   - Only a run with Trust Landed carries release jobs.
//   - The result of an attempt counts only while that attempt is the current one and its epoch holds.
package pipeline
