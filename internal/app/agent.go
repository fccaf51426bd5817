package app

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/edge/agentd"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/local"
	"weir/internal/pipeline/runner/remote"
	"weir/internal/source/git"
)

// openAgents is where jobs run: on agents, and in this process.
func (s *System) openAgents(ctx context.Context, rows *pipelinedb.Store, own runner.Runner) (*remote.Pool, error) {
	return remote.New(ctx, remote.Config{Org: "default", Rows: rows, Local: runner.NewLocal(own, s.Config.Runner.slots()), Labels: s.Config.Runner.Labels})
}

func (c RunnerConf) slots() int {
	if c.Slots > 0 {
		return c.Slots
	}
	return max(2, runtime.NumCPU())
}

// pool is remote.Pool in the words of the edge.
type pool struct{ *remote.Pool }

func (p pool) Connect(ctx context.Context, agent string, hello []byte) (agentd.Session, error) {
	s, err := p.Pool.Connect(ctx, agent, hello)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p pool) Job(agent, instance, key string) (agentd.Attempt, error) {
	a, err := p.Pool.Job(agent, instance, key)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// AgentOptions say how a machine runs jobs for a server.
type AgentOptions struct {
	Server, Token string
	Dir           string
	Labels        []string
	Slots         int
	Network       string
	Unconfined    bool
	Memory        uint64
	CPU           float64
	Processes     uint64
	Repositories  uint64 // bytes of the copies of repositories that are kept; 0 keeps none
}

// RunAgent runs jobs for a server until ctx ends; then it finishes those that it has. A second signal ends them, too.
func RunAgent(ctx context.Context, o AgentOptions) error {
	switch {
	case o.Token == "":
		return fault.New(fault.Invalid, "An agent needs a token. Make one on the server, `weir agent token NAME`, and pass it as --token or WEIR_TOKEN.")
	case o.Slots < 1 || o.Slots > 256:
		return fault.New(fault.Invalid, "--slots must be from 1 to 256, not %d.", o.Slots)
	case o.Network != string(confine.Egress) && o.Network != string(confine.None):
		return fault.New(fault.Invalid, "--network must be egress or none, not %q.", o.Network)
	}
	if support := confine.Probe(); !support.OK && !o.Unconfined {
		return fault.New(fault.Unavailable, "This machine cannot confine jobs: %s\nRun the agent where it can, or start it with --unconfined: every provenance then records it.", strings.Join(support.Missing, "; "))
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Invalid, err, "The agent's folder %s cannot be made.", dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "The agent's folder %s cannot be written.", dir)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fault.New(fault.Conflict, "Another agent uses the folder %s. Give this one a folder of its own: --dir.", dir)
	}
	tellSupport(ctx)
	run, err := local.New(local.Config{Data: dir, Network: confine.Network(o.Network), Unconfined: o.Unconfined,
		Limits: confine.Limits{Memory: o.Memory, CPU: o.CPU, Processes: o.Processes}})
	if err != nil {
		return err
	}
	labels := []string{"self-hosted", "linux", map[string]string{"amd64": "x64"}[runtime.GOARCH]}
	if labels[2] == "" {
		labels[2] = runtime.GOARCH
	}
	for _, l := range o.Labels {
		if l = strings.TrimSpace(l); l != "" && !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	a := &remote.Agent{Client: &remote.Client{URL: o.Server, Token: o.Token, HTTP: agentClient()}, Runner: run, Dir: filepath.Join(dir, "spool"), Labels: labels, Slots: o.Slots, Version: Release}
	if _, err := exec.LookPath("git"); err == nil && o.Repositories > 0 {
		near, err := git.OpenNear(filepath.Join(dir, "git"), int64(o.Repositories))
		if err != nil {
			return err
		}
		a.Near = near
	}
	kill, stop := signalAgain(ctx)
	defer stop()
	return a.Run(ctx, kill)
}

// agentClient has no timeout of its own: streams have no end, and archives may be large.
func agentClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 16, 2*time.Minute
	return &http.Client{Transport: t}
}

// signalAgain returns a context that ends with the second signal.
func signalAgain(ctx context.Context) (context.Context, context.CancelFunc) {
	kill, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		select {
		case <-kill.Done():
			return
		case <-ctx.Done():
		}
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-kill.Done():
		case <-again:
			slog.Warn("agent ends at once; its jobs will run again elsewhere")
			cancel()
		}
	}()
	return kill, cancel
}
