package jail

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The parent and init speak frames over a unix stream socket: four bytes of length, then JSON. File
// descriptors travel with the length, so that a reader which takes exactly those four bytes gets them.

const maxFrame = 8 << 20

// Boot is the first frame: what the sandbox is. Init answers with an empty reply, or one with Err.
type Boot struct {
	Dir        string
	Image      string // the file tree, if not the machine's own folders
	Roots      []Root
	Masks      []string // paths replaced by nothing
	Namespaces bool
	NetNS      bool
	Unconfined bool
	Builder    bool // commands are root of a world of their own: see builder.go
	// Contained says that a container runtime has built the file tree and taken the capabilities away; init keeps those that it has
	// for the commands of root.
	Contained bool
	Limits    Limits
}

// Root is a folder or file that the sandbox sees.
type Root struct {
	Path     string
	Write    bool
	Optional bool // left out when missing
	Plain    bool // no link on the way to it is followed, since others may have put one there
}

// Request is what the parent asks of init.
type Request struct {
	ID   uint64
	Op   Op
	Argv []string `json:",omitempty"`
	Env  []string `json:",omitempty"`
	Dir  string   `json:",omitempty"`
	Proc uint64   `json:",omitempty"`
	Sig  int      `json:",omitempty"`
	Port int      `json:",omitempty"`
	Addr [4]byte  // to listen at; zero is 127.0.0.1
	User *User    `json:",omitempty"`
}

// User is who a command runs as, in a container. Nil is whoever init is.
type User struct {
	UID, GID int
	Groups   []int `json:",omitempty"`
}

// Op is the kind of a request.
type Op string

// The requests.
const (
	OpStart  Op = "start"
	OpSignal Op = "signal"
	OpDial   Op = "dial"
	OpListen Op = "listen"
	OpPorts  Op = "ports"
)

// Reply answers a request, or tells of the end of a command.
type Reply struct {
	ID    uint64
	Err   string        `json:",omitempty"`
	Errno syscall.Errno `json:",omitempty"`
	Ports []int         `json:",omitempty"` // that something in there listens on
	Exit  *Exit         `json:",omitempty"` // set: not an answer but the end of command ID
}

// Err is the error that a reply carries, if any.
func (r Reply) Error() error {
	switch {
	case r.Errno != 0 && r.Err != "":
		return fmt.Errorf("%s: %w", r.Err, r.Errno)
	case r.Errno != 0:
		return r.Errno
	case r.Err != "":
		return errors.New(r.Err)
	}
	return nil
}

// Socket is a connected unix stream socket. Send writes all of p or fails.
type Socket interface {
	Send(p, oob []byte) error
	Receive(p, oob []byte) (n, oobn int, err error)
}

// Link is one end of the socket. Reading belongs to one goroutine; writing is safe from many.
type Link struct {
	Socket Socket
	mu     sync.Mutex
}

// Send writes a frame.
func (l *Link) Send(v any, fds ...int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("message of %d bytes is over the limit of %d", len(body), maxFrame)
	}
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(fds) == 0 {
		return l.Socket.Send(frame, nil)
	}
	if err := l.Socket.Send(frame[:4], unix.UnixRights(fds...)); err != nil {
		return err
	}
	return l.Socket.Send(frame[4:], nil)
}

// Receive reads a frame into v.
func (l *Link) Receive(v any) (fds []int, err error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(8*4))
	for got := 0; got < len(head); {
		n, oobn, err := l.Socket.Receive(head[got:], oob)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.EOF
		}
		got += n
		if oobn > 0 {
			more, err := rights(oob[:oobn])
			if err != nil {
				return nil, err
			}
			fds = append(fds, more...)
		}
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		CloseAll(fds)
		return nil, fmt.Errorf("message of %d bytes is over the limit of %d", size, maxFrame)
	}
	body := make([]byte, size)
	for got := 0; got < len(body); {
		n, _, err := l.Socket.Receive(body[got:], nil)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			CloseAll(fds)
			return nil, err
		}
		got += n
	}
	if err := json.Unmarshal(body, v); err != nil {
		CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

func rights(oob []byte) (fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseAll closes received files.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// descriptor is init's own end: a plain blocking socket, which needs no network package.
type descriptor int

func (d descriptor) Send(p, oob []byte) error {
	for len(p) > 0 {
		n, err := unix.SendmsgN(int(d), p, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, oob = p[n:], nil
	}
	return nil
}

func (d descriptor) Receive(p, oob []byte) (n, oobn int, err error) {
	for {
		n, oobn, _, _, err = unix.Recvmsg(int(d), p, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			return n, oobn, err
		}
	}
}
