package spec

import (
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v4"

	"weir/internal/pipeline/container"
)

// containerLists are ports: and volumes: of a container. actionlint reads volumes into the place of the ports (up to 1.7.12), so both
// are read from the file once more.
type containerLists struct {
	Ports   []yaml.Node `yaml:"ports"`
	Volumes []yaml.Node `yaml:"volumes"`
}

// read reads from the file what actionlint does not give, once.
func (c *checker) read() {
	if c.written != nil {
		return
	}
	var file struct {
		Jobs map[string]struct {
			Container yaml.Node            `yaml:"container"`
			Services  map[string]yaml.Node `yaml:"services"`
			Cancel    yaml.Node            `yaml:"cancel-timeout-minutes"`
		} `yaml:"jobs"`
	}
	c.written = map[[2]string]*yaml.Node{}
	if err := yaml.Unmarshal(c.content, &file); err != nil {
		return // it was refused already
	}
	for id, j := range file.Jobs {
		id = strings.ToLower(id)
		c.written[[2]string{id, ""}] = &j.Container
		c.written[[2]string{id, cancelKey}] = &j.Cancel
		for name, n := range j.Services {
			c.written[[2]string{id, strings.ToLower(name)}] = &n
		}
	}
}

// cancelKey is no name that a service could have.
const cancelKey = "cancel-timeout-minutes\x00"

// cancelTimeout is how long a job may clean up after it was cancelled; actionlint does not know the key.
func (c *checker) cancelTimeout(job string) Amount {
	c.read()
	n := c.written[[2]string{strings.ToLower(job), cancelKey}]
	if n == nil || n.Kind == 0 {
		return Amount{}
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	t := c.text(&actionlint.String{Value: n.Value, Pos: &actionlint.Pos{Line: n.Line, Col: n.Column}})
	if strings.Contains(n.Value, "${{") {
		return Amount{Set: true, Expr: t}
	}
	v, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || !(v > 0 && v < 1e6) {
		c.errorf(t.Pos, "cancel-timeout-minutes is %q; write a number above 0", n.Value)
		return Amount{}
	}
	return Amount{Set: true, Value: v}
}

// lists finds those of a job's container, or of its service.
func (c *checker) lists(job, service string) (l containerLists) {
	c.read()
	if n := c.written[[2]string{strings.ToLower(job), strings.ToLower(service)}]; n != nil {
		_ = n.Decode(&l) // an image alone has no lists
	}
	return l
}

func (c *checker) texts(nodes []yaml.Node) (out []Text) {
	for _, n := range nodes {
		if n.Kind == yaml.AliasNode && n.Alias != nil {
			n = *n.Alias
		}
		out = append(out, c.text(&actionlint.String{Value: n.Value, Pos: &actionlint.Pos{Line: n.Line, Col: n.Column}}))
	}
	return out
}

// container reads the container of a job, or one of its services.
func (c *checker) container(a *actionlint.Container, job, service string) *Container {
	if a == nil {
		return nil
	}
	k := &Container{Image: c.text(a.Image), Env: c.env(a.Env), Options: c.text(a.Options), Pos: pos(a.Pos)}
	l := c.lists(job, service)
	k.Ports, k.Volumes = c.texts(l.Ports), c.texts(l.Volumes)
	if x := a.Credentials; x != nil {
		if x.Expression != nil {
			c.unsupported(x.Expression.Pos, "credentials as one expression", "write username: and password:")
		}
		k.Username, k.Password = c.text(x.Username), c.text(x.Password)
	}
	at := map[string]Pos{"image": k.Image.Pos, "options": k.Options.Pos}
	container.Check(k.Image.Value, k.Options.Value, written(k.Ports), written(k.Volumes), func(key, text string, err error) {
		p, ok := at[key]
		for _, t := range append(k.Ports, k.Volumes...) {
			if !ok && t.Value == text {
				p = t.Pos
			}
		}
		if p.Line == 0 {
			p = k.Pos
		}
		c.errorf(p, "%s", strings.TrimSuffix(err.Error(), "."))
	})
	return k
}

func written(texts []Text) (out []string) {
	for _, t := range texts {
		out = append(out, t.Value)
	}
	return out
}
