package identity_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func TestJobTokenSaysWhoseItIsAndCannotBeMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.key")
	keys, err := identity.OpenJobTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	claim := identity.JobClaim{RunID: "run_1", JobID: "job_1", Attempt: 2, Expires: now.Add(time.Hour)}
	token := keys.Issue(claim)
	again, err := identity.OpenJobTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Read(token, now); err != nil || got != claim {
		t.Errorf("Read() = %+v, %v; want %+v", got, err, claim)
	}
	if _, err := keys.Read(token, now.Add(time.Hour)); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "has expired") {
		t.Errorf("expired: %v", err)
	}
	other, err := identity.OpenJobTokens(filepath.Join(t.TempDir(), "job.key"))
	if err != nil {
		t.Fatal(err)
	}
	body, mac, _ := strings.Cut(token, ".")
	forged := other.Issue(identity.JobClaim{RunID: "run_1", JobID: "job_9", Attempt: 1, Expires: now.Add(time.Hour)})
	forgedBody, _, _ := strings.Cut(forged, ".")
	for what, bad := range map[string]string{"other server": forged, "changed claim": forgedBody + "." + mac, "no mac": body, "empty mac": body + ".", "not one": "weir_x", "cut": token[:len(token)-2]} {
		if _, err := keys.Read(bad, now); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "not a token of a job of this server") {
			t.Errorf("%s: %v; want refused", what, err)
		}
	}
	if _, err := (identity.JobTokens{}).Read(identity.JobTokens{}.Issue(claim), now); err == nil {
		t.Error("a token without a key was taken")
	}
}
