package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
)

// built makes the image of an action from its Dockerfile, with buildah in a builder's sandbox: what the Dockerfile runs is confined as
// the job is.
func (j *job) built(ctx context.Context, uses, folder, file string) (img oci.Image, err error) {
	at, err := below(folder, file)
	if err != nil {
		return img, err
	}
	text, err := j.read(at, maxFile)
	if err != nil || text == "" {
		return img, failure(fmt.Sprintf("uses: %s says that its image is %s, and there is no such file in its folder", uses, file))
	}
	tool := look("buildah")
	if tool == "" {
		return img, failure(fmt.Sprintf("uses: %s is built from its %s when it runs, and this runner has no buildah. Install it there (Debian: apt-get install buildah), "+
			"or build the image in a job of its own, push it to Weir's registry, and write image: docker://NAME:TAG in its action.yml", uses, file))
	}
	root := filepath.Join(j.dir, "workspace")
	if first, _, _ := cutFolder(folder); first != "workspace" {
		root = filepath.Join(j.dir, filepath.FromSlash(folder))
	}
	b := imageBuild{j: j, context: filepath.Join(j.dir, filepath.FromSlash(folder)), sees: root, dockerfile: at, out: j.dir + ".action-image", bases: &bases{seen: map[string]string{}}}
	if err := os.Mkdir(b.out, 0o700); err != nil {
		return img, fmt.Errorf("make folder of the image: %w", err)
	}
	defer remove(b.out)
	if err := j.openAPI(); err != nil {
		return img, err
	}
	if err := b.buildah(ctx, tool, text); err != nil {
		return img, err
	}
	j.materials = append(j.materials, b.bases.list()...)
	layout := filepath.Join(b.out, "layout")
	if err := extract(filepath.Join(b.out, "image.tar"), layout); err != nil {
		return img, err
	}
	store, err := j.runner.store()
	if err != nil {
		return img, err
	}
	img, release, err := store.Pull(ctx, oci.Layout{Dir: layout}, oci.Reference{Repository: "action", Tag: "built"})
	if err != nil {
		if fault.KindOf(err) != "" {
			return img, failure(fault.Sentence(err))
		}
		return img, fmt.Errorf("take the image of %s: %w", uses, err)
	}
	img.Name = uses + " (" + file + ")"
	g := j.containers()
	g.mu.Lock()
	g.releases = append(g.releases, release)
	g.images = append(g.images, pipeline.Image{Name: img.Name, Digest: img.Digest, Use: "action " + uses})
	g.mu.Unlock()
	return img, nil
}

// cutFolder is the first folder of a path, and the rest.
func cutFolder(p string) (first, rest string, ok bool) {
	for i := range len(p) {
		if p[i] == '/' {
			return p[:i], p[i+1:], true
		}
	}
	return p, "", false
}

// extract unpacks an archive of an image, which a builder wrote: plain files, whatever their digests.
func extract(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t, total := tar.NewReader(f), int64(0)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read image: %w", err)
		}
		name := path.Clean(h.Name)
		if total += h.Size; n > maxEntries || total > maxUnpack || !filepath.IsLocal(name) {
			return failure("the image that was built has too many files or bytes")
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(out, t)
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}
