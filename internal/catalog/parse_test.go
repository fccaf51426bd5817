package catalog_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/catalog"
)

const full = `weir: 1
repository:
  trunk: main
  reviews: {required: 1, code_owners: true}
  required_checks: [ci.yml/test]
services:
  checkout:
    path: services/checkout
    owner: team-payments
    artifact:
      build: {go: ./cmd/checkout}
    run:
      web: {kind: http, port: 8080, ready: /readyz, live: /healthz, resources: {cpu: 500m, memory: 256Mi}, drain: 5s}
    environments:
      production:
        targets: [local]
        after: {staging: {healthy_for: 30m}}
        approvals: {count: 1, group: release-managers}
        strategy:
          canary: {steps: [5%, 25%, 50%, 100%], bake: 10m, if_undecided: hold}
        slo: {window: 30d, success: 99.9%, latency: {p99: 300ms}}
      staging:
        target: local
        config: {LOG_LEVEL: debug}
        strategy: {rolling: {max_unavailable: 0}}
`

func TestADeclaredServiceHasItsDefaultsAndItsOrder(t *testing.T) {
	f, diags := catalog.Parse("weir.yaml", []byte(full), "repo")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	s := f.Services[0]
	if s.Name != "checkout" || strings.Join(s.Order, " ") != "staging production" {
		t.Errorf("service %s in order %v", s.Name, s.Order)
	}
	p := s.Environments["production"]
	if got := p.Strategy.Canary; got.Steps[1] != 0.25 || got.Bake.Std() != 10*time.Minute || got.Detect != 0.05 {
		t.Errorf("canary %+v", got)
	}
	if p.Recovery.Objective.Std() != time.Minute || s.Run["web"].Replicas != 1 || s.Artifact.Keep.AtLeastDays != 400 {
		t.Error("defaults are missing")
	}
	if a, b := s.ConfigDigest(), s.ConfigDigest(); a != b || !strings.HasPrefix(a, "sha256:") {
		t.Errorf("ConfigDigest() = %s, then %s", a, b)
	}
}

func TestOneServiceMayBeWrittenWithoutItsLevel(t *testing.T) {
	f, diags := catalog.Parse("weir.yaml", []byte("weir: 1\nartifact: {build: {go: .}}\nrun: {web: {port: 9000}}\nenvironments: {production: {}}\n"), "shop")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if s := f.Services[0]; s.Name != "shop" || s.Run["web"].Port != 9000 || s.Environments["production"].Strategy.Rolling == nil {
		t.Errorf("%+v", s)
	}
	if f.Repository.Reviews.Required != 1 {
		t.Error("a review is required unless the file says otherwise")
	}
}

