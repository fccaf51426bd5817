package confine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The parent and init speak frames over a unix stream socket: four bytes of length, then JSON. File
// descriptors travel with the length, so that a reader which takes exactly those four bytes gets them.

const maxFrame = 8 << 20

// boot is the first frame: what the sandbox is. Init answers with an empty reply, or one with Err.
type boot struct {
	Dir        string
	Image      string // the file tree, if not the machine's own folders
	Roots      []root
	Masks      []string // paths replaced by nothing
	Namespaces bool
	NetNS      bool
	Unconfined bool
	Limits     Limits
}

type root struct {
	Path     string
	Write    bool
	Optional bool // left out when missing
}

type request struct {
	ID   uint64
	Op   op
	Argv []string `json:",omitempty"`
	Env  []string `json:",omitempty"`
	Dir  string   `json:",omitempty"`
	Proc uint64   `json:",omitempty"`
	Sig  int      `json:",omitempty"`
	Port int      `json:",omitempty"`
}

type op string

const (
	opStart  op = "start"
	opSignal op = "signal"
	opDial   op = "dial"
	opListen op = "listen"
)

type reply struct {
	ID      uint64
	Err     string        `json:",omitempty"`
	Errno   syscall.Errno `json:",omitempty"`
	Exit    *Exit         `json:",omitempty"` // set: not an answer but the end of command ID
	Support *Support      `json:",omitempty"`
}

func (r reply) err() error {
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

// link is one end of the socket. Reading belongs to one goroutine; writing is safe from many.
type link struct {
	conn *net.UnixConn
	mu   sync.Mutex
}

func newLink(f *os.File) (*link, error) {
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return &link{conn: c.(*net.UnixConn)}, nil
}

func (l *link) send(v any, fds ...int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("message of %d bytes is over the limit of %d", len(body), maxFrame)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(fds) == 0 {
		_, err := l.conn.Write(append(head[:], body...))
		return err
	}
	if _, _, err := l.conn.WriteMsgUnix(head[:], unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	_, err = l.conn.Write(body)
	return err
}

func (l *link) receive(v any) (fds []int, err error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(8*4))
	for got := 0; got < len(head); {
		n, oobn, _, _, err := l.conn.ReadMsgUnix(head[got:], oob)
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
		closeAll(fds)
		return nil, fmt.Errorf("message of %d bytes is over the limit of %d", size, maxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(l.conn, body); err != nil {
		closeAll(fds)
		return nil, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		closeAll(fds)
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

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
