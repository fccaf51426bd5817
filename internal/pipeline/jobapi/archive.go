package jobapi

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
)

const (
	maxEntries = 200_000
	maxUnpack  = 10 << 30
)

// toTar streams an uploaded file as a tar: a zip's files, or the file itself if it is none. Names that lead out are refused.
func toTar(file, name string) (io.ReadCloser, error) {
	z, err := zip.OpenReader(file)
	if errors.Is(err, zip.ErrFormat) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		return stream(f, func(t *tar.Writer) error { return entry(t, name, 0o644, st.Size(), f) }), nil
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "The upload is no readable zip: %v.", err)
	}
	total := uint64(0)
	for _, f := range z.File {
		total += f.UncompressedSize64
		clean := path.Clean(strings.ReplaceAll(f.Name, "\\", "/"))
		if !filepath.IsLocal(clean) {
			z.Close()
			return nil, fault.New(fault.Invalid, "The artifact holds %q, which leads out of its folder.", f.Name)
		}
		if !f.Mode().IsRegular() && !f.Mode().IsDir() {
			z.Close()
			return nil, fault.New(fault.Invalid, "The artifact holds %q, which is neither a file nor a folder.", f.Name)
		}
	}
	if len(z.File) > maxEntries || total > maxUnpack {
		z.Close()
		return nil, fault.New(fault.Invalid, "The artifact has more than %d files or %d bytes.", maxEntries, int64(maxUnpack))
	}
	return stream(z, func(t *tar.Writer) error {
		for _, f := range z.File {
			if f.Mode().IsDir() {
				continue
			}
			r, err := f.Open()
			if err != nil {
				return err
			}
			err = entry(t, path.Clean(strings.ReplaceAll(f.Name, "\\", "/")), f.Mode().Perm()|0o600, int64(f.UncompressedSize64), r)
			r.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func entry(t *tar.Writer, name string, mode fs.FileMode, size int64, r io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(mode), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := io.CopyN(t, r, size) // a zip that lies about its sizes ends here
	return err
}

// stream runs write in the background, until the reader is closed.
func stream(source io.Closer, write func(*tar.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := write(t)
		if err == nil {
			err = t.Close()
		}
		source.Close()
		w.CloseWithError(err)
	}()
	return r
}

// toZip streams a tar as a zip.
func toZip(in io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(func() error {
			z, t := zip.NewWriter(w), tar.NewReader(in)
			for {
				h, err := t.Next()
				if err == io.EOF {
					return z.Close()
				}
				if err != nil {
					return err
				}
				name := path.Clean(h.Name)
				if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
					continue // links do not travel in artifacts
				}
				head := &zip.FileHeader{Name: name, Method: zip.Deflate}
				head.SetMode(fs.FileMode(h.Mode) & 0o777)
				f, err := z.CreateHeader(head)
				if err != nil {
					return err
				}
				if _, err := io.Copy(f, t); err != nil {
					return err
				}
			}
		}())
	}()
	return r
}
