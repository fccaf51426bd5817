package host

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/deploy/protocol"
)

// Bounds of what an image may be.
const (
	maxManifest = 4 << 20
	maxLayer    = 4 << 30
	maxUnpacked = 8 << 30
	maxEntries  = 200_000
	maxBundles  = 64
	maxBundle   = 16 << 20
)

// images is the cache: one folder a digest, made aside and renamed into place when complete.
//
//	<digest>/index.json      as pulled, if the digest is of an index of platforms; index.1.json and so on are those in it that lead to the image
//	<digest>/manifest.json   as pulled; its bytes have the digest, or the one that the index names for this machine
//	<digest>/config.json     as the manifest names it
//	<digest>/files.json      every file of root with its hash
//	<digest>/bundles/N.json  evidence
//	<digest>/root/           the file tree
type images struct {
	dir     string
	from    *registry
	minFree uint64
	verify  func(ctx context.Context, image, digest string, bundles [][]byte) error
}

// image is a verified one, ready to run.
type image struct {
	root   string
	config imageConfig
}

type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type manifest struct {
	Config descriptor   `json:"config"`
	Layers []descriptor `json:"layers"`
}

type descriptor struct {
	MediaType    string `json:"mediaType"`
	Digest       string `json:"digest"`
	Size         int64  `json:"size"`
	ArtifactType string `json:"artifactType,omitempty"`
}

// file is what files.json says of one path.
type file struct {
	Kind string `json:"kind"` // dir, file, link
	Mode uint32 `json:"mode,omitempty"`
	Size int64  `json:"size,omitempty"`
	Hash string `json:"hash,omitempty"`
	To   string `json:"to,omitempty"`
}

func (c *images) path(digest string) string {
	return filepath.Join(c.dir, strings.TrimPrefix(digest, "sha256:"))
}

func (c *images) has(digest string) bool {
	_, err := os.Stat(filepath.Join(c.path(digest), "files.json"))
	return err == nil && validDigest(digest)
}

// ready returns a release's image, pulled if need be, its files and its evidence verified now.
func (c *images) ready(ctx context.Context, r protocol.Release) (image, error) {
	if !validDigest(r.Digest) {
		return image{}, fault.New(fault.Invalid, "%q is not the digest of an image.", r.Digest)
	}
	if !c.has(r.Digest) {
		if err := c.pull(ctx, r); err != nil {
			return image{}, err
		}
	}
	img, err := c.open(r.Digest)
	if err != nil {
		return image{}, fault.Wrap(fault.Invalid, err, "The image %s@%s on this host is corrupt (%s), so it was not started. Remove %s and deploy again to pull it anew.",
			r.Image, r.Digest, err, c.path(r.Digest))
	}
	if c.verify != nil {
		bundles, err := c.bundles(r.Digest)
		if err == nil {
			err = c.verify(ctx, r.Image, r.Digest, bundles)
		}
		if err != nil {
			return image{}, fault.Wrap(fault.Denied, err, "The evidence of %s@%s does not verify, so it was not started: %s", r.Image, r.Digest, err)
		}
	}
	return img, nil
}

// open checks every byte of a cached image against what was pulled.
func (c *images) open(digest string) (image, error) {
	dir := c.path(digest)
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return image{}, err
	}
	var indexes [][]byte
	for n := range maxNesting {
		index, err := os.ReadFile(filepath.Join(dir, indexName(n)))
		if err != nil {
			break
		}
		indexes = append(indexes, index)
	}
	if len(indexes) > 0 {
		if digest, err = along(digest, indexes, raw); err != nil {
			return image{}, err
		}
	}
	if sum(raw) != digest {
		return image{}, errors.New("its manifest has another digest")
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return image{}, err
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return image{}, err
	}
	if sum(config) != m.Config.Digest {
		return image{}, errors.New("its configuration has another digest")
	}
	img := image{root: filepath.Join(dir, "root")}
	if err := json.Unmarshal(config, &img.config); err != nil {
		return image{}, err
	}
	listed, err := os.ReadFile(filepath.Join(dir, "files.json"))
	if err != nil {
		return image{}, err
	}
	var want map[string]file
	if err := json.Unmarshal(listed, &want); err != nil {
		return image{}, err
	}
	got, err := list(img.root)
	if err != nil {
		return image{}, err
	}
	for p, w := range want {
		if got[p] != w {
			return image{}, fmt.Errorf("%s is not what was pulled", p)
		}
	}
	if len(got) != len(want) {
		return image{}, errors.New("it has files that were not pulled")
	}
	return img, nil
}

