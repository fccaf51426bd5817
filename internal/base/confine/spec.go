package confine

import (
	"io"
	"net/http"
	"time"

	"weir/internal/base/jail"
)

// Network says what a sandbox can reach.
type Network string

const (
	None   Network = "none"   // its own loopback only
	Egress Network = "egress" // its own loopback, and other machines through a proxy that refuses this one
	Host   Network = "host"   // the machine's network, unfiltered
)

// Spec describes a sandbox. The zero Network is None.
type Spec struct {
	Dir       string   // working directory and first read-write root; empty: /tmp inside
	ReadOnly  []string // seen, and executable, besides the system's own folders
	ReadWrite []string // seen and writable
	Plain     []string // as ReadOnly, in folders that programs may write to: no link on the way to them is followed
	Network   Network
	// OnEgress is told every destination before it is reached; an error refuses it. It may be called concurrently.
	OnEgress func(hostport string) error
	// Serve answers requests to LocalURL, which only programs in the sandbox reach. Nil: there is no such address.
	Serve http.Handler
	// Unconfined drops every protection but the last: Close still ends all processes. Whoever sets it records it.
	Unconfined bool
	// NoSystem leaves out the machine's own folders (/usr, /etc, ...): the roots given are all there is.
	NoSystem bool
	// Image is a folder that is the whole file tree in place of the machine's own folders, read-only. It
	// holds dev, proc and tmp, and processes run as user 65532. Dir is then a path in the image.
	Image string
	// Builder gives commands what a builder of images needs: they are root of a user namespace of their own and may mount. What
	// they see and reach is that of any sandbox, and read-only roots stay so; Landlock cannot say it a second time.
	Builder bool
	// Container is a file tree of its own, which programs may change, and run by a container runtime. Dir is a path in it; Image,
	// ReadOnly, ReadWrite, NoSystem and Unconfined do not apply.
	Container *Container
	Limits    Limits
}

// Limits bound what each command may take. Zero means the default.
type Limits = jail.Limits

// Cmd is one command to start.
type Cmd struct {
	Argv []string // Argv[0] without a slash is looked up in PATH of Env, inside the sandbox
	Env  []string // exactly the environment; see Sandbox.Env for what to add
	Dir  string   // default: Spec.Dir
	// An *os.File is handed over as it is. Anything else is joined by a pipe and copied. Nil is /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// User is who the command runs as in a container; nil is root there.
	User *User
	// Linger is how long Wait keeps copying output after the command's own exit, for descendants that
	// still hold the pipe. Default 200 ms.
	Linger time.Duration
}

// User is who a command of a container runs as, in the numbers of its image.
type User = jail.User

// Exit is how a command ended. A command killed by a signal has Code 128 + signal, as a shell reports it.
type Exit = jail.Exit
