package rules_test

import (
	"strings"
	"testing"

	"weir/internal/guard/policy"
)

func TestWhatWeirDidNotBuildNeedsLeaveOfTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		origin string
		accept []string
		allow  bool
		want   string
	}{
		{"built", nil, true, "Weir built it."},
		{"asserted", nil, false, "1.1.0 was not built by Weir (it is asserted by ann), and production does not take that."},
		{"asserted", []string{"observed"}, false, "accept: [asserted] in the environment"},
		{"asserted", []string{"asserted"}, true, "production accepts it: it is asserted by ann."},
		{"observed", []string{"asserted"}, false, "the provenance of the builder ann verified"},
		{"observed", []string{"observed"}, true, "production accepts it"},
	} {
		f := promote()
		f.Origin, f.VouchedBy, f.Accept = c.origin, "ann", c.accept
		allow, results := decide(t, policy.ActionPromote, f, policy.Input{})
		said := ""
		for _, r := range results {
			if r.Rule == "release.origin" {
				said = r.Message
			}
		}
		if allow != c.allow || !strings.Contains(said, c.want) {
			t.Errorf("%s with accept %v: %v, %q; want %v, %q", c.origin, c.accept, allow, said, c.allow, c.want)
		}
	}
}

func TestASubmittedImageIsAdmittedWithoutARunButNotWithoutALanding(t *testing.T) {
	f := admit()
	f.Origin, f.VouchedBy, f.RunID, f.RunSucceeded, f.Confined = "asserted", "ann", "", false, false
	if allow, results := decide(t, policy.ActionAdmit, f, policy.Input{}); !allow {
		t.Errorf("admission of a submission: %+v", results)
	}
	f.Landed = false
	if allow, _ := decide(t, policy.ActionAdmit, f, policy.Input{}); allow {
		t.Error("an image for a revision that has not landed is admitted")
	}
	f.Landed, f.Origin = true, "built"
	if allow, _ := decide(t, policy.ActionAdmit, f, policy.Input{}); allow {
		t.Error("an image that claims to be built here is admitted without a run")
	}
}
