package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
)

// maxStore is how large the store of images and layers of a repository may grow before it begins anew.
const maxStore = 12 << 30

// imageBuild is one build from a Dockerfile.
type imageBuild struct {
	j          *job
	context    string // folder on disk
	sees       string // what of the job's folder the builder sees
	dockerfile string // its path there
	target     string
	store      string // keeps layers for the next build of the repository; no other job sees it
	out        string // folder of this build alone
	bases      *bases
	source     time.Time // of the revision; zero leaves all times at the beginning of time
}

// buildImage makes an image from a Dockerfile and leaves it as an image layout, a tar. The commands of the Dockerfile run in a
// sandbox of their own, confined as every job: the job's steps can reach neither its store nor what it writes.
func (j *job) buildImage(ctx context.Context, with, _ map[string]string) error {
	at, err := below("workspace", with["context"])
	if err != nil {
		return err
	}
	b := imageBuild{j: j, context: filepath.Join(j.dir, filepath.FromSlash(at)), sees: filepath.Join(j.dir, "workspace"), target: with["target"], bases: &bases{seen: map[string]string{}}}
	if b.dockerfile, err = below("workspace", with["dockerfile"]); err != nil {
		return err
	}
	if n, err := strconv.ParseInt(with["created"], 10, 64); err == nil && n > 0 {
		b.source = time.Unix(n, 0).UTC()
	}
	f, err := j.open(b.dockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return failure(fmt.Sprintf("weir.yaml says that the image is built from %s, and there is no such file in %s", with["dockerfile"], cmp.Or(with["context"], ".")))
	}
	if err != nil {
		return failure(fmt.Sprintf("the Dockerfile cannot be read: %v", err))
	}
	f.Close()
	text, err := j.read(b.dockerfile, maxFile)
	if err != nil {
		return failure(fmt.Sprintf("the Dockerfile cannot be read: %v", err))
	}
	b.out = j.dir + ".image"
	if err := os.Mkdir(b.out, 0o700); err != nil {
		return fmt.Errorf("make folder of the image: %w", err)
	}
	defer remove(b.out)
	if err := j.openAPI(); err != nil { // the sandbox of steps makes it otherwise
		return err
	}
	tool, address := look("buildah"), j.runner.cfg.BuildKit
	switch {
	case address != "":
		err = b.buildkit(ctx, address)
	case tool != "":
		err = b.buildah(ctx, tool, text)
	default:
		return failure("the image is built from a Dockerfile, and this runner has nothing that builds one. Install buildah there (Debian: apt-get install buildah), or set runner.buildkit in the server's configuration to the address of a BuildKit daemon, such as tcp://buildkit.internal:1234. Or let a job make an image layout, and name it with layout: in weir.yaml")
	}
	if err != nil {
		return err
	}
	image, err := b.dated()
	if err != nil {
		return err
	}
	j.materials = append(j.materials, b.bases.list()...)
	return j.place(image, with["output"])
}

