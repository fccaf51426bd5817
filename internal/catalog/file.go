package catalog

import (
	"fmt"
	"strconv"
	"strings"
)

// FileName is where a repository declares its services.
const FileName = "weir.yaml"

// TrunkName is the branch that changes land on. It is the same everywhere:
// which file holds the rules must not depend on the rules.
const TrunkName = "main"

// Document is weir.yaml as it is written. Keys come in the order of the five layers.
type Document struct {
	Weir       int                `yaml:"weir" doc:"Version of this file's format. 1 is the only one."`
	Repository RepositoryRules    `yaml:"repository" doc:"Rules of the repository. They are read from the target branch of a change, never from the change."`
	Services   map[string]Service `yaml:"services" doc:"The services of the repository, by name. A repository with one service may leave this level out."`
	Name       string             `yaml:"name" doc:"Name of the service, in the short form without services. The repository's name if absent."`
	Service    `yaml:",inline"`
}

// RepositoryRules guard changes to a repository.
type RepositoryRules struct {
	Trunk          string   `yaml:"trunk" doc:"The branch that changes land on." default:"main"`
	Reviews        Reviews  `yaml:"reviews" doc:"Who must have looked at a change."`
	SignedCommits  bool     `yaml:"signed_commits" doc:"Whether every commit must carry a signature by a registered key." default:"false"`
	RequiredChecks []string `yaml:"required_checks" doc:"Checks that must have passed on the very commit that lands, as WORKFLOW-FILE/JOB."`
}

// Reviews says who must have looked at a change.
type Reviews struct {
	Required   int  `yaml:"required" doc:"How many people other than the author must have approved the final patchset." default:"1"`
	CodeOwners bool `yaml:"code_owners" doc:"Whether the owners that CODEOWNERS names must be among them." default:"false"`
}

// Service is one deliverable of a repository.
type Service struct {
	Path         string                 `yaml:"path" doc:"Folder of the service in the repository." default:"."`
	Owner        string                 `yaml:"owner" doc:"The team that answers for the service."`
	Tier         int                    `yaml:"tier" doc:"How much depends on it: 1 is the most."`
	Pipeline     Pipeline               `yaml:"pipeline" doc:"Validation."`
	Artifact     Artifact               `yaml:"artifact" doc:"What is built, once, and how long it is kept."`
	Run          map[string]Workload    `yaml:"run" doc:"The processes of the service, by name."`
	Environments map[string]Environment `yaml:"environments" doc:"Where releases go, by name."`
}

// Pipeline says how changes to a service are validated.
type Pipeline struct {
	Workflows []string `yaml:"workflows" doc:"Workflow files that a release needs to have passed. All that ran, if absent."`
	Network   string   `yaml:"network" doc:"What the jobs of these workflows and the release job may reach besides the server's job API: none, or other machines as the runner allows it. The strictest service of a workflow counts; for a change, as the target branch says." enum:"egress,none" default:"egress"`
}

// Artifact says what is built.
type Artifact struct {
	Build           Build            `yaml:"build" doc:"How the artifact is made. Exactly one kind."`
	Version         string           `yaml:"version" doc:"How versions are found: semver counts up from git tags by conventional commits." enum:"semver" default:"semver"`
	Copies          []string         `yaml:"copies" doc:"Repositories in other registries that every admitted image is copied to by its digest, with all evidence, before it is deployed anywhere, such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop. The server's configuration names the registries."`
	Vulnerabilities *Vulnerabilities `yaml:"vulnerabilities" doc:"How vulnerable an image may be to be admitted at all. Also the limit of each environment that has none of its own."`
	Keep            Keep             `yaml:"keep" doc:"How long artifacts are kept; the longer of both wins."`
}

// Build names one kind of build.
type Build struct {
	Go         string `yaml:"go" doc:"Package to build as one static Go binary on an empty image, such as ./cmd/app."`
	Static     string `yaml:"static" doc:"Folder of files that are served as they are."`
	Node       string `yaml:"node" doc:"File that Node runs, such as server.js: the service with its packages and the Node of the runner become the image."`
	Layout     string `yaml:"layout" doc:"OCI image layout that becomes the image as it is: a folder, or a tar of one, such as out/image or image.tar."`
	Run        string `yaml:"run" doc:"Command that makes the layout, run by bash in the service's path. Only with layout; the layout is there already if absent."`
	From       string `yaml:"from" doc:"Artifact of the same run, kept by actions/upload-artifact, that holds the layout. Only with layout; the workspace if absent."`
	Dockerfile string `yaml:"dockerfile" doc:"Dockerfile that the image is built from, by buildah or BuildKit on the runner, such as Dockerfile."`
	Context    string `yaml:"context" doc:"Folder whose files the Dockerfile may copy. Only with dockerfile; the service's path if absent."`
	Target     string `yaml:"target" doc:"Stage of the Dockerfile that becomes the image. Only with dockerfile; the last one if absent."`
	External   string `yaml:"external" doc:"Repository of images that are built elsewhere and submitted with weir release submit, such as ghcr.io/acme/shop. Weir builds nothing then."`
}

// Keep says how long artifacts stay.
type Keep struct {
	AtLeastReleases int `yaml:"at_least_releases" doc:"Newest releases that are never removed." default:"10"`
	AtLeastDays     int `yaml:"at_least_days" doc:"Days during which no release is removed." default:"400"`
}

