package jail

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket belongs to the network namespace in which it was made. Init makes them inside and hands them out.

func (s *supervisor) answerSocket(id uint64, open func() (int, error)) {
	fd, err := open()
	if err != nil {
		errno, _ := err.(syscall.Errno)
		r := Reply{ID: id, Errno: errno}
		if errno == 0 {
			r.Err = err.Error()
		}
		s.link.Send(r)
		return
	}
	defer unix.Close(fd)
	s.link.Send(Reply{ID: id}, fd)
}

func dialInside(port int) (int, error) {
	fd, err := connect(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err == unix.ECONNREFUSED {
		if fd6, err6 := connect(unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}); err6 == nil {
			return fd6, nil
		}
	}
	return fd, err
}

func connect(family int, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// A full backlog must not hold the thread for ever.
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5})
	for {
		err = unix.Connect(fd, to)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{})
	return fd, nil
}

func listenInside(addr [4]byte, port int) (int, error) {
	if addr == [4]byte{} {
		addr = [4]byte{127, 0, 0, 1}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: addr})
	if err == nil {
		err = unix.Listen(fd, 512)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return err
	}
	// Services may listen on 80 and 443 of a network that is theirs alone. Not fatal: it is a convenience.
	os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
	return nil
}

// maxListening bounds what is told of a network in which somebody listens everywhere.
const maxListening = 256

// listening are the TCP ports that something listens on, at every address or at 127.0.0.1.
func listening() (ports []int) {
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" {
				continue
			}
			addr, hex, _ := strings.Cut(f[1], ":")
			if strings.Trim(addr, "0") != "" && addr != "0100007F" && addr != "00000000000000000000000001000000" {
				continue
			}
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && n > 0 && len(ports) < maxListening && !slices.Contains(ports, int(n)) {
				ports = append(ports, int(n))
			}
		}
	}
	return ports
}
