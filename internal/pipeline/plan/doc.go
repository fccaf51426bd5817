// Package plan turns a workflow and an event into what a run will do: which workflows the event starts, and the jobs of each with
// the matrix unfolded and everything resolved that the engine needs. It is pure; the golden files in testdata are its specification.
package plan
