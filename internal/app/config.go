package app

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/base/strict"
	"weir/internal/catalog"
)

// Config is the one configuration file. Every key has a default; `weir serve`
// works without a file.
type Config struct {
	Listen     string             `yaml:"listen" doc:"Address that the server listens on." default:"127.0.0.1:7400"`
	URL        string             `yaml:"url" doc:"Address under which people and tools reach the server. From listen, if absent."`
	Data       string             `yaml:"data" doc:"The data folder: keys, database, blobs, caches. One server uses it at a time." default:"./weir-data"`
	Database   string             `yaml:"database" doc:"Where state is kept: sqlite:///path/weir.db or postgres://user:password@host:5432/name. A file in the data folder, if absent."`
	Blobs      string             `yaml:"blobs" doc:"Where bytes are kept: dir:///path or s3://bucket/prefix, for a server that is not Amazon's with ?endpoint=https://host, and with the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_SHARED_CREDENTIALS_FILE. A folder in the data folder, if absent. Replicas share it."`
	Identity   IdentityConf       `yaml:"identity" doc:"Names that are fixed at first start and written into signatures."`
	Runner     RunnerConf         `yaml:"runner" doc:"The embedded runner."`
	Host       HostConf           `yaml:"host" doc:"The process that runs deployed services on this machine."`
	Limits     LimitsConf         `yaml:"limits" doc:"What is refused."`
	Log        LogConf            `yaml:"log" doc:"What the server writes to standard error."`
	Registry   RegistryConf       `yaml:"registry" doc:"The built-in OCI registry."`
	Registries []ExternalRegistry `yaml:"registries" doc:"Registries beside the built-in one: where submitted images may come from, and where copies of releases may go."`
	Keep       KeepConf           `yaml:"keep" doc:"How long what runs leave is kept. The longest that applies wins; see weir gc."`
}

// IdentityConf names the instance.
type IdentityConf struct {
	Origin       string `yaml:"origin" doc:"Host name of the ledger, in every checkpoint. Only read at first start." default:"log.weir.internal"`
	Issuer       string `yaml:"issuer" doc:"URL below which signers are named, in every signature. Only read at first start." default:"https://weir.internal"`
	TimestampKey string `yaml:"timestamp_key" doc:"Key in a key management service that signs timestamps, as signing_key. A key in the data folder, if absent. Only read at first start."`
	SigningKey   string `yaml:"signing_key" doc:"Key in a key management service that certifies signers, as NAME://KEY, through the program sigstore-kms-NAME. A key in the data folder, if absent. Only read at first start; later, rotate the keys to it."`
	ImageKey     string `yaml:"image_key" doc:"A bare key that signs images as well, for verifiers that take a public key and no certificates: file for one in the data folder, or NAME://KEY in a key management service. None if absent."`
}

// RunnerConf bounds the embedded runner.
type RunnerConf struct {
	Slots      int           `yaml:"slots" doc:"Jobs that run at a time. As many as processors, at least 2, if absent."`
	Labels     []string      `yaml:"labels" doc:"Labels of the server's own process: a job runs there if it asks for none but these. If absent, it takes every job whose labels no agent has."`
	Network    string        `yaml:"network" doc:"What jobs may reach: other machines, or nothing." enum:"egress,none" default:"egress"`
	CacheSeed  string        `yaml:"cache_seed" doc:"Folder that a repository's first tool cache is a copy of, so that the first run need not compile everything cold."`
	Memory     catalog.Bytes `yaml:"memory" doc:"Memory of all processes of a job together, such as 4Gi. Unlimited if absent. Needs control groups; the server says at start where there are none."`
	CPU        string        `yaml:"cpu" doc:"Processors of a job, such as 2 or 500m. All if absent. Needs control groups."`
	Processes  int           `yaml:"processes" doc:"Processes and threads of a job." default:"4096"`
	BuildKit   string        `yaml:"buildkit" doc:"Address of a BuildKit daemon that builds Dockerfiles, such as tcp://buildkit.internal:1234 or unix:///run/buildkit/buildkitd.sock; its client buildctl must be on the machine. Absent: buildah on the machine."`
	Unconfined bool          `yaml:"unconfined" doc:"Run jobs and services without confinement where the machine cannot confine. Every provenance then says so." default:"false"`
}

