// Package catalog holds what is declared: organisations, repositories, services
// and environments, and the weir.yaml that declares them.
//
// A file is parsed once, strictly: what it does not know it refuses with line,
// column and the nearest right key. Which revision's file counts is the
// caller's question: rules that guard a change come from the target branch,
// environment rules from the current trunk, never from the change itself.
package catalog
