package layout

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"weir/internal/artifact"
	"weir/internal/base/oci"
)

// Entry is one file of a layer, its name relative to the image's root.
type Entry struct {
	*tar.Header
	Path string
}

// Left reports whether e is a device or a pipe. Those are named and never made: a host would have to make them with rights that it does not
// have, and gives each process devices of its own.
func (e Entry) Left() bool {
	return e.Typeflag == tar.TypeChar || e.Typeflag == tar.TypeBlock || e.Typeflag == tar.TypeFifo
}

// Budget counts what is unpacked over the layers of one image.
type Budget struct {
	Most  int64 // bytes; 0 is what a host allows itself
	bytes int64
	files int
}

// Walk reads a layer, which is hostile, and calls fn with each entry; the body
// need not be read. It says what is wrong as the end of a sentence.
func Walk(mediaType string, layer io.Reader, spent *Budget, fn func(Entry, io.Reader) error) (diffID string, err error) {
	unpacked, err := oci.Plain(mediaType, layer)
	if err != nil {
		return "", err
	}
	defer unpacked.Close()
	var r io.Reader = unpacked
	plain := sha256.New()
	r = io.TeeReader(&bounded{r, spent}, plain)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", unreadable(err)
		}
		if spent.files++; spent.files > maxFiles {
			return "", fmt.Errorf("brings the image to more than %d files", maxFiles)
		}
		e, err := entry(h)
		if err != nil {
			return "", err
		}
		if e.Path == "" {
			continue
		}
		if err := fn(e, t); err != nil {
			return "", err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", unreadable(err)
	}
	return "sha256:" + hex.EncodeToString(plain.Sum(nil)), nil
}

type tooLarge int64

func (t tooLarge) Error() string { return fmt.Sprintf("unpacks to more than %d bytes", int64(t)) }

func unreadable(err error) error {
	if t, ok := err.(tooLarge); ok {
		return t
	}
	return fmt.Errorf("cannot be read (%w)", err)
}

type bounded struct {
	r     io.Reader
	spent *Budget
}

func (b *bounded) Read(p []byte) (int, error) {
	most := cmp.Or(b.spent.Most, maxUnpacked)
	left := most - b.spent.bytes
	if left <= 0 {
		return 0, tooLarge(most)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), left)])
	b.spent.bytes += int64(n)
	return n, err
}

// entry refuses what may not be in an image. Path is "" for the root itself.
func entry(h *tar.Header) (Entry, error) {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return Entry{}, fmt.Errorf("holds %q, which leads out of the image", h.Name)
	}
	if name == "." {
		name = ""
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		name = ""
	case tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeReg:
		if sparse(h) {
			return Entry{}, fmt.Errorf("holds %q as a sparse file; write it whole", h.Name)
		}
	case tar.TypeLink:
		if !filepath.IsLocal(path.Clean(strings.TrimLeft(h.Linkname, "/"))) {
			return Entry{}, fmt.Errorf("holds %q, which links out of the image", h.Name)
		}
	default:
		return Entry{}, fmt.Errorf("holds %q, which is none of the things that an image may hold", h.Name)
	}
	return Entry{h, name}, nil
}

// Check reads every layer of every image: its bytes have the digest that the
// manifest names, its content the one that the configuration names.
func (l *Layout) Check() error {
	for _, img := range l.Images {
		if err := l.Files(img, func(int, Entry, io.Reader) error { return nil }); err != nil {
			return err
		}
	}
	for _, o := range l.Others {
		for _, d := range o.Blobs {
			h := sha256.New()
			r, err := l.Blob(d.Digest)
			if err != nil {
				return err
			}
			if _, err := io.Copy(h, r); err != nil {
				return err
			}
			if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != d.Digest {
				return l.bad("the blob %s has the digest %s", d.Digest, got)
			}
		}
	}
	return nil
}

// Files calls fn with the entries of an image, layer by layer, and checks the
// layers as it goes. Whiteouts come as the entries that they are.
func (l *Layout) Files(img Image, fn func(layer int, e Entry, body io.Reader) error) error {
	var spent Budget
	for n, d := range img.Layers {
		if err := l.layer(d, img.Config.RootFS.DiffIDs[n], &spent, func(e Entry, body io.Reader) error { return fn(n, e, body) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) layer(d artifact.Descriptor, diffID string, spent *Budget, fn func(Entry, io.Reader) error) error {
	r, err := l.Blob(d.Digest)
	if err != nil {
		return err
	}
	packed := sha256.New()
	tee := io.TeeReader(r, packed)
	got, err := Walk(d.MediaType, tee, spent, fn)
	if err != nil {
		return l.bad("the layer %s %v", d.Digest, err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if have := "sha256:" + hex.EncodeToString(packed.Sum(nil)); have != d.Digest {
		return l.bad("the layer %s has the digest %s", d.Digest, have)
	}
	if got != diffID {
		return l.bad("the layer %s has the content %s, and its image says %s", d.Digest, got, diffID)
	}
	return nil
}
