package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/edge/api/client"
)

const (
	large    = 256 << 20
	small    = 4 << 10
	smalls   = 1000
	at       = 8 // small blobs at a time, also of the floor
	rounds   = 3 // of which the middle counts
	huge     = 1 << 30
	parallel = 32
)

// images measures pushes to and pulls from the registry, as stock clients do them, against hashing the same bytes, writing them to a
// file and waiting until they are on disk. Floor and figure alternate, so that both see the same disk.
func images(ctx context.Context, weir string, t *table) (err error) {
	s, err := serve(ctx, weir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r := &pusher{server: s, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel, WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10}}}
	if r.token, err = s.maintainer(ctx); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	one := make([]byte, large)
	var push, pull, floor, many, manyFloor []float64
	timed := func(into *[]float64, do func() error) error {
		began := time.Now()
		err := do()
		*into = append(*into, ms(time.Since(began)))
		return err
	}
	for round := range rounds {
		_, _ = random.Read(one)
		var digest string
		if err := errors.Join(
			timed(&floor, func() error { return written(filepath.Join(s.dir, "floor"), bytes.NewReader(one)) }),
			timed(&push, func() error { digest, err = r.push(ctx, bytes.NewReader(one), large); return err }),
			timed(&pull, func() error { return r.pull(ctx, digest, filepath.Join(s.dir, "pulled")) }),
		); err != nil {
			return err
		}
		blobs := make([][]byte, smalls)
		for i := range blobs {
			blobs[i] = make([]byte, small)
			_, _ = random.Read(blobs[i])
		}
		dir := filepath.Join(s.dir, "floor-"+strconv.Itoa(round))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := errors.Join(
			timed(&manyFloor, func() error {
				return each(smalls, func(i int) error {
					return written(filepath.Join(dir, strconv.Itoa(i)), bytes.NewReader(blobs[i]))
				})
			}),
			timed(&many, func() error {
				return each(smalls, func(i int) error {
					_, err := r.push(ctx, bytes.NewReader(blobs[i]), small)
					return err
				})
			}),
		); err != nil {
			return err
		}
	}
	t.add("push_256mb", middle(push), "ms", middle(floor))
	t.add("pull_256mb", middle(pull), "ms", middle(floor))
	t.add("push_1000x4k", middle(many), "ms", middle(manyFloor))

	// Memory is flat: a blob of 1 GiB, and 32 of 16 MiB at a time, against one of 16 MiB.
	alone, err := s.peakOf(func() error { _, err := r.push(ctx, io.LimitReader(random, 16<<20), 16<<20); return err })
	if err != nil {
		return err
	}
	t.add("push_16mib_peak_rss_mb", alone, "MB", 0)
	one = nil
	peak, err := s.peakOf(func() error { _, err := r.push(ctx, io.LimitReader(random, huge), huge); return err })
	if err != nil {
		return err
	}
	t.add("push_1gib_peak_rss_mb", peak, "MB", alone)
	peak, err = s.peakOf(func() error {
		var wg sync.WaitGroup
		errs := make([]error, parallel)
		for i := range parallel {
			wg.Go(func() {
				_, errs[i] = r.push(ctx, io.LimitReader(rand.NewChaCha8([32]byte{2, byte(i)}), 16<<20), 16<<20)
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	t.add("push_32_parallel_peak_rss_mb", peak, "MB", alone)
	return nil
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// each calls do for 0 to n-1, some at a time.
func each(n int, do func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, at)
	for w := range at {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += at {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// written is the floor: bytes are hashed, written, and on disk.
func written(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return errors.Join(err, f.Close())
	}
	h.Sum(nil)
	return errors.Join(f.Sync(), f.Close())
}

// maintainer makes somebody who may push, and returns their token.
func (s *server) maintainer(ctx context.Context) (string, error) {
	if err := s.admin.Post(ctx, "/users", map[string]any{"name": "pusher", "roles": []string{"maintainer"}}, nil); err != nil {
		return "", err
	}
	var tok client.Token
	err := s.admin.Post(ctx, "/tokens", map[string]any{"user": "pusher", "name": "bench", "hours": 1}, &tok)
	return tok.Token, err
}

// peakOf is the most memory that the server's process has while something is done, in MB. Linux forgets the peak before when it is told
// to (proc_pid_clear_refs(5)).
func (s *server) peakOf(do func() error) (float64, error) {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1024, err
}

// pusher is a client of the registry.
type pusher struct {
	server *server
	http   *http.Client
	token  string
}

func (p *pusher) do(ctx context.Context, method, path string, body io.Reader, size int64, want int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.server.url+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
	}
	req.SetBasicAuth("bench", p.token)
	res, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != want {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		res.Body.Close()
		return nil, fmt.Errorf("%s %s: %s %s", method, path, res.Status, b)
	}
	return res, nil
}

func (p *pusher) end(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.Header.Get("Location"), errors.Join(err, res.Body.Close())
}

// push sends a blob as stock clients do: an upload is begun, the bytes follow as they come, and the digest, which the client learns
// meanwhile, ends it.
func (p *pusher) push(ctx context.Context, r io.Reader, size int64) (string, error) {
	location, err := p.end(p.do(ctx, "POST", "/v2/bench/blobs/uploads/", nil, 0, http.StatusAccepted))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if location, err = p.end(p.do(ctx, "PATCH", location, io.TeeReader(r, h), size, http.StatusAccepted)); err != nil {
		return "", err
	}
	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	_, err = p.end(p.do(ctx, "PUT", location+"?digest="+digest, nil, 0, http.StatusCreated))
	return digest, err
}

// pull gets a blob, and hashes and writes it as clients do, while the next bytes come.
func (p *pusher) pull(ctx context.Context, digest, path string) error {
	res, err := p.do(ctx, "GET", "/v2/bench/blobs/"+digest, nil, 0, http.StatusOK)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	a := &ahead{parts: make(chan []byte, 4), free: make(chan []byte, 6)}
	for range cap(a.free) {
		a.free <- make([]byte, 1<<20)
	}
	go a.fill(res.Body)
	if err := written(path, a); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err == nil && st.Size() != res.ContentLength {
		err = fmt.Errorf("%d bytes came; want %d", st.Size(), res.ContentLength)
	}
	return err
}

// ahead reads from another reader while its own is busy with what came before. It is read to its end.
type ahead struct {
	parts, free chan []byte
	now, rest   []byte
	err         error // once parts is closed
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.parts)
	for {
		b := <-a.free
		n, err := io.ReadFull(r, b)
		a.parts <- b[:n]
		if err != nil {
			if !errors.Is(err, io.EOF) && err != io.ErrUnexpectedEOF {
				a.err = err
			}
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now != nil {
			a.free <- a.now[:cap(a.now)]
			a.now = nil
		}
		b, ok := <-a.parts
		if !ok {
			if a.err != nil {
				return 0, a.err
			}
			return 0, io.EOF
		}
		a.now, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}
