// Command admission asks sigstore's policy-controller, as a library, whether it
// would let an image run: with a TrustRoot taken as its reconciler takes it, and
// a ClusterImagePolicy judged as its webhook judges it. Its own tester cannot
// read a trusted_root.json out of a TrustRoot.
//
//	admission TRUSTROOT.yaml POLICY.yaml IMAGE
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/policy-controller/pkg/apis/config"
	"github.com/sigstore/policy-controller/pkg/apis/policy/v1alpha1"
	"github.com/sigstore/policy-controller/pkg/policy"
	"github.com/sigstore/policy-controller/pkg/reconciler/trustroot"
	"github.com/sigstore/policy-controller/pkg/tuf"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := judge(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(ctx context.Context, rootFile, policyFile, image string) error {
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return err
	}
	root := &v1alpha1.TrustRoot{}
	if err := yaml.UnmarshalStrict(raw, root); err != nil {
		return err
	}
	if err := root.Validate(ctx); err != nil {
		return fmt.Errorf("trust root: %w", err)
	}
	r := root.Spec.Repository
	client, err := tuf.ClientFromSerializedMirror(ctx, r.MirrorFS, r.Root, r.Targets, v1alpha1.DefaultTUFRepoPrefix)
	if err != nil {
		return fmt.Errorf("trust root: %w", err)
	}
	keys, err := trustroot.GetSigstoreKeysFromTuf(ctx, client, r.TrustedRootTarget)
	if err != nil {
		return fmt.Errorf("trust root: %w", err)
	}
	known := config.FromContextOrDefaults(ctx)
	known.SigstoreKeysConfig = &config.SigstoreKeysMap{SigstoreKeys: map[string]*config.SigstoreKeys{root.Name: keys}}
	ctx = config.ToContext(ctx, known)

	v := policy.Verification{NoMatchPolicy: "deny", Policies: &[]policy.Source{{Path: policyFile}}}
	if err := v.Validate(ctx); err != nil {
		if bad := err.Filter(apis.ErrorLevel); bad != nil {
			return fmt.Errorf("policy: %w", bad)
		}
	}
	judge, err := policy.Compile(ctx, v, func(s string, args ...any) { fmt.Fprintf(os.Stderr, s+"\n", args...) })
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	return judge.Verify(ctx, ref, authn.DefaultKeychain)
}
