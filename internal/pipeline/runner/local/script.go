package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/internal/base/confine"
	"weir/internal/pipeline"
	"weir/internal/pipeline/command"
	"weir/internal/pipeline/expr"
)

// systemPath is where tools are looked for, after what steps and setup-go put before it.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// passed are the variables of Weir's own environment that jobs get: where modules and packages come from. Nothing else is passed.
var passed = []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOFLAGS", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"}

// environment is everything that a process of step i gets.
func (j *job) environment(box *confine.Sandbox, fr *frame, id string, env map[string]string) []string {
	if j.main != nil {
		return j.contained(j.main, box, fr, id, env)
	}
	goPath := ""
	if root := j.toolchain(); root != "" {
		goPath = filepath.Join(root, "bin") + ":"
	}
	all := map[string]string{
		"PATH": strings.Join(append(slices.Clone(j.path), goPath+systemPath), ":"), "HOME": filepath.Join(j.dir, "home"), "TMPDIR": "/tmp", "LANG": "C.UTF-8",
		"USER": "runner", "LOGNAME": "runner", "SHELL": "/bin/sh",
		"GOCACHE": filepath.Join(j.cache, "go-build"), "GOMODCACHE": filepath.Join(j.cache, "mod"), "GOPATH": filepath.Join(j.dir, "home", "go"), "GOTOOLCHAIN": "local",
		"GOTELEMETRY": "off", "npm_config_cache": filepath.Join(j.cache, "npm"), "XDG_CACHE_HOME": filepath.Join(j.cache, "xdg"),
	}
	maps.Copy(all, j.common(box, fr))
	if j.goroot != "" {
		all["GOROOT"] = j.goroot
	}
	j.overlay(all, fr, id, env)
	return listed(all)
}

// common is what every process of a job gets, wherever it runs.
func (j *job) common(box *confine.Sandbox, fr *frame) map[string]string {
	all := map[string]string{
		"CI": "true", "RUNNER_OS": "Linux", "RUNNER_ARCH": arch(), "RUNNER_NAME": "local", "RUNNER_TEMP": j.temp(), "RUNNER_TOOL_CACHE": j.tools(), "RUNNER_ENVIRONMENT": "self-hosted",
		"GITHUB_ACTIONS": "true", "WEIR": "true", "GITHUB_WORKSPACE": j.workspace(), "GITHUB_JOB": j.Plan.JobID, "GITHUB_RUN_ID": string(j.RunID),
		"GITHUB_RUN_ATTEMPT": fmt.Sprint(j.Attempt), "GITHUB_SHA": j.Revision, "GITHUB_EVENT_PATH": j.seen("run/event.json"), "GITHUB_REPOSITORY": j.Repository,
	}
	for _, k := range []string{"ref", "ref_name", "ref_type", "event_name", "actor", "workflow", "head_ref", "base_ref", "server_url", "api_url", "repository_owner", "run_number"} {
		if v, ok := j.GitHub[k].(string); ok {
			all["GITHUB_"+strings.ToUpper(k)] = v
		}
	}
	for _, k := range passed {
		if v, ok := os.LookupEnv(k); ok {
			all[k] = v
		}
	}
	for _, kv := range box.Env() {
		k, v, _ := strings.Cut(kv, "=")
		all[k] = v
	}
	maps.Copy(all, j.api.Env(box.LocalURL()))
	if fr.action != "" {
		all["GITHUB_ACTION_PATH"] = fr.action
	}
	return all
}

// overlay puts over it what the workflow, the job and the step say, and the files of the step.
func (j *job) overlay(all map[string]string, fr *frame, id string, env map[string]string) {
	maps.Copy(all, j.git(strings.TrimSuffix(all["ACTIONS_RESULTS_URL"], "/"), []map[string]string{j.env, fr.env, env}, j.running))
	maps.Copy(all, j.env)
	maps.Copy(all, fr.env)
	maps.Copy(all, env)
	for _, f := range files {
		all[f.variable] = j.fileOf(f.name, id)
	}
}

// listed is an environment as processes get it.
func listed(all map[string]string) []string {
	out := make([]string, 0, len(all))
	for k, v := range all {
		if k != "" && !strings.ContainsAny(k, "=\x00") && !strings.Contains(v, "\x00") {
			out = append(out, k+"="+v)
		}
	}
	slices.Sort(out)
	return out
}