func (c *images) bundles(digest string) (bundles [][]byte, err error) {
	dir := filepath.Join(c.path(digest), "bundles")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, b)
	}
	return bundles, nil
}

// pull fetches manifest, configuration, layers and evidence, and unpacks them.
func (c *images) pull(ctx context.Context, r protocol.Release) (err error) {
	if err := c.room(r); err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, syscall.ENOSPC) {
			err = c.full(r, err)
		}
	}()
	if c.from == nil {
		return fault.New(fault.Unavailable, "The image %s@%s is not on this host, and the host knows no registry to pull it from.", r.Image, r.Digest)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(c.dir, ".pull-")
	if err != nil {
		return fmt.Errorf("make room for %s: %w", r.Digest, err)
	}
	defer os.RemoveAll(tmp)
	raw, err := c.from.manifest(ctx, r.Image, r.Digest)
	if err != nil {
		return err
	}
	corrupt := func(why string, args ...any) error {
		return fault.New(fault.Invalid, "The image %s@%s is corrupt: %s. It was not started; build the release again.", r.Image, r.Digest, fmt.Sprintf(why, args...))
	}
	if got := sum(raw); got != r.Digest {
		return corrupt("its manifest has the digest %s", got)
	}
	indexes, one, err := route(raw, func(digest string) ([]byte, error) { return c.from.manifest(ctx, r.Image, digest) })
	switch refused, none := errors.AsType[noPlatform](err); {
	case none:
		return fault.New(fault.Invalid, "The image %s@%s cannot run here: %s. Build it for this platform too.", r.Image, r.Digest, refused)
	case errors.Is(err, errIndex):
		return corrupt("%v", err)
	case err != nil:
		return err
	case one != nil:
		raw = one
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return corrupt("its manifest cannot be read (%v)", err)
	}
	if m.Config.Size > maxManifest || len(m.Layers) > 128 {
		return corrupt("its manifest is out of bounds")
	}
	config, err := c.from.blob(ctx, r.Image, m.Config, maxManifest)
	if err != nil {
		return err
	}
	if sum(config) != m.Config.Digest {
		return corrupt("its configuration is not %s", m.Config.Digest)
	}
	var ic imageConfig
	if err := json.Unmarshal(config, &ic); err != nil {
		return corrupt("its configuration cannot be read (%v)", err)
	}
	if len(ic.RootFS.DiffIDs) != len(m.Layers) {
		return corrupt("it names %d layers and %d contents", len(m.Layers), len(ic.RootFS.DiffIDs))
	}
	root := filepath.Join(tmp, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	var u unpacking
	for i, l := range m.Layers {
		if l.Size > maxLayer {
			return corrupt("layer %s has %d bytes, more than the limit of %d", l.Digest, l.Size, int64(maxLayer))
		}
		body, err := c.from.open(ctx, r.Image, l)
		if err != nil {
			return err
		}
		w := &wire{r: body}
		err = u.layer(root, w, l, ic.RootFS.DiffIDs[i])
		body.Close()
		if w.broke != nil {
			return fault.Wrap(fault.Unavailable, w.broke, "The registry broke off in the middle of layer %s of the image %s@%s: %s. It is asked again.", l.Digest, r.Image, r.Digest, w.broke)
		}
		if errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if err != nil {
			return corrupt("layer %s: %v", l.Digest, err)
		}
	}
	bundles, err := c.from.bundles(ctx, r.Image, r.Digest)
	if err != nil {
		return err
	}
	// Places that the sandbox mounts on.
	rt, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	for _, d := range []string{"dev", "proc", "tmp"} {
		if st, err := rt.Lstat(d); err == nil && !st.IsDir() {
			rt.Close()
			return corrupt("/%s is not a folder", d)
		}
		rt.Mkdir(d, 0o755)
	}
	rt.Close()
	files, err := list(root)
	if err != nil {
		return err
	}
	listed, err := json.Marshal(files)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, "bundles"), 0o700); err != nil {
		return err
	}
	for i, b := range bundles {
		if err := os.WriteFile(filepath.Join(tmp, "bundles", fmt.Sprintf("%03d.json", i)), b, 0o600); err != nil {
			return err
		}
	}
	parts := map[string][]byte{"manifest.json": raw, "config.json": config, "files.json": listed}
	for n, index := range indexes {
		parts[indexName(n)] = index
	}
	for name, b := range parts {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o600); err != nil {
			return err
		}
	}
	if err := syncTree(tmp); err != nil {
		return err
	}
	final := c.path(r.Digest)
	if err := os.Rename(tmp, final); err != nil && !c.has(r.Digest) {
		os.RemoveAll(final) // an incomplete one, from a host that was stopped at a bad moment
		if err := os.Rename(tmp, final); err != nil {
			return fmt.Errorf("keep image %s: %w", r.Digest, err)
		}
	}
	return syncDir(c.dir)
}

