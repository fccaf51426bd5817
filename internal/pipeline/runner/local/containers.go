package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
	"weir/internal/pipeline/container"
	"weir/internal/pipeline/expr"
)

// prepare opens the containers of a job before its first step: the one that it runs in, if any, and those of its services. Whatever
// stands in the way is in the job's result, and no step runs.
func (j *job) prepare(ctx context.Context) error {
	if j.Plan.Container == nil && len(j.Plan.Services) == 0 {
		return nil
	}
	err := j.setUpContainers(ctx)
	var f failure
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.As(err, &f), fault.KindOf(err) != "":
		j.fail(said(err))
		j.unprepared = true
		for i := range j.steps {
			j.steps[i].State = pipeline.Skipped
		}
		return nil
	}
	return fmt.Errorf("set up containers: %w", err)
}

func (j *job) setUpContainers(ctx context.Context) error {
	if _, err := confine.Runtime(); err != nil {
		return err
	}
	c := j.contexts(&j.top, nil)
	main, err := j.filled("container", j.Plan.Container, c)
	if err != nil {
		return err
	}
	if len(j.Plan.Services) > maxServices {
		return failure(fmt.Sprintf("the job has %d services; it may have %d", len(j.Plan.Services), maxServices))
	}
	var services []*service
	for _, id := range slices.Sorted(maps.Keys(j.Plan.Services)) {
		k := j.Plan.Services[id]
		filled, err := j.filled("service "+id, &k, c)
		if err != nil {
			return err
		}
		if filled == nil { // an empty image says that the service is not wanted this time
			continue
		}
		s := &service{id: id, plan: *filled, addr: [4]byte{127, 0, 0, byte(len(services) + 2)}}
		if s.opts, err = j.options("service "+id, filled); err != nil {
			return err
		}
		if s.published, err = container.ParsePorts(filled.Ports); err != nil {
			return failure(fmt.Sprintf("service %s: %v", id, err))
		}
		services = append(services, s)
	}
	if main == nil && len(services) == 0 {
		return nil
	}
	g := j.containers()
	hosts := map[string]string{}
	for _, s := range services {
		hosts[s.id] = fmt.Sprintf("127.0.0.%d", s.addr[3])
	}
	var opts container.Options
	if main != nil {
		if opts, err = j.options("container", main); err != nil {
			return err
		}
		if len(main.Ports) > 0 {
			j.log.Say("container.ports are not published: nothing outside of the job reaches it, and the job's own programs need no mapping")
		}
	}
	if err := j.pullAll(ctx, main, opts, services, hosts); err != nil {
		return err
	}
	if _, err := j.sandbox(ctx); err != nil {
		return err
	}
	if err := each(services, func(s *service) error {
		err := j.openPlace(ctx, s.place)
		s.box = s.place.box
		return err
	}); err != nil {
		return err
	}
	g.services = services
	boxes := []*confine.Sandbox{j.box}
	for _, s := range services {
		boxes = append(boxes, s.box)
	}
	for _, box := range boxes {
		if err := g.connect(box); err != nil {
			return err
		}
	}
	for _, s := range services {
		if err := s.start(); err != nil {
			return err
		}
	}
	err = each(services, func(s *service) error { return s.await(ctx) })
	for _, s := range services {
		switch {
		case err != nil:
			j.tell(s)
		case s.silent:
			j.log.Say("service %s names no test of its health (options: --health-cmd), and listens on none of its ports after %s", s.id, grace)
		default:
			j.log.Say("service %s runs%s", s.id, s.shown(j.main != nil))
		}
	}
	g.settle()
	return err
}

// shown says where a service is, as the end of a sentence.
func (s *service) shown(byName bool) string {
	var at []string
	if byName {
		for _, n := range s.ports {
			at = append(at, fmt.Sprintf("%s:%d", s.id, n))
		}
		if len(at) == 0 {
			return ""
		}
		return ": " + strings.Join(at, ", ")
	}
	for _, p := range s.published {
		at = append(at, fmt.Sprintf("port %d at localhost:%d", p.Container, p.Host))
	}
	if len(at) == 0 {
		return ""
	}
	return ": " + strings.Join(at, ", ")
}