// Workload is one kind of process.
type Workload struct {
	Kind      string    `yaml:"kind" doc:"What sort of process it is. Only http runs for now; the others are refused by name." enum:"http,worker,cron,task,static"`
	Command   []string  `yaml:"command" doc:"Arguments of the process. The image's entrypoint if absent."`
	Port      int       `yaml:"port" doc:"Port the process listens on, inside a network of its own. Also in its PORT variable." default:"8080"`
	Ready     string    `yaml:"ready" doc:"Path that answers 200 once the process can take requests." default:"/readyz"`
	Live      string    `yaml:"live" doc:"Path that answers 200 while the process works. The ready path if absent."`
	Replicas  int       `yaml:"replicas" doc:"Processes of each release." default:"1"`
	Resources Resources `yaml:"resources" doc:"Limits of each process."`
	Drain     Duration  `yaml:"drain" doc:"How long a process that gets no new requests may finish those it has." default:"30s"`
	Network   string    `yaml:"network" doc:"Whether the process may reach other machines." enum:"egress,none" default:"egress"`
}

// Resources bounds a process.
type Resources struct {
	CPU    string `yaml:"cpu" doc:"Processors, such as 2 or 500m. Enforced where the host may make control groups; elsewhere its state says that it is not."`
	Memory Bytes  `yaml:"memory" doc:"Memory of the process and its children, such as 256Mi. Enforced as cpu is."`
}

// Processors is CPU as a number: 0.5 for 500m, 0 if absent.
func (r Resources) Processors() (float64, error) {
	text, unit := r.CPU, 1.0
	if t, ok := strings.CutSuffix(text, "m"); ok {
		text, unit = t, 1000
	}
	if r.CPU == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n/unit > 4096 {
		return 0, fmt.Errorf("cpu must be a number of processors such as 2, or thousandths such as 500m, not %q", r.CPU)
	}
	return n / unit, nil
}

// Environment is a place where releases run.
type Environment struct {
	Target    string            `yaml:"target" doc:"Where the environment lives, if in one place." default:"local"`
	Accept    []string          `yaml:"accept" doc:"Where the evidence of a release may come from besides Weir's own builds: observed (a builder's provenance that verified) or asserted (somebody's word, who submitted it)."`
	Targets   []string          `yaml:"targets" doc:"Where it lives, if in several places, in the order of waves."`
	Registry  string            `yaml:"registry" doc:"Repository in another registry that a release is copied to by its digest, with all evidence, and verified there, before its rollout begins, such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop. The server's configuration names the registry."`
	Config    map[string]string `yaml:"config" doc:"Environment variables of its processes. Their digest is part of the release."`
	Secrets   map[string]string `yaml:"secrets" doc:"Environment variables whose values are secret references."`
	After     map[string]After  `yaml:"after" doc:"Environments that a release must have been healthy in first."`
	Approvals Approvals         `yaml:"approvals" doc:"People who must agree, never the author of a change in the release."`
	Strategy  Strategy          `yaml:"strategy" doc:"How traffic moves to a release. Exactly one kind; rolling if absent."`
	SLO       SLO               `yaml:"slo" doc:"What the service promises there."`
	Recovery  Recovery          `yaml:"recovery" doc:"How fast it must be possible to go back."`
	// Vulnerabilities is the environment's own limit; see Declared.Limit.
	Vulnerabilities *Vulnerabilities `yaml:"vulnerabilities" doc:"How vulnerable a release may be to go there. The artifact's limit, if absent."`
}

// After says when an earlier environment counts as passed.
type After struct {
	HealthyFor Duration `yaml:"healthy_for" doc:"How long the release must have run there without failing." default:"0s"`
}

// Approvals says who must agree.
type Approvals struct {
	Count int    `yaml:"count" doc:"How many people." default:"0"`
	Group string `yaml:"group" doc:"The group they must be in. Anybody with the role approver, if absent."`
}

// Strategy names one way to move traffic.
type Strategy struct {
	Rolling *Rolling `yaml:"rolling" doc:"Processes are replaced by healthy new ones."`
	Canary  *Canary  `yaml:"canary" doc:"A growing share of requests goes to the release while it is compared with a fresh baseline."`
}

// Rolling replaces processes.
type Rolling struct {
	MaxUnavailable int `yaml:"max_unavailable" doc:"Processes that may be missing meanwhile." default:"0"`
}

// Canary moves traffic in steps.
type Canary struct {
	Steps       []Percent `yaml:"steps" doc:"Shares of traffic, growing, the last one 100%." default:"[5%, 25%, 50%, 100%]"`
	Bake        Duration  `yaml:"bake" doc:"The least time each step lasts." default:"10m"`
	IfUndecided string    `yaml:"if_undecided" doc:"What happens when the bake is over and too few requests were seen to tell." enum:"hold" default:"hold"`
	Detect      Percent   `yaml:"detect" doc:"The error rate that a step must have had a 90 % chance to notice before it may pass." default:"5%"`
}

// SLO is what a service promises.
type SLO struct {
	Window  Duration           `yaml:"window" doc:"Time over which the promise is counted." default:"30d"`
	Success Percent            `yaml:"success" doc:"Share of requests that must succeed."`
	Latency map[string]Latency `yaml:"latency" doc:"Time within which a share of requests must be answered, such as p99: 300ms."`
}

// Latency is a bound on the time of a quantile.
type Latency = Duration

// Recovery says how fast it must be possible to go back.
type Recovery struct {
	Objective Duration `yaml:"objective" doc:"The longest that a rollback may take." default:"60s"`
}
