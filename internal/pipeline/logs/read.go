package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Chunk is a part of a log in the blob store: whole lines, compressed by themselves, at a place of a blob that may hold others.
type Chunk struct {
	Ref    pipeline.LogRef
	Offset int64 // of its first byte in the log
	Bytes  int64
	Line   int64 // number of its first line
	Lines  int64
	Blob   blob.Digest
	At     int64 // where it begins in the blob
	Stored int64 // its bytes there
}

// Index remembers where the parts of logs are.
type Index interface {
	// Record adds chunks and replaces the outlines of their logs, all or nothing.
	Record(ctx context.Context, chunks []Chunk, outlines map[pipeline.LogRef]pipeline.LogOutline, now time.Time) error
	// Chunks returns the chunks of a log in order.
	Chunks(ctx context.Context, ref pipeline.LogRef) ([]Chunk, error)
	// Outline returns what is known of the sealed part, and when the log was removed if it was. The zero outline if nothing is sealed.
	Outline(ctx context.Context, ref pipeline.LogRef) (o pipeline.LogOutline, removed time.Time, err error)
}

// cursor reads one log from an offset on, wherever its parts are. One goroutine uses it.
type cursor struct {
	ctx    context.Context // bounds one reader, as the body of a request does
	dir    *Dir
	ref    pipeline.LogRef
	base   string
	offset int64

	chunks []Chunk
	file   *os.File // the segment that is read
	from   int64    // where it begins
	data   []byte   // the chunk that is read
	dataAt int64
}

func (d *Dir) cursor(ctx context.Context, ref pipeline.LogRef, offset int64) (*cursor, error) {
	base, err := d.base(ref)
	if err != nil {
		return nil, err
	}
	c := &cursor{ctx: ctx, dir: d, ref: ref, base: base, offset: offset}
	return c, c.reload()
}

func (c *cursor) reload() (err error) {
	if c.dir.index != nil {
		if c.chunks, err = c.dir.index.Chunks(c.ctx, c.ref); err != nil {
			return fmt.Errorf("find log of %s: %w", c.ref.Job, err)
		}
	}
	return nil
}

// exists returns a NotFound fault if there is no log.
func (c *cursor) exists() error {
	if len(c.chunks) > 0 {
		return nil
	}
	segments, err := c.dir.segments(c.ref.Run, c.ref.Job, c.ref.Attempt)
	if err != nil || len(segments) > 0 {
		return err
	}
	if err := c.reload(); err != nil || len(c.chunks) > 0 { // sealed in between
		return err
	}
	if c.dir.index != nil {
		if _, removed, err := c.dir.index.Outline(c.ctx, c.ref); err != nil {
			return err
		} else if !removed.IsZero() {
			return fault.New(fault.NotFound, "The log of attempt %d of job %s was removed on %s, as the retention of logs says.", c.ref.Attempt, c.ref.Job, removed.Format(time.DateOnly))
		}
	}
	return fault.New(fault.NotFound, "Attempt %d of job %s has written no log.", c.ref.Attempt, c.ref.Job)
}

// read returns what there is at the cursor; 0 and no error at the present end.
func (c *cursor) read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	for range 4 {
		if n := c.buffered(p); n > 0 {
			return n, nil
		}
		if c.file != nil {
			n, err := c.file.ReadAt(p, c.offset-c.from)
			if n > 0 {
				c.offset += int64(n)
				return n, nil
			}
			if err != nil && err != io.EOF {
				return 0, err
			}
		}
		found, err := c.find()
		if err != nil || !found {
			return 0, err
		}
	}
	return 0, nil
}

func (c *cursor) buffered(p []byte) int {
	at := c.offset - c.dataAt
	if c.data == nil || at < 0 || at >= int64(len(c.data)) {
		return 0
	}
	n := copy(p, c.data[at:])
	c.offset += int64(n)
	return n
}