// dated gives the image the time of its revision. Builders write the beginning of time, so that layers which they keep fit every revision.
func (b imageBuild) dated() (string, error) {
	file := filepath.Join(b.out, "image.tar")
	if b.source.IsZero() {
		return file, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("open image: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(b.out, "dated.tar"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("date image: %w", err)
	}
	err = errors.Join(oci.Date(in, out, b.out, b.source), out.Close())
	if fault.KindOf(err) != "" {
		return "", failure(fault.Sentence(err))
	}
	if err != nil {
		return "", fmt.Errorf("date image: %w", err)
	}
	return out.Name(), nil
}

// place moves a file that no step could touch to where the release job hands it over from.
func (j *job) place(from, to string) error {
	p, err := below("workspace", to)
	if err != nil {
		return err
	}
	if err := j.root.MkdirAll(path.Dir(p), 0o700); err != nil {
		return failure(fmt.Sprintf("the folder %s cannot be made: %v", path.Dir(to), err))
	}
	dir, err := j.root.Open(path.Dir(p))
	if err != nil {
		return failure(fmt.Sprintf("the folder %s cannot be opened: %v", path.Dir(to), err))
	}
	defer dir.Close()
	if err := unix.Renameat(unix.AT_FDCWD, from, int(dir.Fd()), path.Base(p)); err != nil {
		return failure(fmt.Sprintf("the image cannot be moved to %s: %v", to, err))
	}
	return nil
}

// look finds a program where jobs find theirs.
func look(name string) string {
	for _, d := range filepath.SplitList(systemPath) {
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// host is the name under which people write Weir's registry in a FROM line.
func (b imageBuild) host() string {
	u, err := url.Parse(b.j.Registry.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// ignored is what a context leaves out: git's own folder, which differs between checkouts of one revision, and what the project
// says. A project that wants .git says so with !.git.
func (b imageBuild) ignored() (string, error) {
	rel := strings.TrimPrefix(b.context, b.j.dir+"/")
	text, err := b.j.read(b.dockerfile+".dockerignore", maxFile)
	for _, name := range []string{".containerignore", ".dockerignore"} {
		if text == "" && err == nil {
			text, err = b.j.read(path.Join(rel, name), maxFile)
		}
	}
	if err != nil {
		return "", failure(fmt.Sprintf("the list of ignored files cannot be read: %v", err))
	}
	file := filepath.Join(b.out, "ignore")
	return file, os.WriteFile(file, []byte(".git\n.weir/out\n.weir/in\n"+text), 0o600)
}

// buildah builds with Debian's buildah: layers are kept, times are fixed, and everything belongs to root, so that one revision
// gives one digest wherever it is built.
func (b imageBuild) buildah(ctx context.Context, tool, dockerfile string) error {
	j := b.j
	b.store = filepath.Join(j.runner.cfg.Data, "images", j.RepositoryID, string(j.Trust))
	if size(b.store) > maxStore {
		j.log.Say("the kept layers have grown to more than %d bytes; they begin anew", int64(maxStore))
		if err := remove(b.store); err != nil {
			return fmt.Errorf("clear kept layers: %w", err)
		}
	}
	for _, d := range []string{"root", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(b.store, d), 0o700); err != nil {
			return fmt.Errorf("make store of layers: %w", err)
		}
	}
	ignore, err := b.ignored()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"policy.json":  `{"default":[{"type":"insecureAcceptAnything"}]}`,
		"auth.json":    `{"auths":{}}`,
		"storage.conf": fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(b.store, "root"), filepath.Join(b.store, "run")),
	} {
		if err := os.WriteFile(filepath.Join(b.out, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	cfg := j.runner.cfg
	spec := confine.Spec{Builder: true, Serve: b.bases.watch(j.api), Dir: b.out, ReadWrite: []string{b.store}, Plain: []string{b.sees}, Network: j.network(), Unconfined: cfg.Unconfined, Limits: cfg.Limits}
	if cfg.OnEgress != nil {
		spec.OnEgress = func(hostport string) error { return cfg.OnEgress(j.Job, hostport) }
	}
	box, err := confine.Open(ctx, spec)
	if err != nil {
		return fmt.Errorf("open sandbox of the builder: %w", err)
	}
	defer box.Close()
	local := strings.TrimPrefix(box.LocalURL(), "http://")
	registries := "unqualified-search-registries = [\"docker.io\"]\n"
	if b.host() != "" && local != "" {
		registries += fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n", b.host(), local)
	}
	if err := os.WriteFile(filepath.Join(b.out, "registries.conf"), []byte(registries), 0o600); err != nil {
		return err
	}
	env := append([]string{
		"PATH=" + systemPath, "HOME=" + b.out, "TMPDIR=" + filepath.Join(b.store, "tmp"), "LANG=C.UTF-8", "XDG_RUNTIME_DIR=" + b.out, "_CONTAINERS_USERNS_CONFIGURED=done",
		"CONTAINERS_REGISTRIES_CONF=" + filepath.Join(b.out, "registries.conf"), "CONTAINERS_STORAGE_CONF=" + filepath.Join(b.out, "storage.conf"), "REGISTRY_AUTH_FILE=" + filepath.Join(b.out, "auth.json"),
	}, box.Env()...)
	base := []string{tool, "--root", filepath.Join(b.store, "root"), "--runroot", filepath.Join(b.store, "run"), "--storage-driver", "vfs"}
	argv := slices.Concat(base, []string{"build", "--isolation", "chroot", "--format", "oci", "--layers", "--timestamp", "0", "--identity-label=false", "--signature-policy", filepath.Join(b.out, "policy.json"),
		"--ignorefile", ignore, "--file", filepath.Join(j.dir, filepath.FromSlash(b.dockerfile)), "--tag", "localhost/weir/out"})
	if b.target != "" {
		argv = append(argv, "--target", b.target)
	}
	if strings.Contains(dockerfile, "WEIR_REGISTRY") {
		argv = append(argv, "--build-arg", "WEIR_REGISTRY="+b.host())
	}
	if strings.Contains(dockerfile, "SOURCE_DATE_EPOCH") {
		argv = append(argv, "--build-arg", "SOURCE_DATE_EPOCH="+strconv.FormatInt(max(b.source.Unix(), 0), 10))
	}
	if err := b.tool(ctx, box, append(argv, b.context), env, "the Dockerfile was not built"); err != nil {
		return err
	}
	if err := b.others(ctx, box, base, env, dockerfile); err != nil {
		return err
	}
	return b.tool(ctx, box, slices.Concat(base, []string{"push", "--quiet", "--format", "oci", "--signature-policy", filepath.Join(b.out, "policy.json"), "localhost/weir/out", "oci-archive:" + filepath.Join(b.out, "image.tar")}), env, "the image was not written")
}

// tool runs a program whose output belongs into the log.
func (b imageBuild) tool(ctx context.Context, box *confine.Sandbox, argv, env []string, what string) error {
	exit, err := b.j.exec(ctx, box, confine.Cmd{Argv: argv, Env: env, Dir: b.out, Stdout: b.j.log, Stderr: b.j.log})
	switch {
	case err != nil:
		return err
	case exit.Success():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	reason := fmt.Sprintf("%s: %s ended with exit code %d; its last lines say why", what, filepath.Base(argv[0]), exit.Code)
	if why := box.Exceeded(); why != "" {
		reason += ": " + why
	}
	return failure(reason)
}

var fromLine = regexp.MustCompile(`(?im)^\s*(?:FROM\s+(?:--platform=\S+\s+)?|COPY\s+(?:--\S+\s+)*--from=)([^\s$]+)(?:\s|$)`)

// others records the base images that came from other registries, by the digest that buildah has of them.
func (b imageBuild) others(ctx context.Context, box *confine.Sandbox, base, env []string, dockerfile string) error {
	asked := map[string]bool{}
	for _, m := range fromLine.FindAllStringSubmatch(dockerfile, 1000) {
		asked[m[1]] = true
	}
	var out strings.Builder
	exit, err := b.j.exec(ctx, box, confine.Cmd{Argv: append(slices.Clone(base), "images", "--json", "--digests"), Env: env, Dir: b.out, Stdout: &limited{&out, 8 << 20}, Stderr: b.j.log})
	if err != nil || !exit.Success() {
		return err
	}
	var list []struct {
		Names  []string `json:"names"`
		Digest string   `json:"digest"`
	}
	if json.Unmarshal([]byte(out.String()), &list) != nil {
		return nil
	}
	for _, img := range list {
		for _, name := range img.Names {
			if strings.HasPrefix(name, "localhost/") || b.host() != "" && strings.HasPrefix(name, b.host()+"/") {
				continue
			}
			for ref := range asked {
				if name == ref || name == ref+":latest" || strings.HasSuffix(name, "/"+ref) || strings.HasSuffix(name, "/"+ref+":latest") {
					b.bases.add("oci://"+name, img.Digest)
				}
			}
		}
	}
	return nil
}

// buildkit builds with a BuildKit daemon. Only its client runs here; the commands of the Dockerfile run where the daemon is.
func (b imageBuild) buildkit(ctx context.Context, address string) error {
	client := look("buildctl")
	if client == "" {
		return failure(fmt.Sprintf("runner.buildkit names the daemon %s, and this runner has no buildctl to speak with it; install BuildKit's client, or remove the key to build with buildah", address))
	}
	spec := confine.Spec{Dir: b.out, Plain: []string{b.sees}, Network: confine.Host, Unconfined: b.j.runner.cfg.Unconfined, Limits: b.j.runner.cfg.Limits}
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		spec.ReadWrite = append(spec.ReadWrite, socket)
	}
	box, err := confine.Open(ctx, spec)
	if err != nil {
		return fmt.Errorf("open sandbox of the builder's client: %w", err)
	}
	defer box.Close()
	auth, err := json.Marshal(map[string]any{"auths": map[string]any{b.host(): map[string]string{"username": "job", "password": b.j.Registry.Token}}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, "config.json"), auth, 0o600); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(b.out, "config.json"))
	at := filepath.Join(b.j.dir, filepath.FromSlash(b.dockerfile))
	argv := []string{client, "--addr", address, "build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + b.context, "--local", "dockerfile=" + filepath.Dir(at),
		"--opt", "filename=" + filepath.Base(at), "--opt", "build-arg:SOURCE_DATE_EPOCH=0", "--opt", "build-arg:WEIR_REGISTRY=" + b.host(),
		"--output", "type=oci,rewrite-timestamp=true,dest=" + filepath.Join(b.out, "image.tar")}
	if b.target != "" {
		argv = append(argv, "--opt", "target="+b.target)
	}
	return b.tool(ctx, box, argv, []string{"PATH=" + systemPath, "HOME=" + b.out, "DOCKER_CONFIG=" + b.out, "LANG=C.UTF-8"}, "the Dockerfile was not built")
}

// bases are the images that a build pulled, by name, with the digest that the registry gave for it.
type bases struct {
	mu   sync.Mutex
	seen map[string]string
}

func (b *bases) add(name, digest string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[name] == "" && len(b.seen) < 64 && strings.HasPrefix(digest, "sha256:") {
		b.seen[name] = digest
	}
}

func (b *bases) list() (out []pipeline.Material) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, digest := range b.seen {
		out = append(out, pipeline.Material{URI: name, Digest: digest})
	}
	slices.SortFunc(out, func(x, y pipeline.Material) int { return cmp.Compare(x.URI, y.URI) })
	return out
}

var manifestPath = regexp.MustCompile(`^/v2/([a-z0-9._/-]+)/manifests/([A-Za-z0-9_][A-Za-z0-9._:-]*)$`)

// watch passes requests on and notes which manifests Weir's registry answered with. What a Dockerfile asks for by tag is known by
// digest from then on.
func (b *bases) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := manifestPath.FindStringSubmatch(r.URL.Path)
		if m == nil || r.Method != http.MethodGet && r.Method != http.MethodHead || strings.HasPrefix(m[2], "sha256:") && b.reached(m[2]) {
			h.ServeHTTP(w, r)
			return
		}
		n := &noting{ResponseWriter: w}
		h.ServeHTTP(n, r)
		if n.status == http.StatusOK {
			sep := ":"
			if strings.HasPrefix(m[2], "sha256:") {
				sep = "@"
			}
			b.add("oci://weir/"+m[1]+sep+m[2], w.Header().Get("Docker-Content-Digest"))
		}
	})
}

// reached reports whether a digest is known as what a name stands for.
func (b *bases) reached(digest string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.seen {
		if d == digest {
			return true
		}
	}
	return false
}

type noting struct {
	http.ResponseWriter
	status int
}

func (n *noting) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(p []byte) (int, error) {
	if n.status == 0 {
		n.status = http.StatusOK
	}
	return n.ResponseWriter.Write(p)
}

func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// limited keeps the beginning of what is written.
type limited struct {
	b    *strings.Builder
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), max(0, l.most-l.b.Len()))])
	return len(p), nil
}

// size is what a folder takes on disk.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}
