package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/internal/base/db"
	"weir/internal/pipeline"
)

const (
	chunkBytes = 1 << 20
	gather     = 300 * time.Millisecond // logs that end together are sealed together
	lookAgain  = time.Minute
)

// Name implements part.Service.
func (d *Dir) Name() string { return "log archive" }

// Run seals what is complete until ctx ends. What a process before this one left is sealed first.
func (d *Dir) Run(ctx context.Context) error {
	if d.blobs == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		if err := d.Seal(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "logs not sealed; it will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.sealed:
		case <-time.After(lookAgain):
		}
		select { // a moment, for others that end now
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(gather):
		}
	}
}

// Seal moves every file that is complete into the blob store. Doing it again does nothing.
func (d *Dir) Seal(ctx context.Context) error {
	d.sealing.Lock()
	defer d.sealing.Unlock()
	runs, err := os.ReadDir(d.root)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	b := batch{d: d, folds: map[pipeline.LogRef]*fold{}}
	var errs []error
	for _, r := range runs {
		segments, err := d.segments(pipeline.RunID(r.Name()), "", 0)
		errs = append(errs, err)
		stuck := pipeline.LogRef{}
		for _, s := range segments {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if d.written(s) || s.ref == stuck {
				continue
			}
			if err := b.add(ctx, s); err != nil { // the parts of a log are sealed in order, so the others of this one wait
				errs, stuck = append(errs, fmt.Errorf("seal %s: %w", s.path, err)), s.ref
				continue
			}
			if b.raw >= segmentBytes {
				errs = append(errs, b.commit(ctx))
			}
		}
	}
	return errors.Join(append(errs, b.commit(ctx))...)
}

// batch is what goes into one blob and one transaction.
type batch struct {
	d      *Dir
	folds  map[pipeline.LogRef]*fold
	chunks []Chunk
	files  []string
	blob   bytes.Buffer
	raw    int64
	buf    []byte // of the file that is packed
	packed []byte
}

var encoder = must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20)))

// add compresses one file.
func (b *batch) add(ctx context.Context, s segment) error {
	f := b.folds[s.ref]
	if f == nil {
		f = &fold{}
		b.d.mu.Lock()
		fresh := b.d.fresh[s.ref]
		b.d.mu.Unlock()
		if !fresh {
			var err error
			if f.out, _, err = b.d.index.Outline(ctx, s.ref); err != nil {
				return err
			}
		}
		b.folds[s.ref] = f
	}
	in, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if s.offset+st.Size() <= f.out.Bytes { // recorded, but not removed before a crash
		b.files = append(b.files, s.path)
		return nil
	}
	if s.offset != f.out.Bytes {
		slog.WarnContext(ctx, "log has a gap", "path", s.path, "sealed", f.out.Bytes)
		f.out.Bytes = s.offset
	}
	was, chunks, size := f.clone(), len(b.chunks), b.blob.Len()
	if err := b.pack(s, in, f); err != nil {
		b.folds[s.ref], b.chunks = was, b.chunks[:chunks]
		b.blob.Truncate(size)
		return err
	}
	b.files = append(b.files, s.path)
	return nil
}

// pack cuts a file into chunks of whole lines. A line that a crash cut short is ended.
func (b *batch) pack(s segment, in io.Reader, f *fold) error {
	if b.buf == nil {
		b.buf = make([]byte, 0, chunkBytes+1) // and an end for a line that has none
	}
	buf := b.buf[:0]
	for over := false; !over || len(buf) > 0; {
		n, err := io.ReadFull(in, buf[len(buf):chunkBytes])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			over = true
		case err != nil:
			return err
		}
		if len(buf) == 0 {
			return nil
		}
		cut := bytes.LastIndexByte(buf, '\n') + 1
		if cut == 0 || over && cut < len(buf) {
			buf = append(buf, '\n')
			cut = len(buf)
		}
		k := Chunk{Ref: s.ref, Offset: f.out.Bytes, Line: f.out.Lines + 1, Bytes: int64(cut), At: int64(b.blob.Len())}
		for line := range bytes.Lines(buf[:cut]) {
			f.take(line[:len(line)-1])
		}
		k.Lines = f.out.Lines + 1 - k.Line
		b.packed = encoder.EncodeAll(buf[:cut], b.packed[:0])
		k.Stored = int64(len(b.packed))
		b.blob.Write(b.packed)
		b.chunks = append(b.chunks, k)
		b.raw += k.Bytes
		rest := copy(buf[:cap(buf)], buf[cut:])
		buf = buf[:rest]
	}
	return nil
}

// commit stores the blob, then its place, and only then removes the files.
func (b *batch) commit(ctx context.Context) error {
	if len(b.chunks) > 0 {
		digest, _, err := b.d.blobs.Put(ctx, bytes.NewReader(b.blob.Bytes()))
		if err != nil {
			return fmt.Errorf("keep log: %w", err)
		}
		outlines := map[pipeline.LogRef]pipeline.LogOutline{}
		for i := range b.chunks {
			b.chunks[i].Blob = digest
			outlines[b.chunks[i].Ref] = b.folds[b.chunks[i].Ref].out
		}
		if err := b.d.index.Record(ctx, b.chunks, outlines, time.Now()); err != nil {
			return fmt.Errorf("record log: %w", err)
		}
		b.d.mu.Lock()
		for ref := range outlines {
			delete(b.d.fresh, ref)
		}
		b.d.mu.Unlock()
	}
	var errs []error
	for _, path := range b.files {
		errs = append(errs, db.WritePoint(func() error { return os.Remove(path) }))
		_ = os.Remove(filepath.Dir(path)) // once it is empty
	}
	b.folds, b.chunks, b.files, b.raw = map[pipeline.LogRef]*fold{}, nil, nil, 0
	b.blob.Reset()
	return errors.Join(errs...)
}
