package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/artifact"
	"weir/internal/artifact/build"
	"weir/internal/artifact/compare"
	artifactengine "weir/internal/artifact/engine"
	"weir/internal/artifact/image"
	"weir/internal/artifact/layout"
	"weir/internal/artifact/provenance"
	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/local"
	"weir/internal/source/git"
)

// Rebuild asks for an artifact to be built once more, from what its provenance names.
type Rebuild struct {
	Dir        string // a clone that has the revision
	Revision   string
	Service    string
	Version    string
	Source     string // URL of the repository, as the provenance has it
	Image      string // repository@digest, in the registry of Server
	Server     string
	Token      string
	Network    string
	Unconfined bool
	BuildKit   string // address of the daemon that builds Dockerfiles, "" for buildah
}

// Rebuilt is what came out.
type Rebuilt struct {
	Image       string               `json:"image"`
	Revision    string               `json:"revision"`
	Digest      string               `json:"digest"`
	Same        bool                 `json:"same"`
	Differences []compare.Difference `json:"differences"`
}

// RunRebuild builds the revision in a clean folder, with the runner and the release job of the server, and compares the image with
// the one in the registry. The job's log goes to out.
func RunRebuild(ctx context.Context, o Rebuild, out io.Writer) (rep Rebuilt, err error) {
	rep = Rebuilt{Image: o.Image, Revision: o.Revision, Differences: []compare.Difference{}}
	tree, err := openWorktree(o.Dir)
	if err != nil {
		return rep, err
	}
	defer tree.root.Close()
	repository := o.Source[strings.LastIndexByte(o.Source, '/')+1:]
	spec, at, err := tree.declared(ctx, o, repository)
	if err != nil {
		return rep, err
	}
	if spec.From != "" {
		return rep, fault.New(fault.Invalid, "The image of %s comes from the job artifact %s, so rebuilding it means running that workflow: weir run, in a clone of the revision.", o.Service, spec.From)
	}
	b, err := build.Of(spec, o.Version, at)
	if err != nil {
		return rep, err
	}
	data, err := os.MkdirTemp("", "weir-rebuild-")
	if err != nil {
		return rep, err
	}
	defer func() { _ = removeAll(data) }()
	made, err := o.release(ctx, tree, data, b, out)
	if err != nil {
		return rep, err
	}
	defer made.Close()
	is, err := rebuiltImages(data, made, spec, image.Input{Name: spec.Service, Command: spec.Command, Revision: o.Revision, Version: o.Version, Source: o.Source, Created: at})
	if err != nil {
		return rep, err
	}
	defer is.close()
	rep.Digest = is.digest
	_, was, _ := strings.Cut(o.Image, "@")
	if rep.Same = rep.Digest == was; rep.Same {
		return rep, nil
	}
	rep.Differences, err = o.compare(is)
	return rep, err
}

// declared reads weir.yaml and the time of the revision from the clone.
func (w *worktree) declared(ctx context.Context, o Rebuild, repository string) (spec artifact.Spec, at time.Time, err error) {
	seconds, err := w.ask(ctx, "show", "--no-patch", "--format=%ct", o.Revision+"^{commit}")
	if err != nil {
		return spec, at, fault.New(fault.NotFound, "The folder %s is no clone that has the revision %.12s. Clone the repository, or fetch, and name the folder with --dir.", o.Dir, o.Revision)
	}
	var unix int64
	if _, err := fmt.Sscan(seconds, &unix); err != nil {
		return spec, at, fmt.Errorf("read the time of %s: %w", o.Revision, err)
	}
	text, err := w.ask(ctx, "show", o.Revision+":"+catalog.FileName)
	if err != nil {
		return spec, at, fault.New(fault.NotFound, "The revision %.12s has no %s.", o.Revision, catalog.FileName)
	}
	file, diags := catalog.Parse(catalog.FileName, []byte(text), repository)
	if len(diags) > 0 {
		return spec, at, catalog.Refusal(diags)
	}
	for _, s := range file.Services {
		if s.Name == o.Service {
			spec = specOf("rebuild", repository, s)
			if !spec.Built() {
				return spec, at, fault.New(fault.Invalid, "Weir did not build the image of %s; whoever did can rebuild it.", o.Service)
			}
			return spec, time.Unix(unix, 0), nil
		}
	}
	return spec, at, fault.New(fault.NotFound, "The revision %.12s does not declare the service %s.", o.Revision, o.Service)
}