// script runs a run: step.
func (j *job) script(ctx context.Context, p *pipeline.StepPlan, fr *frame, number int, env map[string]string, c *expr.Object, outputs map[string]string) error {
	text, err := expr.Interpolate(p.Run, j.expressions(fr, c))
	if err != nil {
		return failure("its script could not be filled in: " + err.Error())
	}
	wd, err := expr.Interpolate(p.WorkingDirectory, j.expressions(fr, c))
	if err != nil {
		return failure("its working-directory could not be computed: " + err.Error())
	}
	dir := j.workspace()
	if filepath.IsAbs(wd) {
		dir = filepath.Clean(wd)
	} else {
		dir = filepath.Join(dir, wd)
	}
	shell, err := expr.Interpolate(p.Shell, j.expressions(fr, c))
	if err != nil {
		return failure("its shell could not be computed: " + err.Error())
	}
	j.running = text
	defer func() { j.running = "" }()
	id := j.next()
	if shell == "" && j.main != nil { // as GitHub does: not every image has bash
		shell = "sh"
	}
	argv, ext, err := shellCommand(shell)
	if err != nil {
		return err
	}
	script := "run/step" + id + ext
	if err := j.write(script, []byte(text)); err != nil {
		return err
	}
	return j.process(ctx, fr, process{id: id, number: number, argv: shellArgs(argv, j.seen(script)), dir: dir, env: env}, outputs, nil)
}

// next names the files of what runs now.
func (j *job) next() string {
	j.serial++
	return strconv.Itoa(j.serial)
}

// process is one program that a step runs in the sandbox.
type process struct {
	id     string
	number int // of the step
	argv   []string
	dir    string
	env    map[string]string
	at     *place // a container other than the job's
}

// process runs a program and takes over what it leaves for the steps after it: outputs, and state for its own post step.
func (j *job) process(ctx context.Context, fr *frame, p process, outputs, state map[string]string) error {
	box, err := j.sandbox(ctx)
	if err != nil {
		return err
	}
	if !j.told { // the event does not change: one file for all steps
		j.told = true
		b, err := json.Marshal(j.GitHub["event"])
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		if err := j.write("run/event.json", b); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := j.write("run/"+f.name+p.id, nil); err != nil {
			return err
		}
		if p.at != nil {
			j.give("run/"+f.name+p.id, p.at.user)
		}
	}
	out := command.New(&j.commands, j.log, p.number)
	out.Set = func(kind, name, value string) {
		switch {
		case kind == "output":
			outputs[name] = value
		case kind == "state" && state != nil:
			state[name] = value
		}
	}
	cmd := confine.Cmd{Argv: p.argv, Dir: p.dir, Stdout: out, Stderr: out}
	switch {
	case p.at != nil:
		box, cmd.User, cmd.Env = p.at.box, p.at.user, j.contained(p.at, p.at.box, fr, p.id, p.env)
	case j.main != nil:
		cmd.User = j.main.user
		fallthrough
	default:
		cmd.Env = j.environment(box, fr, p.id, p.env)
	}
	exit, err := j.exec(ctx, box, cmd)
	out.Close()
	if err != nil {
		return err
	}
	if err := j.collect(p.id, outputs, state); err != nil {
		return err
	}
	if exit.Success() {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	reason := fmt.Sprintf("exit code %d", exit.Code)
	if exit.Signal != "" {
		reason = "killed by " + exit.Signal
	}
	if out.Missing != "" && exit.Code == 127 {
		reason = missing(out.Missing)
		if img := j.imageOf(box); img != "" {
			reason = fmt.Sprintf("the image %s has no %s", img, out.Missing)
		}
	}
	if why := box.Exceeded(); why != "" {
		reason += ": " + why
	}
	return failure(reason)
}

// exec starts a command in the sandbox and waits for it, or kills it when ctx ends.
func (j *job) exec(ctx context.Context, box *confine.Sandbox, cmd confine.Cmd) (confine.Exit, error) {
	if ctx.Err() != nil {
		return confine.Exit{}, ctx.Err()
	}
	proc, err := box.Start(cmd)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if rel, ok := j.rel(cmd.Dir); ok && !j.there(rel) {
			return confine.Exit{}, failure(fmt.Sprintf("its working directory %s does not exist; check it out or make it in an earlier step", strings.TrimPrefix(cmd.Dir, j.workspace()+"/")))
		}
		if img := j.imageOf(box); img != "" {
			return confine.Exit{}, failure(fmt.Sprintf("the image %s has no %s, or no folder %s", img, cmd.Argv[0], cmd.Dir))
		}
		return confine.Exit{}, failure(missing(cmd.Argv[0]))
	case errors.Is(err, syscall.EAGAIN): // what earlier steps started has taken all that there may be
		why := box.Exceeded()
		if why == "" {
			why = "processes that earlier steps left have taken all that there may be"
		}
		return confine.Exit{}, failure(cmd.Argv[0] + " could not be started: " + why)
	case err != nil:
		if over := j.overran(box); over != nil {
			return confine.Exit{}, over
		}
		return confine.Exit{}, fmt.Errorf("start %s: %w", cmd.Argv[0], err)
	}
	defer j.stop(ctx, proc)()
	exit, err := proc.Wait()
	if err != nil && ctx.Err() == nil {
		if over := j.overran(box); over != nil {
			return exit, over
		}
		return exit, fmt.Errorf("wait for %s: %w", cmd.Argv[0], err)
	}
	return exit, nil
}

