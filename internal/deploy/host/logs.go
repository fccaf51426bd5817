package host

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxLog is when a log file is turned over; one older one is kept.
const maxLog = 4 << 20

// logs keeps what processes print, a file for each environment and version.
type logs struct {
	dir  string
	mu   sync.Mutex
	open map[string]*logFile
}

type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
	size int64
}

func (l *logs) to(key, version string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := strings.NewReplacer("/", "-", "\\", "-", "..", "-").Replace(key + "-" + version)
	if l.open == nil {
		l.open = map[string]*logFile{}
	}
	f := l.open[name]
	if f == nil {
		f = &logFile{path: filepath.Join(l.dir, name+".log")}
		l.open[name] = f
	}
	return f
}

// Write never fails: a full disk must not stop a process by its own words.
func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil && f.size > maxLog {
		f.f.Close()
		os.Rename(f.path, f.path+".1")
		f.f = nil
	}
	if f.f == nil {
		os.MkdirAll(filepath.Dir(f.path), 0o700)
		file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return len(p), nil
		}
		f.f, f.size = file, 0
		if st, err := file.Stat(); err == nil {
			f.size = st.Size()
		}
	}
	n, _ := f.f.Write(p)
	f.size += int64(n)
	return len(p), nil
}
