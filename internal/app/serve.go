package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/internal/base/fault"
	"weir/internal/base/part"
	"weir/internal/edge/agentd"
	"weir/internal/edge/api"
	"weir/internal/edge/web"
	"weir/internal/edge/web/live"
	"weir/internal/guard/policy"
	"weir/internal/guard/policy/rules"
)

// Release is the version of Weir itself, set at build time.
var Release = "dev"

// SetupLog directs the process's log to w.
func SetupLog(c LogConf, w io.Writer) {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, opts)))
		return
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(w, opts)))
}

// Serve runs a server until ctx ends. out gets the lines for a person: the
// address, and once the first admin's sign-in link.
func Serve(ctx context.Context, c Config, out io.Writer) error {
	// A busy server's live heap is some ten megabytes: collecting it half as often
	// costs as much again, and saves a tenth of the processor.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	l, err := Listen(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := Open(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(s.Run(ctx, l, out), s.Close())
}

// Listen takes a port before anything is changed on disk.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.New(fault.Conflict, "The address %s is in use by another program. Stop it, or listen elsewhere (--listen, or listen in the configuration file).", address)
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "Weir cannot listen on %s.", address)
	}
	return l, nil
}

// Run serves on l and runs every part until ctx ends or one of them fails.
func (s *System) Run(ctx context.Context, l net.Listener, out io.Writer) error {
	ready := &atomic.Bool{}
	srv := &http.Server{Handler: s.handler(ready), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	serve := part.Func("http", func(ctx context.Context) error {
		stopped := make(chan error, 1)
		go func() { stopped <- srv.Serve(l) }()
		ready.Store(true)
		select {
		case err := <-stopped:
			return err
		case <-ctx.Done():
		}
		ready.Store(false)
		// Requests that are under way may finish; those that never end, such as
		// live pages, are cut.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			return srv.Close()
		}
		return nil
	})
	link, err := s.accounts.Bootstrap(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Weir %s is serving %s (data in %s)\n", Release, s.Config.URL, s.Config.Data)
	if link != "" {
		fmt.Fprintf(out, "Sign in as the first admin, once, within 30 minutes:\n  %s/signin?link=%s\n", s.Config.URL, link)
	}
	tellSupport(ctx)
	if s.Config.Runner.Unconfined {
		slog.WarnContext(ctx, "jobs and services run without confinement; every provenance records it")
	}
	return part.Run(ctx, append(s.parts, serve, part.Func("host", s.keepHost))...)
}

// handler is everything that is served on the one port.
func (s *System) handler(ready *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/git/", s.gitd)
	mux.Handle("/v2/", s.registryHandler())
	mux.Handle("/api/", api.New(api.Config{Release: Release, Instance: s.Instance.ID, URL: s.Config.URL, Accounts: s.accounts, Authenticate: s.actorOf, Catalog: s.catalog, Source: s.source, Secrets: s.secrets, Mirrors: mirrors{s.mirrors},
		LandRules: rules.All()[policy.ActionLand], Pipeline: s.pipeline, Artifact: s.artifact, Registry: s.keeper, Evidence: s.evidence, Ledger: s.ledger, Policy: s.policy, Delivery: deliveryAPI{s}, Submissions: submissions{s}, Notes: notes{s}, Against: s.against}))
	mux.Handle("/agent/", agentd.New(agentd.Config{Pool: pool{s.agents}, Authenticate: s.accounts.Authenticate}))
	mux.Handle("/metrics", s.metrics())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !ready.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		var one int
		if err := s.db.QueryRow(r.Context(), "select 1").Scan(&one); err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("/", s.pages())
	return mux
}

func (s *System) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help, query string) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "weir", Name: name, Help: help}, func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			var n float64
			_ = s.db.QueryRow(ctx, query).Scan(&n) // A scrape during an outage shows 0, and readyz tells why.
			return n
		}))
	}
	gauge("ledger_entries", "Entries in the ledger.", "select count(*) from ledger_entry")
	gauge("facts_unsequenced", "Facts that have no position yet.", "select count(*) from fact where position is null")
	gauge("runs_active", "Runs that have not ended.", "select count(*) from pipeline_run where state in ('pending', 'running')")
	gauge("changes_open", "Open changes.", "select count(*) from change where state = 'open'")
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "weir", Name: "build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"release": Release}}, func() float64 { return 1 }))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// pages is the web pages.
func (s *System) pages() http.Handler {
	delivery := deliveryAPI{s}
	return web.New(web.Config{URL: s.Config.URL, Data: live.New(live.Config{
		DB: s.db, Accounts: s.accounts, Catalog: s.catalog, Source: s.source, Git: s.git, LandRules: rules.All()[policy.ActionLand],
		Pipeline: s.pipeline, Artifact: s.artifact, Ledger: s.ledger, Policy: s.policy, Deploy: s.deploy, Control: s.control, Trust: s.evidence.TrustedRoot, Custodian: s.keeper, Against: s.against, Notes: notes{s}.page,
		Running: delivery.Running, Approve: delivery.Approve, URL: s.Config.URL, Version: Release,
	})})
}
