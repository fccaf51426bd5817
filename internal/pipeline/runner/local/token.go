package local

import (
	"fmt"
	"maps"
	"regexp"
	"strings"

	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/jobapi"
)

// A job's own token is github.token and secrets.GITHUB_TOKEN. It is good for what the job's permissions say, in its repository, while
// the job runs; the server decides. A job that cannot name it does not get it, and its log has nothing to hide.

// mayName is what a text has that could give the token: its name, or a look at a context that is not by a plain name.
var mayName = regexp.MustCompile(`(?i)token|tojson|join|\.\s*\*|\[`)

// namesToken reports whether something of the job could.
func (j *job) namesToken() bool {
	named := func(texts ...string) bool {
		for _, t := range texts {
			if mayName.MatchString(t) {
				return true
			}
		}
		return false
	}
	all := func(ms ...map[string]string) bool {
		for _, m := range ms {
			for _, t := range m {
				if named(t) {
					return true
				}
			}
		}
		return false
	}
	image := func(k pipeline.Container) bool {
		return all(k.Env) || named(k.Image, k.Options, k.Username, k.Password) || named(k.Ports...) || named(k.Volumes...)
	}
	p := &j.Plan
	if all(j.Env, p.Env, p.Outputs) || p.Container != nil && image(*p.Container) {
		return true
	}
	for _, k := range p.Services {
		if image(k) {
			return true
		}
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Uses != "" && builtins[s.Uses] == nil { // an action says in its own file what it looks at
			return true
		}
		if all(s.With, s.Env) || named(s.Name, s.If, s.Run, s.Shell, s.WorkingDirectory, s.ContinueOnError, s.TimeoutMinutes) {
			return true
		}
	}
	return false
}

// ownToken is the job's token if the job may name it.
func (j *job) ownToken() string {
	if j.named {
		return j.Token
	}
	return ""
}

// openAPI makes what the job finds at ACTIONS_RESULTS_URL.
func (j *job) openAPI() error {
	if j.api != nil {
		return nil
	}
	api, err := jobapi.New(j.host, string(j.RunID), string(j.JobID), j.dir+".api")
	if err != nil {
		return fmt.Errorf("open job API: %w", err)
	}
	j.api = api.WithRegistry(j.Registry).WithServer(jobapi.Server{URL: j.Registry.URL, Repository: j.Repository, Token: j.Token, Signed: &j.signed})
	return nil
}

// withToken puts the token where a step finds it.
func (j *job) withToken(github *expr.Object, secrets map[string]string, top bool) map[string]string {
	t := j.ownToken()
	if t == "" {
		return secrets
	}
	github.Set("token", t)
	if top && secrets["GITHUB_TOKEN"] == "" {
		secrets = maps.Clone(secrets)
		if secrets == nil {
			secrets = map[string]string{}
		}
		secrets["GITHUB_TOKEN"] = t
	}
	return secrets
}

// git is how git in a step finds the server, where the step's environment or script have the token also at addresses that carry it.
func (j *job) git(local string, env []map[string]string, script string) map[string]string {
	t := j.ownToken()
	shown := t != "" && strings.Contains(script, t)
	for _, m := range env {
		for _, v := range m {
			shown = shown || t != "" && strings.Contains(v, t)
		}
	}
	return j.api.Git(local, shown)
}
