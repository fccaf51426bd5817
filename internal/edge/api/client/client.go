// Package client is the API from the other side: what the commands use.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/edge/api"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
)

// The wire types, for callers that may not see the API's own package.
type (
	Instance   = api.Instance
	Token      = api.Token
	Repository = api.Repository
	Change     = api.Change
	Run        = api.Run
	Job        = api.Job
	Wait       = api.Wait
	LogMatches = pipeline.LogMatches
	RunTests   = pipeline.RunTests
	Garbage    = pipeline.Garbage

	RegistryRepository = api.RegistryRepository
	RegistryManifest   = api.RegistryManifest
	RegistryGarbage    = api.RegistryGarbage
	RegistryScrub      = api.RegistryScrub

	TestResult      = pipeline.TestResult
	TestHistory     = api.TestHistory
	Artifact        = api.Artifact
	Component       = api.Component
	ComponentChange = api.ComponentChange
	ComponentUse    = api.ComponentUse
	AdvisoryState   = api.AdvisoryState
	Advisories      = api.VulnerabilityState
	Findings        = api.Findings
	Vulnerability   = api.Vulnerability
	ArtifactDetails = api.ArtifactDetails
	PolicyDecision  = policy.Decision
	Intake          = api.Intake
	ReleaseNotes    = api.ReleaseNotes
	Environment     = api.Environment
	Release         = api.Release
	Promotion       = api.Promotion
	Rollout         = api.Rollout
	Head            = api.Head
	Proof           = api.Proof
)

// Client talks to one server.
type Client struct {
	Server string // "http://127.0.0.1:7400"
	Token  string
	HTTP   *http.Client
}

// New returns a client.
func New(server, token string) *Client {
	return &Client{strings.TrimSuffix(server, "/"), token, &http.Client{Timeout: 60 * time.Second}}
}

// Get reads path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, nil, out)
}

// Post sends in (nil for nothing) and reads the answer into out (nil to drop it).
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.Do(ctx, http.MethodPost, path, in, out)
}

// Do calls one operation below /api/v1.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	res, err := c.send(ctx, method, path, body, c.HTTP)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(out); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The answer of %s could not be read. Is it a Weir server?", c.Server)
	}
	return nil
}

// Upload sends bytes as they are and reads the answer into out.
func (c *Client) Upload(ctx context.Context, path string, body io.Reader, out any) error {
	res, err := c.send(ctx, http.MethodPost, path, body, &http.Client{})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(out); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The answer of %s could not be read. Is it a Weir server?", c.Server)
	}
	return nil
}

// Stream opens an answer that may not end for a while. The caller closes it.
func (c *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodGet, path, nil, &http.Client{})
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader, via *http.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Server+"/api/v1"+path, body)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%q is not the address of a server.", c.Server)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	req.Header.Set("Weir-Api-Version", api.Version)
	res, err := via.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Wrap(fault.Unavailable, err, "No server answers at %s. Start one with `weir serve`, or name another with --server.", c.Server)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var p struct {
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err := json.Unmarshal(raw, &p); err != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("%s answered %s.", c.Server, res.Status)
	}
	for _, e := range p.Errors {
		p.Detail += fmt.Sprintf("\n  %s: %s", e.Location, e.Message)
	}
	return nil, fault.New(kindOf(res.StatusCode), "%s", p.Detail)
}

// kindOf is the reverse of the API's table.
func kindOf(status int) fault.Kind {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return fault.Invalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Denied
	}
	return fault.Unavailable
}

// ExitCode is the documented exit status of an error: 0 none, 1 internal,
// 3 not found, 4 conflict, 5 invalid, 6 denied, 7 unavailable. 2 is wrong usage.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return 130
	}
	switch fault.KindOf(err) {
	case fault.NotFound:
		return 3
	case fault.Conflict:
		return 4
	case fault.Invalid:
		return 5
	case fault.Denied:
		return 6
	case fault.Unavailable:
		return 7
	}
	return 1
}

// Sentence is what to print of an error. A command is run by the person who
// may see the cause, so internal errors are shown whole.
func Sentence(err error) string {
	if fault.KindOf(err) == "" {
		return err.Error()
	}
	s := fault.Sentence(err)
	if cause := errors.Unwrap(err); cause != nil && fault.KindOf(cause) == "" && fault.KindOf(err) == fault.Unavailable {
		s += " (" + cause.Error() + ")"
	}
	return s
}

// Escape makes a path element or query value of s.
func Escape(s string) string { return url.PathEscape(s) }

// NotFound, Conflict and Unavailable are errors that a command finds by itself.
func NotFound(sentence string, args ...any) error {
	return fault.New(fault.NotFound, sentence, args...)
}

// Invalid is an error that a command finds by itself.
func Invalid(sentence string, args ...any) error {
	return fault.New(fault.Invalid, sentence, args...)
}

// Conflict is an error that a command finds by itself.
func Conflict(sentence string, args ...any) error {
	return fault.New(fault.Conflict, sentence, args...)
}

// Unavailable is an error that a command finds by itself.
func Unavailable(sentence string, args ...any) error {
	return fault.New(fault.Unavailable, sentence, args...)
}
