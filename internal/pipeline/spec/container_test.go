package spec_test

import (
	"slices"
	"strings"
	"testing"

	"weir/internal/pipeline/spec"
)

func TestContainersAreCheckedWhereTheyAreWritten(t *testing.T) {
	w, diags := spec.Parse("ci.yml", []byte(`on: push
jobs:
  A:
    runs-on: ubuntu-latest
    container:
      image: node:20
      volumes: [cache:/cache, ./data:/data]
      ports: [80]
    services:
      Db: {image: "postgres:16", ports: ["5432:5432", 6379], options: --health-cmd pg_isready, volumes: [/anonymous]}
    steps: [{run: "true"}]
`))
	if w == nil {
		t.Fatalf("refused: %v", diags)
	}
	j := w.Jobs[0]
	value := func(texts []spec.Text) (out []string) {
		for _, x := range texts {
			out = append(out, x.Value)
		}
		return out
	}
	if k := j.Container; !slices.Equal(value(k.Volumes), []string{"cache:/cache", "./data:/data"}) || !slices.Equal(value(k.Ports), []string{"80"}) {
		t.Errorf("container %+v", k)
	}
	if k := j.Services["db"]; !slices.Equal(value(k.Ports), []string{"5432:5432", "6379"}) || !slices.Equal(value(k.Volumes), []string{"/anonymous"}) {
		t.Errorf("service %+v", k)
	}
	_, diags = spec.Parse("ci.yml", []byte(`on: push
jobs:
  a:
    runs-on: ubuntu-latest
    container:
      image: Not a name
      options: --privileged
    services:
      db: {image: "x:1", ports: ["53/udp"], volumes: ["/etc:/host"]}
    steps:
      - uses: docker://No Image
`))
	var all []string
	for _, d := range diags {
		all = append(all, d.Message)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{`"Not a name" is no name of an image`, "--privileged", "over TCP only", "/etc:/host is a folder of the machine", `uses: "No Image" is no name`} {
		if !strings.Contains(text, want) {
			t.Errorf("no diagnostic says %q:\n%s", want, text)
		}
	}
}

func TestCancelTimeoutIsReadAndChecked(t *testing.T) {
	const file = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    cancel-timeout-minutes: X\n    steps: [{run: 'true'}]\n"
	w, diags := spec.Parse("ci.yml", []byte(strings.Replace(file, "X", "7.5", 1)))
	if w == nil || w.Jobs[0].CancelTimeout.Value != 7.5 || len(diags) > 0 {
		t.Errorf("%+v %v", w, diags)
	}
	if w, diags := spec.Parse("ci.yml", []byte(strings.Replace(file, "X", "soon", 1))); w != nil || !strings.Contains(diags[0].Message, `cancel-timeout-minutes is "soon"`) {
		t.Errorf("%v", diags)
	}
}

func TestToolsOfTheMachineAreNotChosenInAnImage(t *testing.T) {
	for src, refused := range map[string]bool{
		"container: base/go:1\n    steps: [{uses: actions/setup-go@v5, with: {go-version: '1.26'}}]":                          true,
		"container: '${{ github.ref }}'\n    steps: [{uses: actions/setup-go@v5, with: {go-version: '1.26'}}]":                false,
		"container: base/go:1\n    steps: [{uses: actions/setup-go@v5, if: github.ref == 'x', with: {go-version: '1.26'}}]":   false,
		"container: base/go:1\n    steps: [{uses: actions/checkout@v4}]":                                                      false,
		"steps: [{uses: actions/setup-go@v5, with: {go-version: '1.26'}}]":                                                    false,
		"container: base/go:1\n    steps: [{uses: actions/setup-go@v5, continue-on-error: true, with: {go-version: '1.26'}}]": false,
	} {
		_, diags := spec.Parse("ci.yml", []byte("on: push\njobs:\n  a:\n    runs-on: x\n    "+src+"\n"))
		said := false
		for _, d := range diags {
			said = said || strings.Contains(d.Message, "setup-go chooses among the machine's tools, and job a runs in the image base/go:1, which has its own.")
		}
		if said != refused {
			t.Errorf("%s: refused %v; want %v\n%+v", src, said, refused, diags)
		}
	}
}
