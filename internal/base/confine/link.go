package confine

import (
	"fmt"
	"net"
	"os"

	"weir/internal/base/jail"
)

// socket is the parent's end of the control socket.
type socket struct{ conn *net.UnixConn }

var _ jail.Socket = socket{}

func control(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return c.(*net.UnixConn), nil
}

// Send implements jail.Socket.
func (s socket) Send(p, oob []byte) error {
	if len(oob) == 0 {
		_, err := s.conn.Write(p)
		return err
	}
	_, _, err := s.conn.WriteMsgUnix(p, oob, nil)
	return err
}

// Receive implements jail.Socket.
func (s socket) Receive(p, oob []byte) (n, oobn int, err error) {
	if oob == nil {
		n, err = s.conn.Read(p)
		return n, 0, err
	}
	n, oobn, _, _, err = s.conn.ReadMsgUnix(p, oob)
	return n, oobn, err
}

// portError says what a failed dial or listen means.
func portError(what string, port int, err error) error {
	return fmt.Errorf("%s port %d in the sandbox: %w", what, port, err)
}