// room refuses early, before a pull fills the last of the disk.
func (c *images) room(r protocol.Release) error {
	os.MkdirAll(c.dir, 0o700)
	var st syscall.Statfs_t
	if err := syscall.Statfs(c.dir, &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", c.dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < c.minFree {
		return c.full(r, nil)
	}
	return nil
}

func (c *images) full(r protocol.Release, cause error) error {
	const sentence = "The disk of %s is nearly full, so the image %s@%s was not pulled. Make room there; releases that are on this host already still start, and rollbacks work."
	if cause != nil {
		return fault.Wrap(fault.Unavailable, cause, sentence, c.dir, r.Image, r.Digest)
	}
	return fault.New(fault.Unavailable, sentence, c.dir, r.Image, r.Digest)
}

// keepOnly removes images that no digest in keep names, and what broken pulls left.
func (c *images) keepOnly(keep map[string]bool) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !keep["sha256:"+e.Name()] && !strings.HasPrefix(e.Name(), ".pull-") {
			os.RemoveAll(filepath.Join(c.dir, e.Name()))
		}
	}
}

// sweepPulls removes what an earlier host was pulling when it stopped.
func (c *images) sweepPulls() {
	old, _ := filepath.Glob(filepath.Join(c.dir, ".pull-*"))
	for _, d := range old {
		os.RemoveAll(d)
	}
}

// wire is a body on its way from the registry. It tells a connection that broke
// from content that is wrong: the first is worth another try.
type wire struct {
	r     io.Reader
	broke error
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.broke = err
	}
	return n, err
}

// unpacking counts over all layers of an image.
type unpacking struct {
	bytes   int64
	entries int
}

// layer unpacks one, which is hostile input: nothing is written outside of root, nothing but folders, files
// and links comes to be, and its compressed and plain bytes must have the digests that the image names.
func (u *unpacking) layer(dir string, body io.Reader, l descriptor, diffID string) error {
	packed, plain := sha256.New(), sha256.New()
	compressed := io.TeeReader(io.LimitReader(body, l.Size+1), packed)
	unpacked, err := oci.Plain(l.MediaType, compressed)
	if err != nil {
		return err
	}
	defer unpacked.Close()
	// Digests are known only at the end, and files come to be before; the folder is thrown away if they differ.
	r := io.TeeReader(&bounded{r: unpacked, left: maxUnpacked - u.bytes, used: &u.bytes}, plain)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if u.entries++; u.entries > maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		if err := unpack(root, h, t); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(packed.Sum(nil)); got != l.Digest {
		return fmt.Errorf("its bytes have the digest %s", got)
	}
	if got := "sha256:" + hex.EncodeToString(plain.Sum(nil)); got != diffID {
		return fmt.Errorf("its content has the digest %s instead of %s", got, diffID)
	}
	return nil
}

