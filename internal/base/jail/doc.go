// Package jail is the inside of a sandbox: its init, process 1, and the protocol by which package confine, the outside, tells it
// what to build and to start.
//
// It is a package of its own so that a small program can be made of it alone (jail/init): the kernel runs that one for every
// sandbox, and it starts in a millisecond. It imports little, and nothing of the product. Init builds the file tree, gives up every
// privilege, and then starts commands when asked over a private socket. When the socket closes, for whatever reason, init ends and
// the kernel ends everything else in the sandbox.
package jail
