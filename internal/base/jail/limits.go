package jail

import "time"

// Limits bound what each command may take. Zero means the default.
type Limits struct {
	Files     uint64  // open files of a process, default 65536 or the parent's limit
	Processes uint64  // processes and threads in the sandbox, default 4096
	Memory    uint64  // bytes of memory of all processes together, default unlimited
	CPU       float64 // processors, default all
	FileSize  uint64  // bytes of one file, default unlimited
	Tmp       uint64  // bytes of the sandbox's own /tmp, default 1 GiB
}

// Exit is how a command ended. A command killed by a signal has Code 128 + signal, as a shell reports it.
type Exit struct {
	Code   int           `json:"code"`
	Signal string        `json:"signal,omitempty"`
	User   time.Duration `json:"user,omitempty"`   // processor time in the command and the children that it waited for
	System time.Duration `json:"system,omitempty"` // processor time in the kernel on their behalf
	MaxRSS int64         `json:"max_rss,omitempty"`
}

// Success reports exit code 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == "" }