func unpack(root *os.Root, h *tar.Header, body io.Reader) error {
	name := path.Clean(strings.TrimPrefix(h.Name, "/"))
	if name == "." || name == "" {
		return nil
	}
	if !filepath.IsLocal(name) || strings.Contains(name, "\x00") {
		return fmt.Errorf("%q leads out of the image", h.Name)
	}
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		return emptyDir(root, path.Clean(dir))
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		return root.RemoveAll(path.Join(dir, gone))
	}
	if dir != "" {
		if err := root.MkdirAll(path.Clean(dir), 0o755); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeDir {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if st, err := root.Lstat(name); err == nil && !st.IsDir() {
			if err := root.Remove(name); err != nil {
				return err
			}
		}
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if err == nil && h.Mode&0o111 != 0 {
			err = f.Chmod(0o755) // no setuid bit survives
		}
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		old := path.Clean(strings.TrimPrefix(h.Linkname, "/"))
		if !filepath.IsLocal(old) {
			return fmt.Errorf("%q links out of the image", h.Name)
		}
		return root.Link(old, name)
	case tar.TypeXGlobalHeader, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil // The sandbox has devices of its own; what the layer puts in the place of something is gone, too.
	}
	return fmt.Errorf("%q is none of the things that an image may hold", h.Name)
}

func emptyDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	for _, n := range names {
		err = errors.Join(err, root.RemoveAll(path.Join(dir, n)))
	}
	return err
}

type bounded struct {
	r    io.Reader
	left int64
	used *int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("it unpacks to more than %d bytes", int64(maxUnpacked))
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	*b.used += int64(n)
	return n, err
}

// list describes every file below dir.
func list(dir string) (map[string]file, error) {
	files := map[string]file{}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			files[p] = file{Kind: "dir"}
		case st.Mode()&fs.ModeSymlink != 0:
			to, err := root.Readlink(p)
			if err != nil {
				return err
			}
			files[p] = file{Kind: "link", To: to}
		case st.Mode().IsRegular():
			f, err := root.Open(p)
			if err != nil {
				return err
			}
			h := sha256.New()
			n, err := io.Copy(h, f)
			f.Close()
			if err != nil {
				return err
			}
			files[p] = file{Kind: "file", Mode: uint32(st.Mode().Perm()), Size: n, Hash: hex.EncodeToString(h.Sum(nil))}
		default:
			return fmt.Errorf("%s is neither a file nor a folder", p)
		}
		return nil
	})
	return files, err
}

// command is what the image runs; the workload's own command replaces the arguments.
func (i image) command(w protocol.Workload) ([]string, error) {
	c := i.config.Config
	argv := slices.Concat(c.Entrypoint, c.Cmd)
	if len(w.Command) > 0 && c.Labels["dev.weir.kind"] == "" { // images that Weir layers have the command in them
		argv = slices.Concat(c.Entrypoint, w.Command)
	}
	if len(argv) == 0 {
		return nil, errors.New("the image names no program to run")
	}
	return argv, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

func validDigest(d string) bool {
	h, ok := strings.CutPrefix(d, "sha256:")
	if !ok || len(h) != 64 {
		return false
	}
	_, err := hex.DecodeString(h)
	return err == nil && bytes.Equal([]byte(h), bytes.ToLower([]byte(h)))
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || d.Type().IsRegular() {
			return syncDir(p)
		}
		return nil
	})
}

// syncDir makes a folder, or a file, durable.
func syncDir(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