// release runs the release job and returns what it handed over.
func (o Rebuild) release(ctx context.Context, tree *worktree, data string, b pipeline.Build, out io.Writer) (*os.File, error) {
	if support := confine.Probe(); !support.OK && !o.Unconfined {
		return nil, fault.New(fault.Unavailable, "This machine cannot confine jobs: %s\nRun them without protection with --unconfined.", strings.Join(support.Missing, "; "))
	}
	r, err := local.New(local.Config{Data: data, Network: confine.Network(o.Network), Unconfined: o.Unconfined, BuildKit: o.BuildKit, Least: 64 << 20})
	if err != nil {
		return nil, err
	}
	dir := logs.New(filepath.Join(data, "logs"))
	log, err := dir.Create("rebuild", "release", 1)
	if err != nil {
		return nil, err
	}
	host := &rebuildHost{tree: tree, revision: o.Revision, at: filepath.Join(data, "output")}
	job := runner.Job{Org: "default", RunID: "rebuild", JobID: "release", Attempt: 1, RepositoryID: "rebuild", Repository: tree.dir, Revision: o.Revision, Trust: pipeline.Landed,
		Plan: pipeline.ReleaseJob(b, nil), GitHub: map[string]any{"ref": "refs/heads/main", "sha": o.Revision}, Registry: runner.Registry{URL: o.Server, Token: o.Token}}
	res, err := r.Run(ctx, job, host, log)
	if cerr := log.Close(res.State); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if f, err := dir.Open(job.RunID, job.JobID, 1, 0); err == nil {
		raw, _ := io.ReadAll(f)
		f.Close()
		for line := range bytes.Lines(raw) {
			if l, ok := logs.Parse(bytes.TrimRight(line, "\n")); ok && (l.Tag == logs.TagOutput || l.Tag == logs.TagSystem) {
				fmt.Fprintln(out, l.Text)
			}
		}
	}
	if res.State != pipeline.Success {
		return nil, fault.New(fault.Invalid, "The revision %.12s was not built: %s.", o.Revision, res.Reason)
	}
	return os.Open(host.at)
}

// rebuildHost gives the job a clean clone and takes its output.
type rebuildHost struct {
	runner.Host // a release job asks for nothing else
	tree        *worktree
	revision    string
	at          string
}

func (h *rebuildHost) Checkout(ctx context.Context, _ runner.Checkout, dir string) (string, error) {
	for _, args := range [][]string{{"clone", "--quiet", "--no-checkout", "--shared", h.tree.dir, dir}, {"-C", dir, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", h.revision}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Env = git.Env()
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, said)
		}
	}
	return h.revision, nil
}

func (h *rebuildHost) FindCache(context.Context, string, []string) (string, io.ReadCloser, error) {
	return "", nil, nil
}
func (h *rebuildHost) Artifacts(context.Context) ([]string, error) { return nil, nil }
func (h *rebuildHost) Download(context.Context, string) (io.ReadCloser, error) {
	return nil, fault.New(fault.NotFound, "A rebuild has no artifacts of other jobs.")
}

