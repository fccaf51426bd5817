// Package control is what closes the loop: numbers come in, a verdict goes out.
//
// For every canary it keeps what both sides of the comparison have counted since the rollout began, asks the
// judge, and hands the verdict to deploy through deploy.Judge:
//
//	counters of the targets ─> arms (kept, by group of processes) ─> judge ─> hold | pass | stop
//
// What it promises: counters that start again (a restarted host) lose nothing that was kept; no data is
// never a reason to stop, and never one to go on; what was shown to people, figure against limit, is what
// was decided by.
package control