// HostConf says where the host process is.
type HostConf struct {
	Dir   string `yaml:"dir" doc:"Folder of the host process: images, state. A folder beside the data folder's contents, if absent."`
	Start bool   `yaml:"start" doc:"Whether the server starts the host process if none answers." default:"true"`
}

// LimitsConf bounds input.
type LimitsConf struct {
	Push     catalog.Bytes `yaml:"push" doc:"Largest push." default:"256Mi"`
	FreeDisk catalog.Bytes `yaml:"free_disk" doc:"Free space below which pushes and runs are refused. Rollbacks go on." default:"512Mi"`
}

// LogConf says what is logged.
type LogConf struct {
	Level  string `yaml:"level" doc:"Least level that is written." enum:"debug,info,warn,error" default:"info"`
	Format string `yaml:"format" doc:"How lines are written." enum:"text,json" default:"text"`
}

// RegistryConf says who reads images.
type RegistryConf struct {
	AnonymousPull bool             `yaml:"anonymous_pull" doc:"Whether images and their evidence can be read without a token." default:"false"`
	Readable      []string         `yaml:"readable" doc:"Repositories that every job may pull from, such as base/**: base images and tools."`
	Keep          RegistryKeepConf `yaml:"keep" doc:"How long what is kept. What runs in an environment, what one can go back to and what somebody holds is kept whatever this says."`
	Quota         catalog.Bytes    `yaml:"quota" doc:"Bytes that a repository may take, such as 50Gi; an admin can set another quota for one. No limit if absent."`
	Foreign       bool             `yaml:"foreign_layers" doc:"Whether images may have layers that stay elsewhere, which clients fetch from the address in the manifest." default:"false"`
	ScrubRate     catalog.Bytes    `yaml:"scrub_rate" doc:"Bytes a second at which stored bytes are read again in the background to find damage." default:"8Mi"`
	ScrubDays     int              `yaml:"scrub_days" doc:"Days from the end of one such reading to the next." default:"7"`
	Access        []AccessConf     `yaml:"access" doc:"Who may do what, by repository. The first entry that names somebody for what is asked counts; where there is none, roles do."`
}

// KeepConf says how long things are kept.
type KeepConf struct {
	Logs       int           `yaml:"logs" doc:"Days that the log of a run is kept after its end." default:"90"`
	Artifacts  int           `yaml:"artifacts" doc:"Days that artifacts of jobs are kept." default:"90"`
	Releases   int           `yaml:"releases" doc:"Days that logs and artifacts of runs that built a release are kept." default:"400"`
	Caches     catalog.Bytes `yaml:"caches" doc:"Bytes of all cache entries together; those that were not used for longest go first." default:"20Gi"`
	CacheFloor catalog.Bytes `yaml:"caches_of_repository" doc:"Bytes of cache entries that each repository keeps whatever the others do." default:"1Gi"`
	Newest     int           `yaml:"newest_runs" doc:"So many newest runs of each workflow keep theirs whatever their age." default:"10"`
}

// Default is the configuration without a file.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:7400", Data: "./weir-data",
		Identity: IdentityConf{Origin: "log.weir.internal", Issuer: "https://weir.internal"},
		Runner:   RunnerConf{Network: "egress", Processes: 4096},
		Host:     HostConf{Start: true},
		Limits:   LimitsConf{Push: 256 << 20, FreeDisk: 512 << 20},
		Log:      LogConf{Level: "info", Format: "text"},
		Registry: RegistryConf{Keep: RegistryKeepConf{Releases: 10, Days: 90, Untagged: 7}, ScrubRate: 8 << 20, ScrubDays: 7},
		Keep:     KeepConf{Logs: 90, Artifacts: 90, Releases: 400, Newest: 10, Caches: 20 << 30, CacheFloor: 1 << 30},
	}
}

