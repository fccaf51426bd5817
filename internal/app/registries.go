package app

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	ecr "github.com/awslabs/amazon-ecr-credential-helper/ecr-login"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/build"
	"weir/internal/base/fault"
)

// ExternalRegistry is a registry beside Weir's own: where submitted images come from, and where copies of admitted ones go.
type ExternalRegistry struct {
	Host           string `yaml:"host" doc:"Its name, as images are written: ghcr.io, 123456789012.dkr.ecr.eu-west-1.amazonaws.com, registry.internal:5000."`
	Credentials    string `yaml:"credentials" doc:"Where credentials come from: docker is the configuration file of docker login and its helpers, ecr asks AWS for a token with the machine's own role or the AWS_* environment, file is the file below, none asks nobody." enum:"docker,ecr,file,none" default:"docker"`
	File           string `yaml:"file" doc:"File with USER:PASSWORD, for credentials: file. It is read at each use."`
	Insecure       bool   `yaml:"insecure" doc:"Speak plain HTTP." default:"false"`
	TrustedRoot    string `yaml:"trusted_root" doc:"A trusted_root.json: whose provenance of a submitted image counts as observed. Without it, or without such a provenance, it is asserted by whoever submits."`
	IdentityPrefix string `yaml:"identity_prefix" doc:"What the identity that signed such a provenance must begin with, such as https://weir.example.com/. Required with trusted_root."`
}

var registryHost = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`)

func checkRegistries(all []ExternalRegistry) error {
	seen := map[string]bool{}
	for _, r := range all {
		switch {
		case !registryHost.MatchString(r.Host):
			return fault.New(fault.Invalid, "registries: %q is not the name of a registry, such as ghcr.io or registry.internal:5000.", r.Host)
		case seen[r.Host]:
			return fault.New(fault.Invalid, "registries: %s is there twice.", r.Host)
		case (r.Credentials == "file") != (r.File != ""):
			return fault.New(fault.Invalid, "registries: %s needs file: with credentials: file, and only then.", r.Host)
		case (r.TrustedRoot == "") != (r.IdentityPrefix == ""):
			return fault.New(fault.Invalid, "registries: %s needs trusted_root and identity_prefix together: a root says which authority is trusted, the prefix whose builds.", r.Host)
		}
		seen[r.Host] = true
	}
	return nil
}

// externals are the registries that the configuration names.
type externals struct{ all []ExternalRegistry }

func (x externals) find(host string) (ExternalRegistry, error) {
	for _, r := range x.all {
		if r.Host == host {
			return r, nil
		}
	}
	return ExternalRegistry{}, fault.New(fault.Invalid, "The server's configuration does not name the registry %s. An admin can add it below registries: there.", host)
}

// options are how a registry is spoken with.
func (r ExternalRegistry) options(ctx context.Context) []remote.Option {
	out := []remote.Option{remote.WithContext(ctx), remote.WithUserAgent("weir/" + Release), remote.WithJobs(2)}
	switch r.Credentials {
	case "none":
		return append(out, remote.WithAuth(authn.Anonymous))
	case "ecr":
		return append(out, remote.WithAuthFromKeychain(ecrKeychain()))
	case "file":
		return append(out, remote.WithAuthFromKeychain(fileKeychain(r.File)))
	}
	return append(out, remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

func (r ExternalRegistry) nameOptions() []name.Option {
	if r.Insecure {
		return []name.Option{name.Insecure, name.StrictValidation}
	}
	return []name.Option{name.StrictValidation}
}

// fileKeychain reads USER:PASSWORD from a file.
type fileKeychain string

func (f fileKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	raw, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	user, password, ok := strings.Cut(strings.TrimSpace(string(raw)), ":")
	if !ok {
		return nil, fault.New(fault.Invalid, "%s must hold USER:PASSWORD in one line.", string(f))
	}
	return &authn.Basic{Username: user, Password: password}, nil
}

func basic(token string) authn.Authenticator { return &authn.Basic{Username: "weir", Password: token} }

// versions gives revisions their versions, and says what they must produce.
func (s *System) versions() build.Planner {
	return build.Planner{Catalog: specs{s.catalog}, Source: commits{s.source, s.git}, Versions: artifactdb.Versions{DB: s.db}}
}

// ecrKeychain asks AWS for tokens.
func ecrKeychain() authn.Keychain { return authn.NewKeychainFromHelper(ecr.NewECRHelper()) }
