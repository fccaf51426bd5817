package gitd

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"weir/internal/base/fault"
)

// body returns what a client sends, unpacked. A body that says that it is gzip
// and is not is the client's mistake.
func body(r *http.Request) (io.Reader, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return r.Body, nil
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The body of this request is not gzip, though it says so.")
	}
	return z, nil
}

// spool keeps a push in a temporary file without a name. It returns nil if the
// push was refused for its size: then git has been told, in its own protocol,
// since a plain HTTP status would reach nobody's eyes.
func (h *Handler) spool(w http.ResponseWriter, r *http.Request) (*os.File, error) {
	in, err := body(r)
	if err != nil {
		refuse(w, "receive-pack", false, err)
		return nil, nil
	}
	f, err := os.CreateTemp("", "weir-push-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // It goes when it is closed.
	n, err := io.Copy(f, io.LimitReader(in, h.MaxPush+1))
	if err == nil && n > h.MaxPush {
		// What is left is read and dropped, up to a bound, so that git comes to
		// reading the answer.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 8*h.MaxPush))
		_, err = f.Seek(0, io.SeekStart)
		if err == nil {
			w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
			_, err = w.Write(refusal(f, fmt.Sprintf("This push is larger than the limit of %s. Push in smaller steps, and keep large files out of git.", size(h.MaxPush))))
		}
		f.Close()
		return nil, err
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("receive push: %w", err)
	}
	return f, nil
}

func size(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// refusal answers the commands of a push as receive-pack would if it could not
// unpack: a line for the person, and no for each ref.
func refusal(in io.Reader, sentence string) []byte {
	var refs []string
	sideband := false
	for len(refs) < 1000 {
		line, ok := readPacket(in)
		if !ok {
			break
		}
		command, capabilities, first := bytes.Cut(line, []byte{0})
		if first {
			sideband = strings.Contains(string(capabilities), "side-band-64k")
		}
		if f := strings.Fields(string(command)); len(f) == 3 {
			refs = append(refs, f[2])
		}
	}
	report := packet("unpack too large\n")
	for _, ref := range refs {
		report += packet("ng " + ref + " too large\n")
	}
	report += "0000"
	if !sideband {
		return []byte(report)
	}
	out := packet("\x02Weir: " + sentence + "\n")
	for len(report) > 0 {
		n := min(len(report), 60_000)
		out += packet("\x01" + report[:n])
		report = report[n:]
	}
	return []byte(out + "0000")
}

// readPacket reads one pkt-line; false at a flush, or at anything that is none.
func readPacket(in io.Reader) ([]byte, bool) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, false
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || n < 4 {
		return nil, false
	}
	line := make([]byte, n-4)
	_, err = io.ReadFull(in, line)
	return line, err == nil
}