// finish fills in what follows from other keys, and checks the rest.
func (c *Config) finish() error {
	abs, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	c.Data = abs
	if c.Database == "" {
		c.Database = (&url.URL{Scheme: "sqlite", Path: filepath.Join(c.Data, "weir.db")}).String()
	}
	if c.Blobs == "" {
		c.Blobs = (&url.URL{Scheme: "dir", Path: filepath.Join(c.Data, "blobs")}).String()
	}
	if c.Host.Dir == "" {
		c.Host.Dir = filepath.Join(c.Data, "host")
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fault.New(fault.Invalid, "listen must be HOST:PORT such as 127.0.0.1:7400, not %q.", c.Listen)
	}
	if c.URL == "" {
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "localhost"
		}
		c.URL = "http://" + net.JoinHostPort(host, port)
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fault.New(fault.Invalid, "url must be an http or https address such as https://weir.example.com, not %q.", c.URL)
	}
	if _, err := (catalog.Resources{CPU: c.Runner.CPU}).Processors(); err != nil {
		return fault.New(fault.Invalid, "runner.%s.", err)
	}
	if err := checkRegistries(c.Registries); err != nil {
		return err
	}
	if b := c.Runner.BuildKit; b != "" && !strings.HasPrefix(b, "tcp://") && !strings.HasPrefix(b, "unix:///") {
		return fault.New(fault.Invalid, "runner.buildkit must be an address such as tcp://buildkit.internal:1234 or unix:///run/buildkit/buildkitd.sock, not %q.", b)
	}
	if c.Runner.Processes < 16 || c.Runner.Processes > 1<<20 {
		return fault.New(fault.Invalid, "runner.processes must be from 16 to 1048576, not %d.", c.Runner.Processes)
	}
	for name, days := range map[string]int{"logs": c.Keep.Logs, "artifacts": c.Keep.Artifacts, "releases": c.Keep.Releases} {
		if days < 1 || days > 36_500 {
			return fault.New(fault.Invalid, "keep.%s must be from 1 to 36500 days, not %d.", name, days)
		}
	}
	if c.Keep.Newest < 1 || c.Keep.Newest > 100_000 {
		return fault.New(fault.Invalid, "keep.newest_runs must be from 1 to 100000, not %d.", c.Keep.Newest)
	}
	if err := errors.Join(c.Registry.access().Check(), c.Registry.Keep.check()); err != nil {
		return err
	}
	if c.Registry.ScrubDays < 1 || c.Registry.ScrubDays > 3650 {
		return fault.New(fault.Invalid, "registry.scrub_days must be from 1 to 3650, not %d.", c.Registry.ScrubDays)
	}
	if c.Runner.Slots < 0 || c.Runner.Slots > 1024 {
		return fault.New(fault.Invalid, "runner.slots must be from 0 to 1024, not %d.", c.Runner.Slots)
	}
	return nil
}

// Explain documents one key of weir.yaml or, with the prefix "server.", of the
// configuration file.
func Explain(key string) (string, error) {
	d, ok := strict.Explain(catalog.Document{}, key)
	if !ok {
		d, ok = strict.Explain(Config{}, strings.TrimPrefix(key, "server."))
	}
	if !ok {
		return "", fault.New(fault.NotFound, "There is no key %s. `weir schema` lists all keys of weir.yaml; the keys of the configuration file stand in docs/reference/config.md.", key)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n  %s\n", d.Key, d.Type, d.Text)
	if d.Default != "" {
		fmt.Fprintf(&b, "  Default: %s\n", d.Default)
	}
	if len(d.Values) > 0 {
		fmt.Fprintf(&b, "  One of: %s\n", strings.Join(d.Values, ", "))
	}
	return b.String(), nil
}

// Schema is the JSON Schema of weir.yaml.
func Schema() map[string]any {
	return strict.Schema(catalog.Document{}, "https://weir.internal/schema/weir.yaml.json", "weir.yaml, version 1")
}

// Reference documents every key of v in Markdown.
func Reference(title string, v any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nGenerated from the code by `make generate`. NAME stands for a name of your choice.\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title)
	for _, d := range strict.Docs(v) {
		text := d.Text
		if len(d.Values) > 0 {
			text += " One of: " + strings.Join(d.Values, ", ") + "."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Key, d.Type, code(d.Default), text)
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Configure loads a file, lets flags change it, and fills in the rest.
func Configure(path string, flags func(*Config)) (Config, error) {
	c := Default()
	if path != "" {
		src, err := os.ReadFile(path)
		if err != nil {
			return c, fault.Wrap(fault.Invalid, err, "The configuration file %s cannot be read.", path)
		}
		if diags := strict.Decode(path, src, &c); len(diags) > 0 {
			return c, catalog.Refusal(diags)
		}
	}
	if flags != nil {
		flags(&c)
	}
	return c, c.finish()
}
