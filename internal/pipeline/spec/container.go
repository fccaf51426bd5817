package spec

import (
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

// lists finds those of a job's container, or of its service.
func (c *checker) lists(job, service string) (l containerLists) {
	if c.written == nil {
		var file struct {
			Jobs map[string]struct {
				Container yaml.Node            `yaml:"container"`
				Services  map[string]yaml.Node `yaml:"services"`
			} `yaml:"jobs"`
		}
		c.written = map[[2]string]*yaml.Node{}
		if err := yaml.Unmarshal(c.content, &file); err != nil {
			return l // it was refused already
		}
		for id, j := range file.Jobs {
			c.written[[2]string{strings.ToLower(id), ""}] = &j.Container
			for name, n := range j.Services {
				c.written[[2]string{strings.ToLower(id), strings.ToLower(name)}] = &n
			}
		}
	}
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
