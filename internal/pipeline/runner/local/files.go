package local

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// files are how a step talks to the steps after it.
var files = []struct{ variable, name string }{
	{"GITHUB_ENV", "env"}, {"GITHUB_OUTPUT", "output"}, {"GITHUB_PATH", "path"}, {"GITHUB_STEP_SUMMARY", "summary"}, {"GITHUB_STATE", "state"},
}

const (
	maxFile    = 4 << 20
	maxSummary = 64 << 10
)

func (j *job) fileOf(name, id string) string { return j.seen("run/" + name + id) }

// open opens a regular file below the job's folder. A job may have put anything there: a link that leads out, a pipe that blocks.
func (j *job) open(name string) (*os.File, error) {
	f, err := j.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (j *job) write(name string, data []byte) error {
	f, err := j.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if os.IsExist(err) { // an earlier step may have left something else there
		_ = j.root.Remove(name)
		f, err = j.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	}
	if err != nil {
		return failure(fmt.Sprintf("a step before it has blocked %s: %v", name, err))
	}
	if j.main != nil {
		j.give(name, j.main.user)
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}

// read returns a file that a step wrote; one that is gone is empty.
func (j *job) read(name string, max int64) (string, error) {
	f, err := j.open(name)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", failure(fmt.Sprintf("the file %s cannot be read: %v", name, err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return "", failure(fmt.Sprintf("the file %s cannot be read: %v", name, err))
	}
	if int64(len(b)) > max {
		return "", failure(fmt.Sprintf("the file behind $GITHUB_%s is larger than %d bytes", strings.ToUpper(strings.TrimRight(filepath.Base(name), "0123456789")), max))
	}
	return string(b), nil
}

// matchers reads a file of problem matchers, which a step names from the workspace or as an absolute path below the job's folder.
func (j *job) matchers(name string) ([]byte, error) {
	if filepath.IsAbs(name) {
		rel, ok := j.rel(name)
		if !ok {
			return nil, failure("it is outside the job's folder")
		}
		name = rel
	} else {
		name = filepath.Join("workspace", name)
	}
	text, err := j.read(name, 1<<20)
	if err == nil && text == "" {
		err = failure("there is no such file, or it is empty")
	}
	return []byte(text), err
}

// collect takes over what a program wrote for the steps after it. State is nil where nobody asks for it.
func (j *job) collect(id string, outputs, state map[string]string) error {
	for _, f := range files {
		limit := int64(maxFile)
		if f.name == "summary" {
			limit = 1 << 20
		}
		text, err := j.read("run/"+f.name+id, limit)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}
		switch f.name {
		case "env":
			err = pairs(text, "GITHUB_ENV", func(k, v string) error {
				if up := strings.ToUpper(k); strings.HasPrefix(up, "GITHUB_") || strings.HasPrefix(up, "RUNNER_") || up == "NODE_OPTIONS" {
					return failure(fmt.Sprintf("$GITHUB_ENV sets %s, which only the runner may set", k))
				}
				j.env[k] = v
				return nil
			})
		case "output":
			err = pairs(text, "GITHUB_OUTPUT", func(k, v string) error { outputs[k] = v; return nil })
		case "state":
			err = pairs(text, "GITHUB_STATE", func(k, v string) error {
				if state != nil {
					state[k] = v
				}
				return nil
			})
		case "path":
			for line := range strings.Lines(text) {
				if p := strings.TrimSpace(line); p != "" && !strings.ContainsAny(p, ":\x00") {
					j.path = append([]string{p}, j.path...)
				}
			}
		case "summary":
			if room := maxSummary - j.summary.Len(); room > 0 {
				j.summary.WriteString(strings.ToValidUTF8(text[:min(len(text), room)], ""))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pairs reads NAME=value and NAME<<DELIMITER ... DELIMITER.
func pairs(text, file string, set func(k, v string) error) error {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		eq, here := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case eq > 0 && (here < 0 || eq < here):
			if err := set(line[:eq], line[eq+1:]); err != nil {
				return err
			}
		case here > 0:
			delimiter, value, closed := line[here+2:], []string{}, false
			for i++; i < len(lines); i++ {
				if lines[i] == delimiter {
					closed = true
					break
				}
				value = append(value, lines[i])
			}
			if !closed || delimiter == "" {
				return failure(fmt.Sprintf("$%s begins a value of %s with <<%s and never ends it", file, line[:here], delimiter))
			}
			if err := set(line[:here], strings.Join(value, "\n")); err != nil {
				return err
			}
		default:
			return failure(fmt.Sprintf("$%s holds the line %q, which is neither NAME=value nor NAME<<DELIMITER", file, line[:min(len(line), 80)]))
		}
	}
	return nil
}