// tell shows the end of a service's log.
func (j *job) tell(s *service) {
	lines := s.log.lines(100)
	if len(lines) == 0 {
		j.log.Say("service %s wrote nothing", s.id)
		return
	}
	j.log.Say("the last lines of service %s:", s.id)
	for _, l := range lines {
		j.log.Say("    %s", l)
	}
}

// each does something for all services at a time. The first of them that fails, by name, gives the error.
func each(services []*service, do func(*service) error) error {
	errs := make([]error, len(services))
	var all sync.WaitGroup
	for i, s := range services {
		all.Go(func() { errs[i] = do(s) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// filled is a container with its expressions computed, nil if there is none or its image is empty.
func (j *job) filled(what string, k *pipeline.Container, c *expr.Object) (*pipeline.Container, error) {
	if k == nil {
		return nil, nil
	}
	var bad error
	fill := func(key, text string) string {
		v, err := expr.Interpolate(text, j.expressions(&j.top, c))
		if err != nil && bad == nil {
			bad = failure(fmt.Sprintf("%s: its %s could not be computed: %v", what, key, err))
		}
		return v
	}
	out := pipeline.Container{Image: strings.TrimSpace(fill("image", k.Image)), Options: fill("options", k.Options), Username: fill("credentials", k.Username), Password: fill("credentials", k.Password), Env: map[string]string{}}
	for name, text := range k.Env {
		out.Env[name] = fill("env", text)
	}
	for _, text := range k.Ports {
		out.Ports = append(out.Ports, fill("ports", text))
	}
	for _, text := range k.Volumes {
		out.Volumes = append(out.Volumes, fill("volumes", text))
	}
	out.Image = strings.TrimPrefix(out.Image, "docker://")
	if out.Password != "" {
		j.log.Mask(out.Password)
	}
	if bad != nil || out.Image == "" {
		return nil, bad
	}
	return &out, nil
}

func (j *job) options(what string, k *pipeline.Container) (container.Options, error) {
	o, err := container.ParseOptions(k.Options)
	if err != nil {
		return o, failure(what + ": " + err.Error())
	}
	if len(o.Unused) > 0 {
		j.log.Say("%s: %s of its options have no effect here", what, strings.Join(o.Unused, ", "))
	}
	return o, nil
}

// pullAll gets the images and decides what the containers are.
func (j *job) pullAll(ctx context.Context, main *pipeline.Container, opts container.Options, services []*service, hosts map[string]string) error {
	g := j.group
	var pulls sync.WaitGroup
	var mainErr error
	if main != nil {
		pulls.Go(func() {
			img, err := g.pull(ctx, main.Image, "container")
			if err != nil {
				mainErr = err
				return
			}
			j.main, mainErr = j.placeOf("container", string(j.JobID), img, main, opts, hosts)
		})
	}
	err := each(services, func(s *service) (err error) {
		img, err := g.pull(ctx, s.plan.Image, "service "+s.id)
		if err != nil {
			return err
		}
		s.ports = portsOf(s.published, img)
		if s.place, err = j.placeOf("service "+s.id, s.id, img, &s.plan, s.opts, hosts); err == nil {
			s.place.alone = true
		}
		return err
	})
	pulls.Wait()
	if mainErr != nil {
		return mainErr
	}
	if err != nil {
		return err
	}
	if p := j.main; p != nil {
		p.binds = append(p.binds, confine.Bind{Source: j.cache, Target: "/__t", Write: true})
		if err := j.bringNode(p); err != nil {
			return err
		}
	} else {
		for _, s := range services {
			for i, p := range s.published { // the same number, unless somebody else has it
				if p.Host == 0 && !slices.ContainsFunc(services, func(o *service) bool {
					return slices.ContainsFunc(o.published, func(q container.Port) bool { return q.Host == p.Container })
				}) {
					s.published[i].Host = p.Container
				}
			}
		}
	}
	for _, s := range services { // in a container job the mapping says nothing, and each is where it listens
		for i, p := range s.published {
			if j.main != nil && p.Host == 0 {
				s.published[i].Host = p.Container
			}
		}
	}
	return nil
}

// placeOf decides what a container of an image is.
func (j *job) placeOf(what, name string, img oci.Image, k *pipeline.Container, o container.Options, hosts map[string]string) (*place, error) {
	p := &place{name: hostName(name), image: img, hosts: hosts, limits: confine.Limits{CPU: o.CPU, Memory: o.Memory}}
	if o.Hostname != "" {
		p.name = hostName(o.Hostname)
	}
	var err error
	if p.user, err = userOf(img, o.User); err != nil {
		return nil, failure(what + ": " + err.Error())
	}
	p.env = slices.Concat(img.Config.Env, o.Env)
	for _, n := range slices.Sorted(maps.Keys(k.Env)) {
		p.env = append(p.env, n+"="+k.Env[n])
	}
	p.env = slices.DeleteFunc(p.env, func(kv string) bool { return strings.ContainsRune(kv, 0) || !strings.Contains(kv, "=") })
	for _, v := range k.Volumes {
		b, err := j.volume(what, v)
		if err != nil {
			return nil, err
		}
		if b != nil {
			p.binds = append(p.binds, *b)
		}
	}
	return p, nil
}

// volume reads NAME:/path, FOLDER:/path or /path. A container sees folders of its job only, and volumes that the job's containers share.
func (j *job) volume(what, text string) (*confine.Bind, error) {
	v, err := container.ParseVolume(text)
	if err != nil {
		return nil, failure(what + ": " + err.Error())
	}
	if v.Name == "" && v.Path == "" {
		return nil, nil // every container may write its own files
	}
	var rel string
	switch {
	case strings.HasPrefix(v.Path, "/"):
		var ok bool
		if rel, ok = j.rel(v.Path); !ok || rel == "." {
			return nil, failure(fmt.Sprintf("%s: the volume %s is a folder of the machine, which jobs do not see. Name a folder of the workspace (./folder), or a volume by a name of its own", what, text))
		}
	case v.Path != "":
		if rel, err = below("workspace", v.Path); err != nil {
			return nil, failure(what + ": " + err.Error())
		}
	default:
		dir := filepath.Join(j.boxes(), "volumes", v.Name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, fmt.Errorf("make volume: %w", err)
		}
		_ = os.Chmod(dir, 0o777)
		return &confine.Bind{Source: dir, Target: v.Target, Write: v.Write}, nil
	}
	if err := j.root.MkdirAll(rel, 0o700); err != nil {
		return nil, failure(fmt.Sprintf("%s: the folder %s cannot be made: %v", what, rel, err))
	}
	return &confine.Bind{Source: filepath.Join(j.dir, rel), Target: v.Target, Write: v.Write}, nil
}

// hostName makes a name one that hosts may have.
func hostName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, s)
	return strings.Trim(s[:min(len(s), 63)], "-.")
}

// userOf is who processes of an image run as: what the options say, else what the image says. Names are looked up in the image.
func userOf(img oci.Image, wanted string) (*confine.User, error) {
	if wanted == "" {
		wanted = img.Config.User
	}
	if wanted == "" {
		return nil, nil
	}
	name, group, hasGroup := strings.Cut(wanted, ":")
	u := &confine.User{Groups: []int{}}
	uid, err := strconv.Atoi(name)
	fields := img.Entry("etc/passwd", func(f []string) bool { return len(f) > 3 && (f[0] == name || err == nil && f[2] == name) })
	switch {
	case fields != nil:
		u.UID, _ = strconv.Atoi(fields[2])
		u.GID, _ = strconv.Atoi(fields[3])
	case err == nil:
		u.UID = uid
	default:
		return nil, fmt.Errorf("the image %s has no user %s", img.Name, name)
	}
	if hasGroup {
		gid, err := strconv.Atoi(group)
		if err != nil {
			f := img.Entry("etc/group", func(f []string) bool { return len(f) > 2 && f[0] == group })
			if f == nil {
				return nil, fmt.Errorf("the image %s has no group %s", img.Name, group)
			}
			gid, _ = strconv.Atoi(f[2])
		}
		u.GID = gid
	}
	if u.UID == 0 && u.GID == 0 {
		return nil, nil
	}
	if u.UID < 0 || u.UID > 65534 || u.GID < 0 || u.GID > 65534 {
		return nil, fmt.Errorf("the user %s is outside of the numbers that containers have, 0 to 65534", wanted)
	}
	if confine.OwnerOf() == nil {
		return nil, fmt.Errorf("the image %s runs as user %s, and where Weir is not root containers have no user but root. Run the runner as root, or choose root with options: --user 0", img.Name, wanted)
	}
	return u, nil
}