func (h *rebuildHost) Output(_ context.Context, _ pipeline.Output, r io.Reader) error {
	f, err := os.Create(h.at)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// rebuilt is the new image, or one for each platform.
type rebuilt struct {
	digest string
	images []compare.Image
	close  func()
}

func rebuiltImages(data string, made *os.File, s artifact.Spec, in image.Input) (rebuilt, error) {
	if s.HandsImage() {
		l, err := layout.Open(s.Service, made)
		if err != nil {
			return rebuilt{}, err
		}
		if err := l.Check(); err != nil {
			return rebuilt{}, err
		}
		out := rebuilt{digest: l.Top.Digest, close: func() {}}
		for _, img := range l.Images {
			one := compare.Image{Platform: img.Platform.String(), Digest: img.Digest}
			if r, err := l.Blob(img.ConfigDescriptor.Digest); err == nil {
				one.Config, _ = io.ReadAll(r)
			}
			for _, d := range img.Layers {
				one.Layers = append(one.Layers, compare.Layer{MediaType: d.MediaType, Digest: d.Digest, Open: func() (io.ReadCloser, error) {
					r, err := l.Blob(d.Digest)
					return io.NopCloser(r), err
				}})
			}
			out.images = append(out.images, one)
		}
		return out, nil
	}
	st, err := made.Stat()
	if err != nil {
		return rebuilt{}, err
	}
	img, err := artifactengine.Layer(data, in, s, made, st.Size())
	if err != nil {
		return rebuilt{}, err
	}
	one := compare.Image{Platform: "linux/" + img.Arch, Digest: img.Digest, Config: img.Config}
	for _, l := range img.Layers {
		one.Layers = append(one.Layers, compare.Layer{MediaType: l.MediaType, Digest: l.Digest, Open: func() (io.ReadCloser, error) {
			r, err := l.Open()
			return io.NopCloser(r), err
		}})
	}
	return rebuilt{img.Digest, []compare.Image{one}, img.Close}, nil
}

// compare reads the image in the registry and says how the new one differs.
func (o Rebuild) compare(is rebuilt) ([]compare.Difference, error) {
	u, err := url.Parse(o.Server)
	if err != nil {
		return nil, err
	}
	opts := []name.Option{}
	if u.Scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.NewDigest(u.Host+"/"+o.Image, opts...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s does not name an image by digest.", o.Image)
	}
	auth := remote.WithAuth(&authn.Basic{Username: "weir", Password: o.Token})
	d, err := remote.Get(ref, auth)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The image %s cannot be read from the registry of %s: %s", o.Image, o.Server, err)
	}
	out := []compare.Difference{}
	if !d.MediaType.IsIndex() {
		if len(is.images) != 1 {
			return append(out, compare.Difference{Where: "image", What: "kind", Was: "an image", Is: "an index"}), nil
		}
		img, err := d.Image()
		if err != nil {
			return nil, err
		}
		was, err := kept(img)
		if err != nil {
			return nil, err
		}
		return compare.Images(was, is.images[0])
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, entry := range m.Manifests {
		platform := "linux/" + runtime.GOARCH
		if entry.Platform != nil {
			platform = strings.TrimSuffix(entry.Platform.OS+"/"+entry.Platform.Architecture+"/"+entry.Platform.Variant, "/")
		}
		if strings.HasPrefix(platform, "unknown") {
			continue
		}
		found := false
		for _, one := range is.images {
			if one.Platform != platform {
				continue
			}
			found = true
			img, err := index.Image(entry.Digest)
			if err != nil {
				return nil, err
			}
			was, err := kept(img)
			if err != nil {
				return nil, err
			}
			some, err := compare.Images(was, one)
			if err != nil {
				return nil, err
			}
			for _, x := range some {
				x.Where = platform + " " + x.Where
				out = append(out, x)
			}
		}
		if !found {
			out = append(out, compare.Difference{Where: "image", Path: platform, What: "presence", Was: entry.Digest.String()})
		}
	}
	return out, nil
}

// kept is an image of the registry as it can be compared.
func kept(img v1.Image) (out compare.Image, err error) {
	if out.Config, err = img.RawConfigFile(); err != nil {
		return out, err
	}
	layers, err := img.Layers()
	if err != nil {
		return out, err
	}
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			return out, err
		}
		mt, err := l.MediaType()
		if err != nil {
			return out, err
		}
		out.Layers = append(out.Layers, compare.Layer{MediaType: string(mt), Digest: d.String(), Open: l.Compressed})
	}
	return out, nil
}

// From takes from a provenance, as the server gives it, what is to be built.
func (o *Rebuild) From(bundle []byte) error {
	var b struct {
		DSSE struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var s struct {
		Predicate provenance.Predicate `json:"predicate"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return fault.Wrap(fault.Invalid, err, "The provenance cannot be read.")
	}
	if err := json.Unmarshal(b.DSSE.Payload, &s); err != nil {
		return fault.Wrap(fault.Invalid, err, "The provenance cannot be read.")
	}
	e := s.Predicate.BuildDefinition.ExternalParameters
	o.Revision, o.Service, o.Version, o.Source = s.Predicate.Commit(), e.Service, e.Version, e.Workflow.Repository
	if s.Predicate.BuildDefinition.BuildType != provenance.BuildType || !revisionForm.MatchString(o.Revision) {
		return fault.New(fault.Invalid, "The provenance does not say that Weir built the image from a revision, so there is nothing to build again.")
	}
	return nil
}

var revisionForm = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