// overran ends the job whose sandbox died of what its processes did: where they leave no room for a thread, its init dies as well.
// That is the job's failure, and no runner was lost. It returns nil if the sandbox lives or ran into no limit.
func (j *job) overran(box *confine.Sandbox) error {
	select {
	case <-box.Gone():
	case <-time.After(time.Second):
		return nil
	}
	why := box.Exceeded()
	if why == "" && j.imageOf(box) != "" {
		// The runtime may have removed the container's control group, and with it the count, before it could be read.
		why = fmt.Sprintf("the first process of its container died, as it does where there are to be more than %d processes and threads, or memory runs out", cmp.Or(j.runner.cfg.Limits.Processes, 4096))
	}
	if why == "" {
		return nil
	}
	j.runner.mu.Lock()
	kill := j.runner.jobs[j]
	j.runner.mu.Unlock()
	if kill != nil {
		kill(overrun("everything in its sandbox was ended: " + why))
	}
	return context.Cause(j.hard)
}

// shellCommand is the shell's command line, as GitHub's runner calls it.
func shellCommand(shell string) (argv []string, ext string, err error) {
	switch shell {
	case "":
		return []string{"bash", "-e"}, ".sh", nil
	case "bash":
		return []string{"bash", "--noprofile", "--norc", "-eo", "pipefail"}, ".sh", nil
	case "sh":
		return []string{"sh", "-e"}, ".sh", nil
	case "python":
		return []string{"python3"}, ".py", nil
	case "pwsh":
		return []string{"pwsh", "-NoLogo", "-NonInteractive", "-File"}, ".ps1", nil
	}
	if argv := strings.Fields(shell); slices.Contains(argv, "{0}") { // a command line of the user's own, as GitHub documents it
		return argv, "", nil
	}
	return nil, "", failure(fmt.Sprintf("shell: %s is not known: use bash, sh, python, pwsh, or a command with {0} where the script's file goes", shell))
}

// shellArgs puts the script's file where the shell wants it.
func shellArgs(argv []string, script string) []string {
	out, placed := make([]string, 0, len(argv)+1), false
	for _, a := range argv {
		placed = placed || strings.Contains(a, "{0}")
		out = append(out, strings.ReplaceAll(a, "{0}", script))
	}
	if !placed {
		out = append(out, script)
	}
	return out
}

// release hands over what a release job built.
func (j *job) release(ctx context.Context, started time.Time) error {
	b := j.Plan.Build
	f, err := j.open(filepath.Join("workspace", filepath.FromSlash(b.Output)))
	if err != nil {
		return failureFault("The job built no file %s in its workspace (%v). The build of service %s must leave it there.", b.Output, err, b.Service)
	}
	defer f.Close()
	return j.host.Output(ctx, j.output(started), f)
}
