package local

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"weir/internal/base/confine"
	"weir/internal/pipeline"
)

// JavaScript actions of a job in a container run in there, and images seldom have Node.js. As GitHub's runner does, Weir brings its
// own: the machine's node, its libraries and the loader that fits them, in a folder that containers see at /__e. So it runs on any
// image, whatever C library that has.

// externals is where containers see it.
const externals = "/__e"

// node is how JavaScript actions are started in a container: the image's own node, else the one that the machine brings.
func (p *place) node() []string {
	if p.image.Has("usr/local/bin/node") || p.image.Has("usr/bin/node") || p.external == nil {
		return []string{"node"}
	}
	return p.external
}

// bringNode makes the machine's node visible in a container that is to be opened, if a step may want it.
func (j *job) bringNode(p *place) error {
	if !slices.ContainsFunc(j.Plan.Steps, func(s pipeline.StepPlan) bool {
		return s.Uses != "" && builtins[s.Uses] == nil && !strings.HasPrefix(s.Uses, "docker://")
	}) {
		return nil
	}
	all := nodeLanguage.tools()
	if len(all) == 0 {
		return nil // the action says what is missing
	}
	dir, loader, err := j.runner.bundle(all[0].program, "node-"+all[0].version)
	if err != nil {
		return err
	}
	p.binds = append(p.binds, confine.Bind{Source: dir, Target: externals})
	p.external = []string{externals + "/node"}
	if loader {
		p.external = []string{externals + "/loader", "--library-path", externals + "/lib", externals + "/node"}
	}
	return nil
}

// bundle copies a program with everything that it is linked with, once.
func (r *Runner) bundle(program, name string) (dir string, loader bool, err error) {
	r.caches.Lock()
	defer r.caches.Unlock()
	dir = filepath.Join(r.cfg.Data, "externals", name)
	if _, err := os.Stat(dir); err == nil {
		_, err := os.Stat(filepath.Join(dir, "loader"))
		return dir, err == nil, nil
	}
	files, interp, err := linked(program)
	if err != nil {
		return "", false, fmt.Errorf("read how %s is linked: %w", program, err)
	}
	tmp := dir + ".new"
	if err := remove(tmp); err != nil {
		return "", false, err
	}
	if err := os.MkdirAll(filepath.Join(tmp, "lib"), 0o755); err != nil {
		return "", false, err
	}
	if err := copyPlain(program, filepath.Join(tmp, "node"), 0o755); err != nil {
		return "", false, err
	}
	if interp != "" {
		if err := copyPlain(interp, filepath.Join(tmp, "loader"), 0o755); err != nil {
			return "", false, err
		}
	}
	for soname, path := range files {
		if err := copyPlain(path, filepath.Join(tmp, "lib", soname), 0o644); err != nil {
			return "", false, err
		}
	}
	return dir, interp != "", os.Rename(tmp, dir)
}

func copyPlain(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// linked finds the libraries of a program by name, and its loader.
func linked(program string) (files map[string]string, interp string, err error) {
	files = map[string]string{}
	dirs := []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"}
	for _, pattern := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/usr/local/lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	var visit func(path string) error
	visit = func(path string) error {
		f, err := elf.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP && interp == "" {
				b := make([]byte, min(p.Filesz, 4096))
				if _, err := p.ReadAt(b, 0); err != nil {
					return err
				}
				interp = strings.TrimRight(string(b), "\x00")
			}
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return err
		}
		run, _ := f.DynString(elf.DT_RUNPATH)
		old, _ := f.DynString(elf.DT_RPATH)
		var near []string
		for _, list := range slices.Concat(run, old) {
			for d := range strings.SplitSeq(list, ":") {
				near = append(near, strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path)).Replace(d))
			}
		}
		for _, name := range needed {
			if files[name] != "" || strings.ContainsRune(name, '/') {
				continue
			}
			i := slices.IndexFunc(slices.Concat(near, dirs), func(d string) bool {
				return fits(filepath.Join(d, name), f.Class, f.Machine)
			})
			if i < 0 {
				return fmt.Errorf("its library %s is nowhere", name)
			}
			files[name] = filepath.Join(slices.Concat(near, dirs)[i], name)
			if err := visit(files[name]); err != nil {
				return err
			}
		}
		return nil
	}
	err = visit(program)
	return files, interp, err
}

// fits reports whether a file is a library for the same kind of machine.
func fits(path string, class elf.Class, machine elf.Machine) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return cmp.Or(cmp.Compare(f.Class, class), cmp.Compare(f.Machine, machine)) == 0
}
