package oci

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
)

// StoreConfig is where a store is and what bounds it.
type StoreConfig struct {
	Dir string
	// Owner is the user of this machine that stands for a user of an image; nil leaves every file to this process.
	Owner func(id int) int
	// Most is how many bytes one image may unpack to, default 16 GiB; Keep how many all together take before the longest unused go,
	// default 32 GiB.
	Most, Keep int64
	// Free is how many bytes are left where Dir is; an image is refused while fewer than Least are. Nil is any number.
	Free  func() uint64
	Least uint64
}

// Store is a folder of layers. Its methods may be called concurrently, and several processes may use one folder; what is longest
// unused is removed only while no other has it open.
type Store struct {
	cfg  StoreConfig
	lock *os.File // held shared as long as the process lives

	mu      sync.Mutex
	pulling map[string]chan struct{} // by layer
	held    map[string]int           // layers that images in use have
}

const maxEntries = 2_000_000

// Open returns the store in a folder, without what an earlier process left half done.
func Open(cfg StoreConfig) (*Store, error) {
	if cfg.Most == 0 {
		cfg.Most = 16 << 30
	}
	if cfg.Keep == 0 {
		cfg.Keep = 32 << 30
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil { // nobody else is at work here
		left, err := filepath.Glob(filepath.Join(cfg.Dir, ".layer-*"))
		if err != nil {
			return nil, err
		}
		for _, dir := range left {
			if err := RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("clean image store: %w", err)
			}
		}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return &Store{cfg: cfg, lock: lock, pulling: map[string]chan struct{}{}, held: map[string]int{}}, nil
}

// Pull makes an image ready to be mounted, and keeps it so until release is called.
func (s *Store) Pull(ctx context.Context, src Source, r Reference) (_ Image, release func(), err error) {
	m, digest, err := resolve(ctx, src, r)
	if err != nil {
		return Image{}, nil, err
	}
	c, err := configOf(ctx, src, r, m)
	if err != nil {
		return Image{}, nil, err
	}
	img := Image{Name: r.String(), Digest: digest, Config: c.Config}
	var names []string
	chain := ""
	for i, d := range m.Layers {
		diff := c.RootFS.DiffIDs[i]
		switch {
		case !digestForm.MatchString(d.Digest) || !digestForm.MatchString(diff):
			return Image{}, nil, fault.New(fault.Invalid, "%s names a layer whose digest is not sha256.", r)
		case len(d.URLs) > 0 || strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable"):
			return Image{}, nil, fault.New(fault.Invalid, "%s has a layer that its registry does not hold but points elsewhere for; such images are not run.", r)
		}
		if chain = diff; i > 0 {
			sum := sha256.Sum256([]byte(names[i-1] + " " + diff))
			chain = "sha256:" + hex.EncodeToString(sum[:])
		}
		names = append(names, chain)
	}
	s.hold(names, 1)
	free := sync.OnceFunc(func() { s.hold(names, -1) })
	defer func() {
		if err != nil {
			free()
		}
	}()
	left := s.cfg.Most
	for i, d := range m.Layers {
		size, err := s.layer(ctx, src, r, d, c.RootFS.DiffIDs[i], names[:i+1], left)
		if err != nil {
			return Image{}, nil, err
		}
		left -= size
		img.Size += size
		img.Layers = append(img.Layers, s.folder(names[i]))
	}
	now := time.Now()
	for _, dir := range img.Layers {
		_ = os.Chtimes(sizeFile(dir), now, now)
	}
	s.trim()
	return img, free, nil
}

// folder of a layer. Its name is short, because those of all layers of a container share one page of mount options.
func (s *Store) folder(chain string) string {
	return filepath.Join(s.cfg.Dir, strings.TrimPrefix(chain, "sha256:")[:20])
}

func sizeFile(dir string) string { return dir + ".size" }

func (s *Store) hold(names []string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		dir := s.folder(name)
		if s.held[dir] += n; s.held[dir] == 0 {
			delete(s.held, dir)
		}
	}
}

