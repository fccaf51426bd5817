// Package testresult finds out which tests a job ran and what became of them, from what jobs leave anyway:
//
//   - the log: `go test -json`, or the plain output of `go test`;
//   - artifacts whose name has "test-results", "test-reports" or "junit" in it: the JUnit XML files in them, and files of
//     `go test -json`. The built-in action weir/test-results uploads such an artifact.
//
// It follows the facts of jobs that ended, off the path of the runs, at least once; reading the same attempt again stores the
// same. Reports are hostile: files, tokens, nesting, messages and counts are bounded, what is beyond is counted or named as a
// problem, and one that cannot be read takes nothing from the others.
//
// A test is known by its key: repository, workflow, job with its matrix, suite, package (or class) and name.
package testresult