func TestWrongFilesAreRefusedWithPlaceAndWayOut(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"weir: 1\nservcies: {}\n", `weir.yaml:2:1: unknown key "servcies"; did you mean "services"?`},
		{"weir: 1\nservices:\n  a:\n    run:\n      web: {prot: 80}\n", `weir.yaml:5:13: unknown key "prot" in services.a.run.web; did you mean "port"?`},
		{"weir: 2\n", "weir.yaml:1:1: weir must be 1, the version of this file's format"},
		{"weir: 1\nweir: 1\n", `weir.yaml:2:1: "weir" is given twice`},
		{"weir: 1\nrepository: {reviews: {required: many}}\n", `weir.yaml:2:34: required must be a whole number, not "many"`},
		{"weir: 1\nservices:\n  a: {environments: {p: {strategy: {canary: {steps: [5, 100%]}}}}}\n", `weir.yaml:3:54: steps[0]: "5" is not a share; write a number from 0 to 100 and a percent sign, such as 25%`},
		{"weir: 1\nservices:\n  a: {environments: {p: {strategy: {canary: {steps: [50%, 5%, 100%]}}}}}\n", "steps must grow"},
		{"weir: 1\nservices:\n  a: {environments: {p: {strategy: {canary: {steps: [75%, 100%]}}}}}\n", "leaves no room for a baseline"},
		{"weir: 1\nservices:\n  a: {environments: {p: {after: {q: {}}}}}\n", `there is no environment "q" to come after`},
		{"weir: 1\nservices:\n  a: {environments: {p: {after: {q: {}}}, q: {after: {p: {}}}}}\n", "waits for itself through after"},
		{"weir: 1\nservices:\n  a: {run: {mail: {kind: worker}}}\n", "workloads of kind worker are not run yet; only http is"},
		{"weir: 1\nservices:\n  a: {environments: {p: {target: \"kubernetes://x/y\"}}}\n", `target "kubernetes://x/y" is not supported; only local is for now`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {go: \"./x; rm -rf /\"}}}\n", "is not a path inside the service"},
		{"weir: 1\nservices:\n  a: {environments: {p: {registry: \"ghcr.io/acme/shop:latest\"}}}\n", `"ghcr.io/acme/shop:latest" is not a repository in a registry; write it without a tag, such as ghcr.io/acme/shop`},
		{"weir: 1\nservices:\n  a: {owner: TODO}\n", "weir.yaml:3:14: owner is still TODO; name the team that answers for the service"},
		{"weir: 1\nservices:\n  a: {run: {web: {port: TODO}}}\n", "weir.yaml:3:25: port is still TODO; write the port that the process listens on, such as 8080"},
		{"weir: 1\nservices:\n  a: {run: {web: {ready: TODO, live: TODO}}}\n", "weir.yaml:3:26: ready is still TODO; write a path that answers 200 once"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {go: TODO}}}\n", "go is still TODO; write its value, or remove the key"},
		{"weir: 1\nrepository: {required_checks: [TODO]}\n", "required_checks is still TODO; write its value"},
		{"weir: 1\nrepository: {trunk: develop}\n", `weir.yaml:2:14: the trunk is main; another name such as "develop" is not supported yet`},
		{"weir: 1\nrepository: {signed_commits: true}\n", "signatures of commits are not verified yet; remove this key"},
		{"weir: 1\nrepository: {reviews: {required: -1}}\n", "required cannot be negative"},
		{"weir: 1\nowner: x\nservices: {a: {}}\n", "cannot both stand at the top"},
		{"weir: 1\nservices:\n  a: {environments: {p: {secrets: {A: b}}}}\n", "secrets are not delivered to processes yet"},
		{"weir: 1\nservices:\n  a: {run: {web: {port: 99999}}}\n", "port must be from 1 to 65535, not 99999"},
		{"weir: 1\nservices:\n  a: {run: {web: {ready: readyz}}}\n", `ready must be a path that starts with /, not "readyz"`},
		{"weir: 1\nservices:\n  a: {run: {web: {replicas: 100}}}\n", "replicas must be from 1 to 64, not 100"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {go: ., static: public}}}\n", "build needs exactly one kind, not both go and static"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {layout: out, dockerfile: Dockerfile}}}\n", "build needs exactly one kind, not both layout and dockerfile"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {run: make}}}\n", "run belongs to layout; write the path of the image layout that it makes"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {go: ., context: x}}}\n", "context belongs to dockerfile"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {layout: out, run: make, from: x}}}\n", "run and from cannot both be given"},
		{"weir: 1\nservices:\n  a: {artifact: {build: {layout: out, from: a/b}}}\n", `"a/b" cannot name an artifact of a run`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {layout: /etc}}}\n", `"/etc" is not a path inside the service`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {dockerfile: ../Dockerfile}}}\n", `"../Dockerfile" is not a path inside the service`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {dockerfile: Dockerfile, target: a b}}}\n", `"a b" cannot name a stage of a Dockerfile`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {external: shop}}}\n", `"shop" is not a repository in a registry`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {external: \"ghcr.io/acme/shop:1\"}}}\n", "write it without a tag"},
		{"weir: 1\nservices:\n  a: {environments: {p: {accept: [anything]}}}\n", `accept takes observed and asserted, not "anything"`},
		{"weir: 1\nservices:\n  a: {artifact: {build: {go: cmd/app}}}\n", "go must be a package inside the service's path, such as ./cmd/app"},
		{"weir: 1\nservices:\n  a: {environments: {p: {target: local, targets: [local]}}}\n", "target and targets cannot both be given"},
		{"weir: 1\nservices:\n  a: {environments: {p: {strategy: {rolling: {}, canary: {}}}}}\n", "strategy needs exactly one kind, not both rolling and canary"},
		{"weir: 1\nservices:\n  a: {environments: {p: {strategy: {canary: {steps: [5%, 25%]}}}}}\n", "the last step must be 100%"},
		{"weir: 1\nservices:\n  a: {environments: {p: {approvals: {count: 99}}}}\n", "count must be from 0 to 20, not 99"},
		{"weir: 1\nservices:\n  A_b: {}\n", `"A_b" is not a service name: lower-case letters, digits and hyphens, at most 40`},
		{"weir: 1\nservices:\n  a: {environments: {P_1: {}}}\n", `"P_1" is not an environment name`},
		{"weir: 1\nservices:\n  a: {environments: {p: {recovery: {objective: soon}}}}\n", `objective: "soon" is not a span of time; write one such as 90s, 10m, 12h or 30d`},
		{"weir: 1\nservices:\n  a: {run: {web: {resources: {memory: lots}}}}\n", `"lots" is not an amount of memory; write one such as 256Mi or 1Gi`},
		{"weir: 1\nservices:\n  a: {path: ../x}\n", `path "../x" leaves the repository`},
		{"weir: 1\nservices:\n  a: {run: {web: {}, api: {}}}\n", "run has 2 workloads; only one is run yet"},
		{"weir: 1\n---\nweir: 1\n", "the file holds more than one YAML document"},
		{"weir: 1\nservices: [a]\n", "services must be a mapping of names to values, not a list"},
		{"weir: 1\nservices:\n  a: &x {}\n  b: *x\n", "anchors and aliases are not supported here"},
		{"weir: [\n", "not YAML"},
		{"", "the file is empty"},
	} {
		f, diags := catalog.Parse("weir.yaml", []byte(c.src), "repo")
		if f != nil || len(diags) == 0 || !strings.Contains(diags[0].String(), c.want) {
			t.Errorf("Parse(%q) = %v; want %q", c.src, diags, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Fuzz(func(t *testing.T, src string) {
		file, diags := catalog.Parse("weir.yaml", []byte(src), "repo")
		if (file == nil) != (len(diags) > 0) {
			t.Errorf("Parse() = %v, %v", file, diags)
		}
	})
}
