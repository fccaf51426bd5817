package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// DemoOptions are the flags of `weir demo`.
type DemoOptions struct {
	Dir  string // "" is a new folder that is removed at the end
	Exit bool
	Out  io.Writer
	Rate int // requests a second to production; 0 means 600
}

// Outcome of one part of the demo, with times in milliseconds since its push.
type demoOutcome struct {
	OK        bool             `json:"ok"`
	Outcome   string           `json:"outcome"`
	Version   string           `json:"version,omitempty"`
	Digest    string           `json:"digest,omitempty"`
	Times     map[string]int64 `json:"ms,omitempty"`
	Failed    *int64           `json:"failed_requests,omitempty"`
	FailedFor string           `json:"why,omitempty"`
}

// demoReport is the last line of the demo.
type demoReport struct {
	First    demoOutcome `json:"first"`
	Good     demoOutcome `json:"good"`
	Bad      demoOutcome `json:"bad"`
	Rollback demoOutcome `json:"rollback"`
	Verify   demoOutcome `json:"verify"`
	Load     struct {
		OK          bool              `json:"ok"`
		Requests    int64             `json:"requests"`
		Rate        int               `json:"requests_per_second"`
		Injected    int64             `json:"failed_by_injected_fault"`
		NotInjected int64             `json:"failed_otherwise"`
		ByVersion   map[string]counts `json:"by_version"`
	} `json:"load"`
	Seconds float64 `json:"seconds"`
}

func (r demoReport) ok() bool {
	return r.First.OK && r.Good.OK && r.Bad.OK && r.Rollback.OK && r.Verify.OK && r.Load.OK
}

// Demo runs the main job on a fresh instance, and says what happens.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	if o.Rate == 0 {
		o.Rate = 600
	}
	for _, tool := range []struct{ name, install string }{{"git", "apt-get install -y git"}, {"go", "https://go.dev/dl, 1.26 or newer"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fault.New(fault.Unavailable, "%s is not installed; the demo needs it to build the example. Install it: %s", tool.name, tool.install)
		}
	}
	d := &demo{opts: o, out: o.Out, started: time.Now()}
	remove := o.Dir == ""
	if remove {
		if d.dir, err = os.MkdirTemp("", "weir-demo-"); err != nil {
			return err
		}
	} else if d.dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	defer func() {
		if remove {
			_ = os.RemoveAll(d.dir)
		}
	}()
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	defer d.stop()
	return d.run(ctx)
}

func (d *demo) run(ctx context.Context) error {
	fmt.Fprintf(d.out, `Weir demo: from git push to production, and back. It takes about two minutes, the
first time up to five, since the example's Go packages are then compiled cold.
Everything is real: git, builds, signatures, processes, requests. Only the people are played.

  pages   %s
  data    %s

`, d.link(), d.dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	steps := []func(context.Context) error{d.people, d.first, d.good, d.bad, d.back, d.verify, d.settle}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			d.stopLoad()
			d.line("It stops here: %s", fault.Sentence(err)+detail(err))
			d.report()
			return fault.New(fault.Conflict, "the demo did not go as it should: %s", fault.Sentence(err))
		}
	}
	d.keepCache()
	d.epilogue()
	d.report()
	if !d.rep.ok() {
		return fault.New(fault.Conflict, "not everything in the demo was as it should be; the line above says what")
	}
	if d.opts.Exit {
		return nil
	}
	fmt.Fprintf(d.out, "\nIt stays up until Ctrl-C. Look at %s\n", d.link())
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.ended:
		return err
	}
}

func detail(err error) string {
	if fault.KindOf(err) == "" {
		return " (" + err.Error() + ")"
	}
	return ""
}

// line narrates, with the time since the start.
func (d *demo) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for i, l := range strings.Split(text, "\n") {
		stamp := fmt.Sprintf("%6.1f s", time.Since(d.started).Seconds())
		if i > 0 {
			stamp = "        "
		}
		fmt.Fprintf(d.out, "%s  %s\n", stamp, l)
	}
}

func (d *demo) title(format string, args ...any) {
	fmt.Fprintf(d.out, "\n%s\n", fmt.Sprintf(format, args...))
}

func (d *demo) report() {
	d.rep.Seconds = time.Since(d.started).Round(10 * time.Millisecond).Seconds()
	raw, err := json.Marshal(d.rep)
	if err != nil {
		return
	}
	fmt.Fprintf(d.out, "%s\n", raw)
}

func (d *demo) epilogue() {
	d.title("What just happened")
	fmt.Fprintf(d.out, `  What broke      checkout %s failed about 5 %% of its requests; its tests passed.
  Who saw it      %d requests failed, of %d that %s answered; everybody else was served: %d of %d other requests failed.
  Why it stopped  %s
  Prove it        %s
                  %s
  Try             weir rollback checkout production
`, d.rep.Bad.Version, *d.rep.Bad.Failed, d.badRequests, d.rep.Bad.Version, d.rep.Load.NotInjected, d.rep.Load.Requests-d.badRequests, d.rep.Bad.FailedFor, d.verifyCommand, d.auditCommand)
	if !d.opts.Exit {
		fmt.Fprintf(d.out, "                  (with WEIR_SERVER=%s and WEIR_TOKEN=%s)\n", d.sys.Config.URL, d.tokens["maintainer"])
	}
}
