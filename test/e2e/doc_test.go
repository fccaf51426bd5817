// Package e2e drives the real binary from outside: its HTTP API, real git, and
// signals. Each test has a data folder, a server and a host process of its own
// on free ports, and ends what it started.
//
// WEIR_TEST_BINARY names the binary; without it one is built. WEIR_TEST_LONG=1
// walks through every write instead of a sample of them. Where the machine
// cannot confine, the tests that need it say so and are skipped.
package e2e
