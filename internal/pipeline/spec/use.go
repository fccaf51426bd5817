package spec

import (
	"regexp"
	"strings"

	"github.com/rhysd/actionlint"

	"weir/internal/pipeline/container"
)

// Image is the scheme of a step that is a container.
const Image = "docker://"

var remote = regexp.MustCompile(`^[^/@\s$.][^/@]*/[^/@]+(/[^@]*)?@[^@\s]+$`)

// foreign reads a step whose action is not built in: a folder of the repository, an image, or an action of another repository.
func (c *checker) foreign(s *Step, e *actionlint.ExecAction) {
	s.Uses, s.With = e.Uses.Value, map[string]Text{}
	todo := "of actions it runs those that it has built in. Write the step as run: with the tool itself"
	switch {
	case strings.HasPrefix(s.Uses, "./"):
		if !Runs.Local {
			c.unsupported(e.Uses.Pos, "uses: "+s.Uses, todo)
		}
	case strings.HasPrefix(s.Uses, Image):
		if !Runs.Images {
			c.unsupported(e.Uses.Pos, "uses: "+s.Uses, todo)
		}
		container.Check(s.Uses, "", nil, nil, func(_, _ string, err error) { c.errorf(pos(e.Uses.Pos), "uses: %s", err) })
	case remote.MatchString(s.Uses) && !Runs.Mirrored:
		c.unsupported(e.Uses.Pos, "uses: "+s.Uses, todo)
	case !remote.MatchString(s.Uses):
		c.errorf(pos(e.Uses.Pos), "uses: %s is no action. Write ./folder, docker://image, or owner/name[/path]@revision", s.Uses)
	}
	for _, in := range e.Inputs {
		s.With[strings.ToLower(in.Name.Value)] = c.text(in.Value)
	}
	if e.Entrypoint != nil {
		s.With["entrypoint"] = c.text(e.Entrypoint)
	}
	if e.Args != nil {
		s.With["args"] = c.text(e.Args)
	}
}

var remoteWorkflow = regexp.MustCompile(`^[^/@\s$.][^/@\s]*/[^/@\s]+/[^@\s]+\.ya?ml@[^@\s]+$`)

// use reads a job that is another workflow.
func (c *checker) use(a *actionlint.WorkflowCall) *Use {
	u := &Use{Path: a.Uses.Value, With: map[string]Text{}, Secrets: map[string]Text{}, Inherit: a.InheritSecrets, Pos: pos(a.Uses.Pos)}
	if strings.Contains(u.Path, "${{") || !strings.HasPrefix(u.Path, "./") && !remoteWorkflow.MatchString(u.Path) {
		c.errorf(u.Pos, "uses: %s is no workflow. Write ./.github/workflows/file.yml, or owner/name/path/file.yml@revision", u.Path)
	}
	for _, in := range a.Inputs {
		u.With[strings.ToLower(in.Name.Value)] = c.text(in.Value)
	}
	for _, s := range a.Secrets {
		u.Secrets[s.Name.Value] = c.text(s.Value)
	}
	return u
}

func (c *checker) concurrency(a *actionlint.Concurrency) *Concurrency {
	if a == nil {
		return nil
	}
	return &Concurrency{Group: c.text(a.Group), Cancel: c.flag(a.CancelInProgress)}
}
