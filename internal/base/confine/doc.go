// Package confine runs programs that are not trusted, without root.
//
// A Sandbox is a small world: a process tree, a file tree and a network of its own. It is made by
// running a program of package jail, or this same binary again, in new user, pid, mount, ipc, uts and network namespaces. That
// is the sandbox's init: process 1 in there, it builds the file tree, gives up every privilege and
// then starts commands when asked over a private socket. When the socket closes, for whatever reason,
// init ends and the kernel ends everything else in the sandbox.
//
//	Open ──> ready ──Start──> command ──> Exit
//	            └──────Close, or death of the parent──> gone
//
// What it promises about a command:
//   - it sees only the read-only roots, the read-write roots, an empty /tmp, a few devices and a /proc
//     that shows the sandbox alone; Landlock says the same a second time, should the mounts be wrong;
//   - it has no capability, cannot gain one (no_new_privs, empty bounding set, no new user namespaces)
//     and cannot signal or trace anything outside, nor the sandbox's init;
//   - its network has only a loopback of its own. With Egress, a proxy in there lets it reach other
//     machines, never this one;
//   - its environment and its open files are exactly what the caller gave.
//
// A Spec with a Container is made by a container runtime, of an image that commands may change: see container.go. What is promised of
// network, environment and open files holds there, too; files are those of the image and what was bound, and root is somebody else's.
//
// Main must be the first call of main() and of TestMain: it is where the second copy takes its own way.
package confine