// layer unpacks a layer unless it is there, and says how many bytes it has.
func (s *Store) layer(ctx context.Context, src Source, r Reference, d descriptor, diff string, chain []string, left int64) (int64, error) {
	dir := s.folder(chain[len(chain)-1])
	for { // whoever comes first unpacks; the others wait
		s.mu.Lock()
		other := s.pulling[dir]
		if other == nil {
			s.pulling[dir] = make(chan struct{})
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer func() {
		s.mu.Lock()
		close(s.pulling[dir])
		delete(s.pulling, dir)
		s.mu.Unlock()
	}()
	other, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600) // of other processes
	if err != nil {
		return 0, err
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	if b, err := os.ReadFile(sizeFile(dir)); err == nil {
		var size int64
		if _, err := fmt.Sscan(string(b), &size); err == nil {
			if size > left {
				return 0, s.tooBig(r)
			}
			return size, nil
		}
	}
	if err := RemoveAll(dir); err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp(s.cfg.Dir, ".layer-")
	if err != nil {
		return 0, err
	}
	defer RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return 0, err
	}
	size, err := s.unpack(ctx, src, r, d, diff, chain[:len(chain)-1], tmp, left)
	switch {
	case errors.Is(err, errRoom):
		return 0, s.tooBig(r)
	case fault.KindOf(err) != "" && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unavailable):
		return 0, fault.Wrap(fault.KindOf(err), err, "A layer of %s is refused: %s.", r, strings.TrimSuffix(fault.Sentence(err), "."))
	case err != nil:
		return 0, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return 0, err
	}
	// Last, because only a layer with its size counts as whole.
	return size, os.WriteFile(sizeFile(dir), []byte(fmt.Sprint(size)), 0o644)
}

func (s *Store) tooBig(r Reference) error {
	return fault.New(fault.Invalid, "%s unpacks to more than %d MiB or %d files; so large an image is not run.", r, s.cfg.Most>>20, maxEntries)
}

func (s *Store) unpack(ctx context.Context, src Source, r Reference, d descriptor, diff string, below []string, tmp string, left int64) (int64, error) {
	body, err := src.Blob(ctx, r.Name(), d.Digest)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	defer context.AfterFunc(ctx, func() { body.Close() })()
	packed, plain := sha256.New(), sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(io.LimitReader(body, d.Size+1), packed), 1<<16)
	stream, err := decompress(in)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	b := &room{bytes: left, files: maxEntries, owner: s.cfg.Owner}
	for _, name := range slices.Backward(below) {
		l, err := os.OpenRoot(s.folder(name))
		if err != nil {
			return 0, err
		}
		defer l.Close()
		b.lower = append(b.lower, l)
	}
	guard := &guarded{r: io.TeeReader(stream, plain), s: s, most: left + maxEntries*1536}
	err = b.layer(guard, tmp)
	if err == nil { // what follows the archive counts for the digests
		_, err = io.Copy(io.Discard, guard)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, err
	case !sums(packed, d.Digest):
		return 0, fault.New(fault.Invalid, "its bytes are not what its digest %s says", d.Digest)
	case !sums(plain, diff):
		return 0, fault.New(fault.Invalid, "it unpacks to something else than the image's configuration says")
	}
	return left - b.bytes, nil
}

func sums(h hash.Hash, want string) bool {
	return "sha256:"+hex.EncodeToString(h.Sum(nil)) == want
}

// decompress looks at the first bytes rather than at what the manifest says.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fault.New(fault.Invalid, "it is no readable gzip archive: %v", err)
		}
		return z, nil
	case len(head) == 4 && head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f && head[3] == 0xfd:
		z, err := newZstd(r)
		if err != nil {
			return nil, fault.New(fault.Invalid, "it is no readable zstd archive: %v", err)
		}
		return z, nil
	}
	return io.NopCloser(r), nil
}

// guarded stops an archive that never ends, and one for which the disk has no room.
type guarded struct {
	r    io.Reader
	s    *Store
	n    int64
	most int64
	next int64
}

// Read implements io.Reader.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if g.n += int64(n); g.n > g.most {
		return n, errRoom
	}
	if g.n >= g.next && g.s.cfg.Free != nil {
		g.next = g.n + 16<<20
		if free := g.s.cfg.Free(); free < g.s.cfg.Least+16<<20 {
			return n, fault.New(fault.Invalid, "the runner's disk has only %d MiB left, and the image needs more", free>>20)
		}
	}
	return n, err
}

// trim removes the layers that are the longest unused while there are too many bytes of them.
func (s *Store) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, _ := filepath.Glob(filepath.Join(s.cfg.Dir, "*.size"))
	type entry struct {
		dir  string
		used time.Time
		size int64
	}
	var all []entry
	total := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		b, rerr := os.ReadFile(f)
		if err != nil || rerr != nil {
			continue
		}
		e := entry{dir: strings.TrimSuffix(f, ".size"), used: info.ModTime()}
		fmt.Sscan(string(b), &e.size)
		total += e.size
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	if total <= s.cfg.Keep || unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	defer unix.Flock(int(s.lock.Fd()), unix.LOCK_SH)
	for _, e := range all {
		if total <= s.cfg.Keep {
			return
		}
		if s.held[e.dir] > 0 || s.pulling[e.dir] != nil {
			continue
		}
		// The size first: a folder without it does not count as a layer.
		if os.Remove(sizeFile(e.dir)) == nil {
			total -= e.size
			_ = RemoveAll(e.dir)
			_ = os.Remove(e.dir + ".lock")
		}
	}
}

// RemoveAll is os.RemoveAll that also gets rid of folders without write permission.
func RemoveAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
