package local

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
	"weir/internal/pipeline/container"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/runner"
)

// group is all containers of one job. They have a network each, with nothing in it but themselves; what they offer each other is
// carried over by this process, port by port. So no container needs a privilege for it, two services may listen on the same port, and
// nothing of the machine can be reached that way. The nil group is one without containers.
type group struct {
	j        *job
	services []*service
	serial   int
	network  string

	mu       sync.Mutex
	releases []func()
	images   []pipeline.Image
	joined   []*relay
	relays   sync.WaitGroup
}

// hostSource gives the store the images that the job's host has.
type hostSource struct{ runner.Host }

// containers returns the group of the job, made at the first call.
func (j *job) containers() *group {
	if j.group == nil {
		j.group = &group{j: j, network: "weir_" + string(j.JobID)}
	}
	return j.group
}

// folder makes an empty folder for a container.
func (g *group) folder(name string) (string, error) {
	g.mu.Lock()
	g.serial++
	dir := filepath.Join(g.j.boxes(), strconv.Itoa(g.serial))
	g.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for container %s: %w", name, err)
	}
	return dir, nil
}

// pull makes an image ready. What it is by digest goes into the result.
func (g *group) pull(ctx context.Context, name, use string) (oci.Image, error) {
	ref, err := oci.Parse(name)
	if err != nil {
		return oci.Image{}, failure(fault.Sentence(err))
	}
	store, err := g.j.runner.store()
	if err != nil {
		return oci.Image{}, err
	}
	img, release, err := store.Pull(ctx, hostSource{g.j.host}, ref)
	if err != nil {
		if fault.KindOf(err) != "" {
			return img, failure(fault.Sentence(err))
		}
		return img, fmt.Errorf("pull image %s: %w", name, err)
	}
	g.mu.Lock()
	g.releases = append(g.releases, release)
	g.images = append(g.images, pipeline.Image{Name: ref.String(), Digest: img.Digest, Use: use})
	g.mu.Unlock()
	return img, nil
}

// used lists the images of the job.
func (g *group) used() []pipeline.Image {
	if g == nil {
		return nil
	}
	return g.images
}

// connect lets the programs of a sandbox reach the services as long as it lives: in a container by name and port, on the machine by the
// ports that are published. A port is there when the service listens on it and goes when it stops, as if they had a network in common.
func (g *group) connect(box *confine.Sandbox) error {
	if g == nil {
		return nil
	}
	for _, s := range g.services {
		if s.box == nil || s.box == box {
			continue
		}
		r := &relay{to: s, box: box, open: map[int]net.Listener{}}
		if g.j.main == nil && box == g.j.box {
			r.published = true
			if err := r.check(); err != nil {
				return err
			}
		}
		if i := slices.IndexFunc(g.services, func(o *service) bool { return o.box == box }); i >= 0 {
			r.taken = g.services[i].ports
		}
		g.joined = append(g.joined, r)
		g.relays.Go(r.run)
	}
	g.settle()
	return nil
}

// settle looks at once what all services listen on.
func (g *group) settle() {
	var all sync.WaitGroup
	for _, r := range g.joined {
		all.Go(r.follow)
	}
	all.Wait()
}

// relay carries connections of one sandbox to one service.
type relay struct {
	to        *service
	box       *confine.Sandbox
	taken     []int // ports that the sandbox's own program wants for itself
	published bool  // by the numbers of the machine, at 127.0.0.1; else as they are, at the service's own address

	mu    sync.Mutex
	over  bool
	open  map[int]net.Listener // by port of the service
	conns sync.WaitGroup
}

// check opens the published ports once, so that a number that is taken is found out before the job starts.
func (r *relay) check() error {
	for i, p := range r.to.published {
		l, err := r.box.ListenAt([4]byte{127, 0, 0, 1}, p.Host)
		if err != nil {
			return failure(fmt.Sprintf("the port %d of service %s cannot be published: %v", p.Host, r.to.id, err))
		}
		if p.Host == 0 {
			r.to.published[i].Host = l.Addr().(*net.TCPAddr).Port
		}
		defer l.Close()
	}
	return nil
}

