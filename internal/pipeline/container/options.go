// Package container reads what workflows say of containers: names of images, options, ports, volumes. It decides nothing; the linter
// and the runner see the same sentences.
package container

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/oci"
)

// Options are what options: of a container may say, which GitHub hands to `docker create`.
type Options struct {
	Health     oci.Health
	HealthCmd  string
	NoHealth   bool
	User       string
	Workdir    string
	Entrypoint string
	Hostname   string
	Env        []string
	CPU        float64
	Memory     uint64
	Unused     []string // named, and of no effect here
}

// withValue and alone are the options that are known, by what they mean.
var (
	withValue = map[string]string{
		"--health-cmd": "", "--health-interval": "", "--health-timeout": "", "--health-retries": "", "--health-start-period": "", "--health-start-interval": "unused",
		"--user": "", "-u": "--user", "--workdir": "", "-w": "--workdir", "--entrypoint": "", "--hostname": "", "-h": "--hostname", "--env": "", "-e": "--env",
		"--cpus": "", "--memory": "", "-m": "--memory", "--shm-size": "unused", "--name": "unused", "--restart": "unused", "--label": "unused", "-l": "unused", "--stop-timeout": "unused",
		"--pull": "unused", "--platform": "unused", "--ulimit": "unused",
	}
	alone = map[string]string{"--no-healthcheck": "", "--init": "unused", "--rm": "unused", "-t": "unused", "-i": "unused", "-it": "unused", "--tty": "unused", "--interactive": "unused"}
)

// ParseOptions reads options:. What is not known is refused by name: an option that would be ignored silently is one that somebody relies on.
func ParseOptions(text string) (o Options, err error) {
	words, err := Split(text)
	if err != nil {
		return o, fmt.Errorf("its options: %w", err)
	}
	for i := 0; i < len(words); i++ {
		name, value, has := strings.Cut(words[i], "=")
		if to, ok := alone[words[i]]; ok {
			if to == "unused" {
				o.Unused = append(o.Unused, words[i])
			} else {
				o.NoHealth = true
			}
			continue
		}
		to, ok := withValue[name]
		if !ok {
			return o, fmt.Errorf("its options: name %s, which containers here do not have: they have no other privileges, devices or networks than they are given. Known are --health-*, --user, --workdir, --entrypoint, --env, --hostname, --cpus and --memory", name)
		}
		if !has {
			if i++; i >= len(words) {
				return o, fmt.Errorf("its options: end after %s, which wants a value", name)
			}
			value = words[i]
		}
		if to == "unused" {
			o.Unused = append(o.Unused, name)
			continue
		}
		if to != "" {
			name = to
		}
		if err := o.set(name, value); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *Options) set(name, value string) error {
	bad := func(what string) error {
		return fmt.Errorf("its options: %s is %q; write %s", name, value, what)
	}
	switch name {
	case "--health-cmd":
		o.HealthCmd = value
	case "--health-interval", "--health-timeout", "--health-start-period":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 || d > time.Hour {
			return bad("a duration as 10s")
		}
		*map[string]*time.Duration{"--health-interval": &o.Health.Interval, "--health-timeout": &o.Health.Timeout, "--health-start-period": &o.Health.StartPeriod}[name] = d
	case "--health-retries":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1000 {
			return bad("a number")
		}
		o.Health.Retries = n
	case "--user":
		o.User = value
	case "--workdir":
		o.Workdir = value
	case "--entrypoint":
		o.Entrypoint = value
	case "--hostname":
		o.Hostname = value
	case "--env":
		if !strings.Contains(value, "=") {
			return bad("NAME=value")
		}
		o.Env = append(o.Env, value)
	case "--cpus":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n > 0 && n < 1e6) {
			return bad("a number of processors")
		}
		o.CPU = n
	case "--memory":
		n, err := sizeOf(value)
		if err != nil {
			return bad("a size as 512m")
		}
		o.Memory = n
	}
	return nil
}

// sizeOf reads 512m, 2g, 100000.
func sizeOf(s string) (uint64, error) {
	s = strings.TrimSuffix(strings.ToLower(s), "b")
	shift := 0
	for unit, by := range map[string]int{"k": 10, "m": 20, "g": 30} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			s, shift = rest, by
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 33)
	if err != nil || n == 0 || n<<shift>>shift != n {
		return 0, fmt.Errorf("no size")
	}
	return n << shift, nil
}

// Split takes a command line apart as a shell would, without expanding anything.
func Split(text string) (words []string, err error) {
	const most = 64 << 10
	if len(text) > most {
		return nil, fmt.Errorf("the text has more than %d bytes", most)
	}
	var word strings.Builder
	quote, in := rune(0), false
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(runes):
			if i++; quote == '"' && !slices.Contains([]rune{'"', '\\', '$', '`'}, runes[i]) {
				word.WriteRune(c)
			}
			if runes[i] != '\n' {
				word.WriteRune(runes[i])
				in = true
			}
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is never closed", quote)
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
