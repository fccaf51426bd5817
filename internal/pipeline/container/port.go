package container

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// Port is one of a service that programs of the job reach at their own loopback. Host is 0 if no number was given.
type Port struct{ Host, Container int }

// MaxPorts is how many a container may have.
const MaxPorts = 200

// ParsePorts reads ports:. Host ports that are not given are chosen by the caller.
func ParsePorts(texts []string) (all []Port, err error) {
	for _, t := range texts {
		bad := fmt.Errorf("the port %q cannot be read; write 5432, or 15432:5432", t)
		text, kind, ok := strings.Cut(strings.TrimSpace(t), "/")
		if ok && kind != "tcp" {
			return nil, fmt.Errorf("the port %q asks for %s; containers here are joined over TCP only", t, kind)
		}
		parts := strings.Split(text, ":")
		if len(parts) > 1 && (parts[0] == "127.0.0.1" || parts[0] == "0.0.0.0" || parts[0] == "localhost") {
			parts = parts[1:]
		}
		if len(parts) > 2 {
			return nil, bad
		}
		numbers := make([]int, len(parts))
		for i, p := range parts {
			if numbers[i], err = strconv.Atoi(p); err != nil && !(i == 0 && p == "" && len(parts) == 2) || numbers[i] < 0 || numbers[i] > 65535 {
				return nil, bad
			}
		}
		p := Port{Container: numbers[len(numbers)-1]}
		if len(numbers) == 2 {
			p.Host = numbers[0]
		}
		if p.Container == 0 {
			return nil, bad
		}
		if all = append(all, p); len(all) > MaxPorts {
			return nil, fmt.Errorf("a service may have %d ports", MaxPorts)
		}
	}
	return all, nil
}

// Volume is a folder that a container sees.
type Volume struct {
	Name   string // of a volume that the containers of a job share; or
	Path   string // of a folder, absolute or relative to the workspace; both empty: one of the container's own
	Target string
	Write  bool
}

// ParseVolume reads NAME:/path, FOLDER:/path or /path, with :ro after it.
func ParseVolume(text string) (v Volume, err error) {
	parts := strings.Split(text, ":")
	v.Write = true
	if len(parts) == 1 {
		v.Target = path.Clean(text)
		return v, nil
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			v.Write = false
		case "rw", "z", "Z":
		default:
			return v, fmt.Errorf("the volume %s ends in %q; ro and rw are known", text, parts[2])
		}
		parts = parts[:2]
	}
	if len(parts) != 2 || parts[0] == "" || !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
		return v, fmt.Errorf("the volume %s cannot be read; write NAME:/path or FOLDER:/path", text)
	}
	v.Target = path.Clean(parts[1])
	if strings.HasPrefix(parts[0], ".") || strings.Contains(parts[0], "/") {
		v.Path = parts[0]
		return v, nil
	}
	if v.Name = parts[0]; len(v.Name) > 100 || strings.ContainsFunc(v.Name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) {
		return v, fmt.Errorf("%q cannot be the name of a volume", v.Name)
	}
	return v, nil
}

// Check finds what is wrong with the texts of a container that hold no expressions. The key says which of them, and the text what it is.
func Check(image, options string, ports, volumes []string, found func(key, text string, err error)) {
	fixed := func(s string) bool { return s != "" && !strings.Contains(s, "${{") }
	if fixed(image) {
		if _, err := oci.Parse(strings.TrimPrefix(image, "docker://")); err != nil {
			found("image", image, fmt.Errorf("%s", fault.Sentence(err)))
		}
	}
	if fixed(options) {
		if _, err := ParseOptions(options); err != nil {
			found("options", options, err)
		}
	}
	for _, p := range ports {
		if fixed(p) {
			if _, err := ParsePorts([]string{p}); err != nil {
				found("ports", p, err)
			}
		}
	}
	for _, text := range volumes {
		if !fixed(text) {
			continue
		}
		if v, err := ParseVolume(text); err != nil {
			found("volumes", text, err)
		} else if path.IsAbs(v.Path) && !strings.HasPrefix(v.Path, "/github/") && !strings.HasPrefix(v.Path, "/__w/") {
			found("volumes", text, fmt.Errorf("the volume %s is a folder of the machine, which jobs do not see. Name a folder of the workspace (./folder), or a volume by a name of its own", text))
		}
	}
}