// run follows the service until one of the two sandboxes is gone.
func (r *relay) run() {
	started := time.Now()
	for gone := false; !gone; {
		pause := 25 * time.Millisecond
		if time.Since(started) > time.Minute {
			pause = time.Second
		}
		select {
		case <-r.box.Gone():
			gone = true
		case <-r.to.box.Gone():
			gone = true
		case <-time.After(pause):
			r.follow()
		}
	}
	r.mu.Lock()
	r.over = true
	for _, l := range r.open {
		l.Close()
	}
	r.mu.Unlock()
	r.conns.Wait()
}

// follow opens what the service listens on now, and closes what it does not any more.
func (r *relay) follow() {
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	ports, err := r.to.box.Listening(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.over {
		return
	}
	for n, l := range r.open {
		if !slices.Contains(ports, n) {
			l.Close()
			delete(r.open, n)
		}
	}
	for _, n := range ports {
		addr, at := r.to.addr, n
		if r.published {
			i := slices.IndexFunc(r.to.published, func(p container.Port) bool { return p.Container == n })
			if i < 0 {
				continue
			}
			addr, at = [4]byte{127, 0, 0, 1}, r.to.published[i].Host
		}
		// A program that listens at every address keeps out whoever listens at one of them, and the other way round.
		if r.open[n] != nil || slices.Contains(r.taken, n) {
			continue
		}
		l, err := r.box.ListenAt(addr, at)
		if err != nil { // somebody else has it for now
			continue
		}
		r.open[n] = l
		r.conns.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				r.conns.Go(func() { carry(c, r.to.box, n) })
			}
		})
	}
}

// carry joins a connection to a port of a sandbox until either side is done.
func carry(c net.Conn, box *confine.Sandbox, port int) {
	defer c.Close()
	out, err := box.Dial(context.Background(), port)
	if err != nil {
		return
	}
	defer out.Close()
	stop := make(chan struct{})
	go func() { // it outlives neither end
		select {
		case <-box.Gone():
			c.Close()
			out.Close()
		case <-stop:
		}
	}()
	var both sync.WaitGroup
	copyTo := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if w, ok := to.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		} else {
			to.Close()
		}
	}
	both.Go(func() { copyTo(out, c) })
	both.Go(func() { copyTo(c, out) })
	both.Wait()
	close(stop)
}

// context adds what is known of the containers to the job context.
func (g *group) context(job *expr.Object) *expr.Object {
	if g == nil {
		return job
	}
	if g.j.main != nil {
		job.Set("container", expr.NewObject().Set("id", string(g.j.JobID)).Set("network", g.network))
	}
	services := expr.NewObject()
	for _, s := range g.services {
		ports := expr.NewObject()
		for _, p := range s.published {
			ports.Set(strconv.Itoa(p.Container), strconv.Itoa(p.Host))
		}
		services.Set(s.id, expr.NewObject().Set("id", string(g.j.JobID)+"-"+s.id).Set("network", g.network).Set("ports", ports))
	}
	return job.Set("services", services)
}

// close ends all containers and waits for what was carried between them.
func (g *group) close() {
	if g == nil {
		return
	}
	var all sync.WaitGroup
	for _, s := range g.services {
		if s.box != nil {
			all.Go(func() { _ = s.box.Close() })
		}
	}
	if g.j.main != nil && g.j.main.box != nil {
		all.Go(func() { _ = g.j.main.box.Close() })
	} else if g.j.box != nil {
		all.Go(func() { _ = g.j.box.Close() })
	}
	all.Wait()
	g.relays.Wait()
	for _, r := range g.releases {
		r()
	}
	if _, err := os.Stat(g.j.boxes()); err == nil {
		_ = g.j.runner.trash.put(g.j.boxes())
	}
}
