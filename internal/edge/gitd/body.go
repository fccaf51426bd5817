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
)

// body returns what a client sends, unpacked and bounded.
func body(w http.ResponseWriter, r *http.Request, limit int64) io.Reader {
	var in io.Reader = http.MaxBytesReader(w, r.Body, limit+1<<20)
	if r.Header.Get("Content-Encoding") == "gzip" {
		in = &lazyGzip{in: in}
	}
	return io.LimitReader(in, limit+1<<20)
}

// lazyGzip reports a body that is not gzip where it is read.
type lazyGzip struct {
	in io.Reader
	z  *gzip.Reader
}

func (g *lazyGzip) Read(p []byte) (n int, err error) {
	if g.z == nil {
		if g.z, err = gzip.NewReader(g.in); err != nil {
			return 0, fmt.Errorf("the body is not gzip: %w", err)
		}
	}
	return g.z.Read(p)
}

// spool keeps a push in a temporary file without a name. It returns nil if the
// push was refused for its size: then git has been told, in its own protocol,
// since a plain HTTP status would reach nobody's eyes.
func (h *Handler) spool(w http.ResponseWriter, r *http.Request) (*os.File, error) {
	f, err := os.CreateTemp("", "weir-push-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // It goes when it is closed.
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		in = &lazyGzip{in: in}
	}
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
