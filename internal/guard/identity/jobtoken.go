package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/id"
)

// JobClaim is what a job's token says: which attempt of which job holds it. What that attempt may do is decided by who reads the
// claim, and whether the attempt still runs is asked each time: a token dies with its job.
type JobClaim struct {
	RunID   string    `json:"run"`
	JobID   string    `json:"job"`
	Attempt int       `json:"attempt"`
	Expires time.Time `json:"exp"`
	// Grants is set on the token that the job's own code holds, as GITHUB_TOKEN: what the job's permissions: give it. The runner's
	// token, with which it fetches images and passes on requests, has none, and opens the registry alone.
	Grants *Grants `json:"grants,omitempty"`
}

// Grants are the scopes of a job's permissions, each read or write. They reach no further than the repository of the job.
type Grants map[string]string

// DefaultGrants are those of a workflow that says nothing. Writing packages reaches no further than the images of the job's own
// services, once its revision has landed.
var DefaultGrants = Grants{"contents": "read", "packages": "write", "metadata": "read"}

// ReadOnly is what is left of them for code that has not landed.
func (g Grants) ReadOnly() Grants {
	out := Grants{}
	for scope := range g {
		out[scope] = "read"
	}
	return out
}

// Roles are the names under which roles.cedar knows them; whoever may write may read.
func (g Grants) Roles() []string {
	var out []string
	for scope, word := range g {
		if word == "read" || word == "write" {
			out = append(out, scope+":read")
		}
		if word == "write" {
			out = append(out, scope+":write")
		}
	}
	slices.Sort(out)
	return out
}

const jobPrefix = "weirjob_"

// IsJobToken reports whether s has the form of a job's token.
func IsJobToken(s string) bool { return strings.HasPrefix(s, jobPrefix) }

// JobTokens makes and reads tokens of jobs. They are not stored: whoever has the key of the data folder can check them.
type JobTokens struct{ key []byte }

// OpenJobTokens reads the key at path, or makes one (mode 0600) if there is none.
func OpenJobTokens(path string) (JobTokens, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return JobTokens{}, err
		}
		made := path + "." + id.New("new")
		defer os.Remove(made)
		if err := os.WriteFile(made, key, 0o600); err != nil {
			return JobTokens{}, fmt.Errorf("write key of job tokens: %w", err)
		}
		if err = os.Link(made, path); errors.Is(err, fs.ErrExist) { // another replica was faster
			key, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return JobTokens{}, fmt.Errorf("key of job tokens: %w", err)
	}
	if len(key) != 32 {
		return JobTokens{}, fault.New(fault.Invalid, "%s is damaged: it has %d bytes, not 32. Remove it; jobs that run now then lose their access to the registry.", path, len(key))
	}
	return JobTokens{key}, nil
}

// Issue returns the token of a claim.
func (k JobTokens) Issue(c JobClaim) string {
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // Strings, a number and a time always encode.
	}
	body := base64.RawURLEncoding.EncodeToString(raw)
	return jobPrefix + body + "." + base64.RawURLEncoding.EncodeToString(k.mac(body))
}

// Read returns the claim of a token that this server has made and that has not expired.
func (k JobTokens) Read(token string, now time.Time) (JobClaim, error) {
	var c JobClaim
	body, mac, ok := strings.Cut(strings.TrimPrefix(token, jobPrefix), ".")
	sum, err := base64.RawURLEncoding.DecodeString(mac)
	if !IsJobToken(token) || !ok || err != nil || len(k.key) == 0 || !hmac.Equal(sum, k.mac(body)) {
		return c, fault.New(fault.Denied, "This is not a token of a job of this server.")
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, fault.New(fault.Denied, "This is not a token of a job of this server.")
	}
	if !now.Before(c.Expires) {
		return c, fault.New(fault.Denied, "The token of job %s has expired.", c.JobID)
	}
	return c, nil
}

// Derive returns a key for something else that all replicas must agree on.
func (k JobTokens) Derive(purpose string) []byte {
	m := hmac.New(sha256.New, k.key)
	m.Write([]byte("weir derived key 1\x00" + purpose))
	return m.Sum(nil)
}

func (k JobTokens) mac(body string) []byte {
	m := hmac.New(sha256.New, k.key)
	m.Write([]byte("weir job token 1\x00" + body))
	return m.Sum(nil)
}
