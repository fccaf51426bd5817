package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"weir/internal/base/fault"
	"weir/internal/base/jail"
)

// A container is a sandbox whose file tree is an image. A container runtime (runc) makes it: namespaces, the image with a writable
// layer over it, the masks over /proc, capabilities and control groups, all said in a bundle that is written here. Its process 1 is
// the same init as in every other sandbox, so commands are started, signalled, filtered and joined to the outside in the same way,
// and the container ends when the process that opened it does.
//
// Root in a container is the user that Weir runs as, without any power over the machine: with a user namespace of its own, a handful
// of capabilities in there, no_new_privs and the filter of system calls. Where Weir is root, the container's other users are numbers
// that nobody on the machine has; elsewhere there is only root.

// Container describes what a sandbox needs beside its Spec to be one.
type Container struct {
	Layers   []string // folders of the image, the lowest first; never written
	Dir      string   // an empty folder of the machine for what programs write and for the runtime's notes; removed by the caller
	Hostname string
	Hosts    map[string]string // names to addresses, for /etc/hosts
	Binds    []Bind
	Links    map[string]string // symbolic links to make, by absolute path
}

// Bind is a folder or file of the machine that a container sees.
type Bind struct {
	Source, Target string
	Write          bool
}

// Changed is the folder of what programs wrote, in the container's Dir.
func (c Container) Changed() string { return filepath.Join(c.Dir, "upper") }

// idBase is the machine's number of user 1 of containers, in the range that is customary for containers; idCount how many there are.
const (
	idBase  = 0x10000000
	idCount = 65536
)

// manyUsers says whether containers can have more users than root: whoever is root with all numbers may hand them out.
var manyUsers = sync.OnceValue(func() bool {
	if os.Getuid() != 0 {
		return false
	}
	for _, f := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		b, err := os.ReadFile(f)
		if err != nil {
			return false
		}
		var inside, outside, n uint64
		if _, err := fmt.Sscan(string(b), &inside, &outside, &n); err != nil || inside != 0 || n < idBase+idCount {
			return false
		}
	}
	return true
})

// OwnerOf is the machine's number of a user or group of containers. It is nil where there is only one.
func OwnerOf() func(id int) int {
	if !manyUsers() {
		return nil
	}
	return func(id int) int {
		if id <= 0 || id >= idCount {
			return 0
		}
		return idBase + id
	}
}

func mappings(own int) []specs.LinuxIDMapping {
	all := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(own), Size: 1}}
	if manyUsers() {
		all = append(all, specs.LinuxIDMapping{ContainerID: 1, HostID: idBase + 1, Size: idCount - 1})
	}
	return all
}

// capabilities are what root of a container may do in there: change owners and users, and nothing to the machine.
var capabilities = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_SETFCAP", "CAP_NET_BIND_SERVICE"}

var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// maxOptions is how many bytes the options of a mount may have.
const maxOptions = 4000

// overlayOf are the options of an overlay of layers, the highest first.
func overlayOf(lower []string, c *Container) (options []string, size int) {
	options = []string{"lowerdir=" + strings.Join(lower, ":"), "upperdir=" + c.Changed(), "workdir=" + filepath.Join(c.Dir, "work"), "userxattr"}
	return options, len(strings.Join(options, ","))
}

// shorten gives folders short names, as links in a folder of their own, which the caller removes.
func shorten(folders []string) (dir string, short []string, err error) {
	if dir, err = os.MkdirTemp("/tmp", "wl"); err != nil { // the shortest there is
		dir, err = os.MkdirTemp("", "wl")
	}
	if err != nil {
		return "", nil, fmt.Errorf("make container: %w", err)
	}
	for i, f := range folders {
		at := filepath.Join(dir, strconv.FormatInt(int64(i), 36))
		if err := os.Symlink(f, at); err != nil {
			return dir, nil, fmt.Errorf("make container: %w", err)
		}
		short = append(short, at)
	}
	return dir, short, nil
}

