// Package build says what a landed revision must produce: for each service a
// version and the script of its release job.
//
// A revision gets one version per service, however often it is asked for, and
// two revisions never share one, also when the second lands before the first
// was tagged.
package build

import (
	"context"
	_ "embed"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Versions remembers which version was given to which revision.
type Versions interface {
	Given(ctx context.Context, serviceID string) (byRevision map[string]string, err error)
	Give(ctx context.Context, serviceID, revision string, choose func(taken int) string) (string, error)
}

// Planner implements pipeline.Builds.
type Planner struct {
	Catalog  artifact.Catalog
	Source   artifact.Source
	Versions Versions
}

var _ pipeline.Builds = Planner{}

// Plan lists the builds of a revision, one for each service that is built here.
func (p Planner) Plan(ctx context.Context, repositoryID, revision string) ([]pipeline.Build, error) {
	specs, err := p.Catalog.Specs(ctx, repositoryID, revision)
	if err != nil {
		return nil, fmt.Errorf("read services of %s at %s: %w", repositoryID, revision, err)
	}
	var tags []artifact.GitTag
	var builds []pipeline.Build
	for _, s := range specs {
		if !s.Built() {
			continue
		}
		if tags == nil {
			if tags, err = p.Source.Tags(ctx, repositoryID, revision); err != nil {
				return nil, fmt.Errorf("list tags that reach %s: %w", revision, err)
			}
		}
		v, err := p.version(ctx, repositoryID, revision, s, tags, len(specs) > 1)
		if err != nil {
			return nil, err
		}
		commit, err := p.Source.Commit(ctx, repositoryID, revision)
		if err != nil {
			return nil, fmt.Errorf("read commit %s: %w", revision, err)
		}
		b, err := Of(s, v, commit.Time)
		if err != nil {
			return nil, err
		}
		builds = append(builds, b)
	}
	return builds, nil
}

// Version is the version of a service at a revision, whoever builds it.
func (p Planner) Version(ctx context.Context, repositoryID, revision string, s artifact.Spec, several bool) (string, error) {
	tags, err := p.Source.Tags(ctx, repositoryID, revision)
	if err != nil {
		return "", fmt.Errorf("list tags that reach %s: %w", revision, err)
	}
	return p.version(ctx, repositoryID, revision, s, tags, several)
}

func (p Planner) version(ctx context.Context, repositoryID, revision string, s artifact.Spec, tags []artifact.GitTag, several bool) (string, error) {
	given, err := p.Versions.Given(ctx, s.ServiceID)
	if err != nil {
		return "", fmt.Errorf("list versions of %s: %w", s.Service, err)
	}
	if v := given[revision]; v != "" {
		return v, nil
	}
	next, tag := version.Base(tags, version.Prefix(s.Service, several))
	if next == "" || tag.Distance > 0 {
		commits, err := p.Source.Log(ctx, repositoryID, tag.Revision, revision)
		if err != nil {
			return "", fmt.Errorf("list commits of %s since %q: %w", s.Service, tag.Name, err)
		}
		next = version.Next(since(next, commits, given))
	}
	v, err := p.Versions.Give(ctx, s.ServiceID, revision, func(taken int) string {
		v := next
		for range taken {
			v = version.Bump(v, version.Patch)
		}
		return v
	})
	if err != nil {
		return "", fmt.Errorf("give %s a version: %w", s.Service, err)
	}
	return v, nil
}

// since lets a version that was given to an ancestor, whose tag is not set yet,
// count as a tag. commits are newest first.
func since(base string, commits []artifact.Commit, given map[string]string) (string, []artifact.Commit) {
	for i, c := range commits {
		if v := given[c.Revision]; v != "" {
			return v, commits[:i]
		}
	}
	return base, commits
}

// What a job runs. Names from the repository travel in the environment and are
// never pasted into a script.
const (
	goScript = `set -eu
out="$PWD/$WEIR_OUTPUT"
mkdir -p "$(dirname "$out")"
cd -- "./$WEIR_PATH"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$WEIR_VERSION" -o "$out" "$WEIR_PACKAGE"
`
	staticScript = `set -eu
out="$PWD/$WEIR_OUTPUT"
mkdir -p "$(dirname "$out")"
stage=$(mktemp -d)
printf '%s' "$WEIR_SERVER" > "$stage/main.go"
printf 'module site\n\ngo 1.24\n' > "$stage/go.mod"
(cd "$stage" && CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o "$stage/.weir-serve" .)
cd -- "./$WEIR_PATH"
tar --exclude=./.weir-serve -cf "$out" -C "$WEIR_FOLDER" .
tar -rf "$out" -C "$stage" .weir-serve
`
)

// siteServer is what serves a static service.
//
//go:embed site.go.txt
var siteServer string

// Of is the build of one service. commit is the revision's time, which tools that
// are asked for reproducible output take for now.
func Of(s artifact.Spec, version string, commit time.Time) (pipeline.Build, error) {
	dir, err := inside(s, "path", s.Path)
	if err != nil {
		return pipeline.Build{}, err
	}
	b := pipeline.Build{
		Network: s.Network,
		Job:     "release-" + s.Service, Service: s.Service, ServiceID: s.ServiceID, Version: version, Output: ".weir/out/" + s.Service,
		Env: map[string]string{"WEIR_PATH": dir, "WEIR_OUTPUT": ".weir/out/" + s.Service, "WEIR_VERSION": version,
			"SOURCE_DATE_EPOCH": strconv.FormatInt(commit.Unix(), 10)},
	}
	if s.Layout != "" {
		err := fromLayout(&b, s)
		return b, err
	}
	if s.Node != "" {
		err := fromNode(&b, s)
		return b, err
	}
	if s.Dockerfile != "" {
		err := fromDockerfile(&b, s)
		return b, err
	}
	if s.Go != "" {
		pkg, err := inside(s, "artifact.build.go", s.Go)
		if err != nil {
			return pipeline.Build{}, err
		}
		b.Script, b.Env["WEIR_PACKAGE"] = goScript, "./"+pkg
		return b, nil
	}
	folder, err := inside(s, "artifact.build.static", s.Static)
	if err != nil {
		return pipeline.Build{}, err
	}
	b.Script, b.Env["WEIR_FOLDER"], b.Env["WEIR_SERVER"] = staticScript, "./"+folder, siteServer
	return b, nil
}

// inside cleans a path that must not leave the repository.
func inside(s artifact.Spec, key, p string) (string, error) {
	clean := path.Clean("./" + p)
	if path.IsAbs(p) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(p, "\x00\n") {
		return "", fault.New(fault.Invalid, "%s of service %s is %q, which is not a path inside the repository", key, s.Service, p)
	}
	return clean, nil
}
