// Package kubepolicy writes policies for the admission controllers that a
// Kubernetes cluster may have already: sigstore's policy-controller and Kyverno.
// A policy lets an image of Weir's registry run only if it carries an admission
// (SLSA verification summary) that this installation's control plane signed for
// exactly that digest.
//
// One statement is enough, since Weir signs it only after it has verified
// signature, provenance, SBOM and test results. Both controllers check the
// predicate type, so an image that carries something else signed does not pass.
package kubepolicy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// Input is what a policy is made for.
type Input struct {
	Registry    string // HOST[:PORT], as pods name it
	TrustedRoot evidence.TrustedRoot
	Mirror      string // URL of the TUF repository; Kyverno only
}

var registryForm = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:\d{1,5})?(/[a-z0-9._/-]+)?$`)

func (in Input) check() error {
	if !registryForm.MatchString(in.Registry) {
		return fault.New(fault.Invalid, "%q is not the address of a registry as pods name it, such as weir.example.com or weir.example.com:7400", in.Registry)
	}
	if in.TrustedRoot.Issuer == "" {
		return fault.New(fault.Invalid, "the trusted root names no issuer; get it again with `weir audit trusted-root`")
	}
	return nil
}

type object = map[string]any

// PolicyController returns a TrustRoot and a ClusterImagePolicy for sigstore's
// policy-controller (v0.13 or newer).
func PolicyController(in Input, now time.Time) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	repository, err := NewRepository(in.TrustedRoot.JSON(), now)
	if err != nil {
		return nil, err
	}
	archive, err := repository.Archive()
	if err != nil {
		return nil, err
	}
	issuer := in.TrustedRoot.Issuer
	return documents("Only images that Weir admitted run. Label the namespaces it is for: policy.sigstore.dev/include=true",
		object{"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "TrustRoot", "metadata": object{"name": "weir"},
			"spec": object{"repository": object{"root": repository.Root, "mirrorFS": archive, "targets": "targets", "trustedRootTarget": "trusted_root.json"}}},
		object{"apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": object{"name": "weir-admitted"},
			"spec": object{"mode": "enforce", "images": []object{{"glob": in.Registry + "/**"}}, "authorities": []object{{
				"name": "weir", "signatureFormat": "bundle",
				// The address is only looked at for being there: certificates come from the trust root.
				"keyless":          object{"url": issuer, "trustRootRef": "weir", "identities": []object{{"issuer": issuer, "subject": issuer + "/control-plane"}}},
				"rfc3161timestamp": object{"trustRootRef": "weir"},
				"attestations": []object{{"name": "admission", "predicateType": evidence.Summary,
					"policy": object{"type": "cue", "data": "predicate: {\n\tverificationResult: \"PASSED\"\n}\n"}}},
			}}}},
	)
}

// Kyverno returns a ClusterPolicy for Kyverno (1.14 or newer), which takes the
// keys to trust from a TUF repository: WriteRepository makes its files.
func Kyverno(in Input) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.Mirror == "" {
		return nil, fault.New(fault.Invalid, "Kyverno takes the keys to trust from a TUF repository. Write one with `weir policy export tuf --output DIR`, let a web server serve it, and name its address with --mirror")
	}
	issuer := in.TrustedRoot.Issuer
	return documents("Only images that Weir admitted run. Start Kyverno's admission controller with\n--enableTuf=true --tufMirror="+in.Mirror+" --tufRoot="+strings.TrimRight(in.Mirror, "/")+"/root.json",
		object{"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": object{"name": "weir-admitted"},
			"spec": object{"background": false, "webhookConfiguration": object{"failurePolicy": "Fail", "timeoutSeconds": 15},
				"rules": []object{{"name": "admitted-by-weir", "match": object{"any": []object{{"resources": object{"kinds": []string{"Pod"}}}}},
					"verifyImages": []object{{"type": "SigstoreBundle", "imageReferences": []string{in.Registry + "/*"}, "failureAction": "Enforce",
						"required": true, "verifyDigest": true, "mutateDigest": true,
						"attestations": []object{{"type": evidence.Summary,
							"attestors":  []object{{"entries": []object{{"keyless": object{"issuer": issuer, "subject": issuer + "/control-plane"}}}}},
							"conditions": []object{{"all": []object{{"key": "{{ verificationResult }}", "operator": "Equals", "value": "PASSED"}}}},
						}},
					}},
				}}}},
	)
}

// documents writes objects as one YAML stream, with a comment first.
func documents(comment string, objects ...object) ([]byte, error) {
	var out bytes.Buffer
	for line := range strings.Lines(comment) {
		fmt.Fprintf(&out, "# %s\n", strings.TrimSpace(line))
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for _, o := range objects {
		if err := enc.Encode(plain(o)); err != nil {
			return nil, fmt.Errorf("write policy: %w", err)
		}
	}
	return out.Bytes(), enc.Close()
}

// plain gives bytes the form that Kubernetes expects of them: base64.
func plain(v any) any {
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case object:
		out := object{}
		for k, x := range v {
			out[k] = plain(x)
		}
		return out
	case []object:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = plain(x)
		}
		return out
	}
	return v
}