// writeBundle writes what the runtime reads: config.json, and the files that it names. The folder links, if there is one, may go when the
// runtime has ended.
func writeBundle(spec Spec, groupName string) (links string, err error) {
	c := spec.Container
	defer func() {
		if err != nil && links != "" {
			_ = os.RemoveAll(links)
			links = ""
		}
	}()
	for _, dir := range []string{"rootfs", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(c.Dir, dir), 0o755); err != nil {
			return "", fmt.Errorf("make container: %w", err)
		}
	}
	if len(c.Layers) == 0 {
		return "", errors.New("make container: its image has no layer")
	}
	if !slices.ContainsFunc(c.Layers, func(l string) bool { _, err := os.Lstat(filepath.Join(l, "tmp")); return err == nil }) {
		tmp := filepath.Join(c.Changed(), "tmp")
		if err := errors.Join(os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
			return "", fmt.Errorf("make container: %w", err)
		}
	}
	for at, to := range c.Links { // the folder is ours alone until the container starts
		at = filepath.Join(c.Changed(), filepath.Clean("/"+at))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(to, at)); err != nil {
			return "", fmt.Errorf("make container: %w", err)
		}
	}
	lower := slices.Clone(c.Layers)
	slices.Reverse(lower)
	overlay, size := overlayOf(lower, c)
	for _, p := range append(lower, c.Dir) {
		if strings.ContainsAny(p, ",:\\") {
			return "", fault.New(fault.Invalid, "Containers cannot be run from %s: a path with a comma, a colon or a backslash in it cannot be mounted. Choose another data folder.", p)
		}
	}
	if size > maxOptions { // as others do who mount many layers: by short names
		var short []string
		if links, short, err = shorten(lower); err != nil {
			return links, err
		}
		if overlay, size = overlayOf(short, c); size > maxOptions {
			return links, fault.New(fault.Invalid, "The image has %d layers, more than this machine can mount over each other (their names take %d bytes of %d). Flatten it.", len(lower), size, maxOptions)
		}
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t" + c.Hostname + "\n"
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		hosts += c.Hosts[name] + "\t" + name + "\n"
	}
	files := map[string]string{"hosts": hosts, "hostname": c.Hostname + "\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return links, fmt.Errorf("make container: %w", err)
		}
	}
	mounts := []specs.Mount{
		{Destination: "/", Type: "overlay", Source: "overlay", Options: overlay},
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=268435456"}},
		{Destination: "/etc/hosts", Type: "bind", Source: filepath.Join(c.Dir, "hosts"), Options: []string{"bind", "ro", "nosuid", "nodev"}},
		{Destination: "/etc/hostname", Type: "bind", Source: filepath.Join(c.Dir, "hostname"), Options: []string{"bind", "ro", "nosuid", "nodev"}},
	}
	namespaces := []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.UserNamespace}, {Type: specs.CgroupNamespace}}
	if spec.Network != Host {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		mounts = append(mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
	}
	for _, b := range c.Binds {
		if _, err := os.Stat(b.Source); err != nil {
			return links, fault.Wrap(fault.Unavailable, err, "the container could not be started: %s, which it is to see, is missing", b.Source)
		}
		access := "ro"
		if b.Write {
			access = "rw"
		}
		mounts = append(mounts, specs.Mount{Destination: b.Target, Type: "bind", Source: b.Source, Options: []string{"rbind", access, "nosuid", "nodev"}})
	}
	linux := &specs.Linux{UIDMappings: mappings(os.Getuid()), GIDMappings: mappings(os.Getgid()), Namespaces: namespaces, MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths}
	if groupName != "" {
		linux.CgroupsPath, linux.Resources = groupName, resources(spec.Limits)
	}
	config := specs.Spec{
		Version: "1.0.2", Hostname: c.Hostname, Root: &specs.Root{Path: "rootfs"}, Mounts: mounts, Linux: linux,
		Process: &specs.Process{
			Args: []string{jail.Handed}, Env: jail.Env, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
		},
	}
	b, err := json.Marshal(config)
	if err != nil {
		return links, fmt.Errorf("make container: %w", err)
	}
	return links, os.WriteFile(filepath.Join(c.Dir, "config.json"), b, 0o600)
}

// resources are the limits that the machine's control groups can hold a container to.
func resources(l Limits) *specs.LinuxResources {
	r, groups := &specs.LinuxResources{}, machineGroups()
	if groups.dirs["memory"] != "" && l.Memory > 0 {
		most := int64(l.Memory)
		r.Memory = &specs.LinuxMemory{Limit: &most}
		if groups.v2 { // there it is memory and swap together
			r.Memory.Swap = &most
		}
	}
	if groups.dirs["cpu"] != "" && l.CPU > 0 {
		period, quota := uint64(100_000), max(1000, int64(l.CPU*100_000))
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if groups.dirs["pids"] != "" {
		r.Pids = &specs.LinuxPids{Limit: int64(processes(l))}
	}
	return r
}

// processes is how many a container may have; there is always a bound.
func processes(l Limits) uint64 {
	if l.Processes > 0 {
		return l.Processes
	}
	return jail.DefaultProcesses
}

// unheld are the limits that nobody can hold a container to on this machine.
func unheld(l Limits) (missing []string) {
	groups := machineGroups()
	if groups.dirs["memory"] == "" && l.Memory > 0 {
		missing = append(missing, "memory")
	}
	if groups.dirs["cpu"] == "" && l.CPU > 0 {
		missing = append(missing, "cpu")
	}
	if groups.dirs["pids"] == "" {
		missing = append(missing, "processes")
	}
	return missing
}