// find opens what holds the next byte and reports whether there may be something to read.
func (c *cursor) find() (bool, error) {
	for again := range 2 {
		if i := c.chunk(c.offset); i >= 0 {
			return true, c.load(c.chunks[i])
		}
		segments, err := c.dir.segments(c.ref.Run, c.ref.Job, c.ref.Attempt)
		if err != nil {
			return false, err
		}
		for i := len(segments) - 1; i >= 0; i-- {
			s := segments[i]
			if s.offset > c.offset {
				continue
			}
			if c.file != nil && c.from == s.offset {
				return false, nil // it is open already and has no more
			}
			f, err := os.Open(s.path)
			if errors.Is(err, fs.ErrNotExist) {
				break // sealed meanwhile
			}
			if err != nil {
				return false, err
			}
			c.drop()
			c.file, c.from = f, s.offset
			return true, nil
		}
		if again == 0 {
			if err := c.reload(); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// chunk is the index of the chunk that holds a byte, or -1.
func (c *cursor) chunk(offset int64) int {
	i := sort.Search(len(c.chunks), func(i int) bool { return c.chunks[i].Offset > offset }) - 1
	if i >= 0 && offset < c.chunks[i].Offset+c.chunks[i].Bytes {
		return i
	}
	return -1
}

func (c *cursor) load(k Chunk) error {
	data, err := c.dir.load(c.ctx, k, c.data[:0])
	if err != nil {
		return err
	}
	c.drop()
	c.data, c.dataAt = data, k.Offset
	return nil
}

func (c *cursor) drop() {
	if c.file != nil {
		_ = c.file.Close()
		c.file = nil
	}
}

// Close implements io.Closer.
func (c *cursor) Close() error {
	c.drop()
	return nil
}

// maxChunk bounds what a chunk may claim to have, so that a damaged row costs no memory.
const maxChunk = 4 << 20

var decoder = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxChunk)))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// load reads and checks one chunk.
func (d *Dir) load(ctx context.Context, k Chunk, into []byte) ([]byte, error) {
	if k.Stored < 0 || k.Stored > maxChunk || k.Bytes < 0 || k.Bytes > maxChunk {
		return nil, fmt.Errorf("chunk at %d of %s claims %d bytes", k.Offset, k.Ref.Job, k.Bytes)
	}
	r, _, err := d.blobs.Open(ctx, k.Blob)
	if err != nil {
		return nil, fmt.Errorf("open log chunk: %w", err)
	}
	defer r.Close()
	if _, err := r.Seek(k.At, io.SeekStart); err != nil {
		return nil, fmt.Errorf("open log chunk: %w", err)
	}
	stored := make([]byte, k.Stored)
	if _, err := io.ReadFull(r, stored); err != nil {
		return nil, fmt.Errorf("read log chunk: %w", err)
	}
	data, err := decoder.DecodeAll(stored, into)
	if err != nil || int64(len(data)) != k.Bytes {
		return nil, fmt.Errorf("log chunk at %d of %s is damaged: %d bytes instead of %d: %w", k.Offset, k.Ref.Job, len(data), k.Bytes, errors.Join(err, errDamaged))
	}
	return data, nil
}

var errDamaged = errors.New("damaged")

// scan calls take for every complete line from a place on, without its newline, until take returns false.
func (d *Dir) scan(ctx context.Context, ref pipeline.LogRef, offset int64, take func(line []byte) bool) error {
	c, err := d.cursor(ctx, ref, offset)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 0, 128<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := c.read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		buf = buf[:len(buf)+n]
		at := 0
		for {
			i := bytes.IndexByte(buf[at:], '\n')
			if i < 0 {
				break
			}
			if !take(buf[at : at+i]) {
				return nil
			}
			at += i + 1
		}
		buf = append(buf[:0], buf[at:]...)
		if len(buf) > maxChunk { // no newline for so long: damaged, and read no further
			return nil
		}
	}
}
