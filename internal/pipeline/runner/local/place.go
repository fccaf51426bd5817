package local

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
)

// place is a container that processes of a job run in. It sees the job's folder, whole, at inside: a process of the job may put a link
// in the place of any folder in there, and whatever that means, it means it in the container.
type place struct {
	name     string // for its folder and its host name
	image    oci.Image
	env      []string // of the image and the container, NAME=value, the last one counts
	user     *confine.User
	hosts    map[string]string
	binds    []confine.Bind
	external []string // the machine's node, as it is started in there
	alone    bool     // it sees nothing of the job's folder
	limits   confine.Limits
	box      *confine.Sandbox
}

// inside is where containers see the job's folder. Its workspace and home are there where GitHub's actions in containers have theirs.
const inside = "/github"

// alias is where GitHub's runner has the workspace of a container job.
func (j *job) alias() string {
	name := path.Base(j.Repository)
	if name == "." || name == "/" || name == ".." {
		name = "workspace"
	}
	return path.Join("/__w", name, name)
}

// seen is where processes of the job see a file of its folder.
func (j *job) seen(rel string) string {
	if j.main == nil {
		return filepath.Join(j.dir, rel)
	}
	return path.Join(inside, rel)
}

// rel is the file of the job's folder that processes see at a path.
func (j *job) rel(seen string) (string, bool) {
	seen = path.Clean(seen)
	base := j.dir
	if j.main != nil {
		if rest, ok := under(j.alias(), seen); ok {
			return path.Join("workspace", rest), true
		}
		base = inside
	}
	rest, ok := under(base, seen)
	if rest == "" {
		rest = "."
	}
	return rest, ok
}

// under reports whether p is base or below it, and what remains.
func under(base, p string) (string, bool) {
	if p == base {
		return "", true
	}
	return strings.CutPrefix(p, base+"/")
}

// within makes a path relative to a folder of the job's, if it is an absolute one that lies in there. A ! before it stays.
func (j *job) within(base, p string) string {
	plain, negated := strings.CutPrefix(p, "!")
	rel, ok := j.rel(plain)
	if !ok || !strings.HasPrefix(plain, "/") {
		return p
	}
	rest, ok := under(base, rel)
	if !ok {
		return p
	}
	if rest == "" {
		rest = "."
	}
	if negated {
		return "!" + rest
	}
	return rest
}

// temp is RUNNER_TEMP, and tools RUNNER_TOOL_CACHE.
func (j *job) temp() string {
	if j.main != nil {
		return j.seen("temp")
	}
	return "/tmp"
}

func (j *job) tools() string {
	if j.main != nil {
		return "/__t"
	}
	return j.cache
}

// boxes is where containers of the job have their folders.
func (j *job) boxes() string { return j.dir + ".boxes" }

// openPlace starts the container of a place. Nothing runs in it yet.
func (j *job) openPlace(ctx context.Context, p *place) error {
	cfg := j.runner.cfg
	dir, err := j.group.folder(p.name)
	if err != nil {
		return err
	}
	c := &confine.Container{Layers: p.image.Layers, Dir: dir, Hostname: p.name, Hosts: p.hosts}
	if !p.alone {
		for _, sub := range []string{".", "workspace", "home", "run", "temp"} {
			if err := j.root.MkdirAll(sub, 0o700); err != nil {
				return failure("a step before it has blocked the folder " + sub + ": " + err.Error())
			}
			j.give(sub, p.user)
		}
		_ = j.root.Symlink("run", "workflow")
		_ = j.root.Symlink("run", "file_commands")
		c.Binds = append(c.Binds, confine.Bind{Source: j.dir, Target: inside, Write: true})
		c.Links = map[string]string{j.alias(): inside + "/workspace", "/__w/_temp": inside + "/temp", "/__w/_actions": inside + "/actions"}
	}
	c.Binds = append(c.Binds, p.binds...)
	limits := cfg.Limits
	limits.Memory, limits.CPU = least(limits.Memory, p.limits.Memory), least(limits.CPU, p.limits.CPU)
	spec := confine.Spec{Container: c, Serve: j.api, Network: j.network(), Limits: limits}
	if spec.Network == confine.Host { // containers have a network of their own whatever the machine's jobs have
		spec.Network = confine.Egress
	}
	if cfg.OnEgress != nil {
		spec.OnEgress = func(hostport string) error { return cfg.OnEgress(j.Job, hostport) }
	}
	box, err := confine.Open(ctx, spec)
	if err != nil {
		if ctx.Err() == nil && fault.KindOf(err) != "" {
			return failure(fault.Sentence(err))
		}
		return err
	}
	p.box = box
	return nil
}

// network is what the job may reach: as little as the runner or the plan says.
func (j *job) network() confine.Network {
	return confine.Network(pipeline.Stricter(string(j.runner.cfg.Network), j.Network))
}

// least is the smaller of two limits, where 0 is none.
func least[N uint64 | float64](a, b N) N {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// give makes a file of the job's folder one of the user's that a container runs its processes as.
func (j *job) give(rel string, u *confine.User) {
	owner := confine.OwnerOf()
	if u == nil || u.UID == 0 || owner == nil {
		return
	}
	_ = j.root.Lchown(rel, owner(u.UID), owner(u.GID))
}

// giveAll does so with a folder and what is in it.
func (j *job) giveAll(rel string) {
	if j.main == nil || j.main.user == nil || confine.OwnerOf() == nil {
		return
	}
	dir, err := j.root.OpenRoot(rel)
	if err != nil {
		return
	}
	defer dir.Close()
	j.give(rel, j.main.user)
	_ = fs.WalkDir(dir.FS(), ".", func(p string, _ fs.DirEntry, err error) error {
		if err == nil && p != "." {
			j.give(path.Join(rel, p), j.main.user)
		}
		return nil
	})
}
