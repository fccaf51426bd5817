package gitd_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/edge/gitd"
	"weir/internal/guard/identity"
	"weir/internal/source/sourcetest"
)

func TestMain(m *testing.M) { os.Exit(sourcetest.Main(m)) }

func landed(t *testing.T) (*sourcetest.World, *sourcetest.Work, string) {
	t.Helper()
	w := sourcetest.New(t, dbtest.SQLite(t))
	ann := w.Work(t, "ann")
	rev := ann.Commit("first", "a.txt", "1\n")
	ann.Git("push", "--quiet", "origin", "main")
	return w, ann, rev
}

func TestPushCloneAndFetchWithTheRealGit(t *testing.T) {
	w, ann, first := landed(t)
	ben := w.Work(t, "ben")
	clone := filepath.Join(t.TempDir(), "shop")
	ben.Git("clone", "--quiet", w.Remote("ben"), clone)
	if got := ben.Git("-C", clone, "rev-parse", "HEAD"); got != first {
		t.Errorf("cloned %s; want %s", got, first)
	}
	second := ann.Commit("second", "b.txt", strings.Repeat("line\n", 5000))
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	for _, version := range []string{"0", "1", "2"} {
		ben.Git("-C", clone, "-c", "protocol.version="+version, "fetch", "--quiet", "origin", "topic")
		if got := ben.Git("-C", clone, "rev-parse", "FETCH_HEAD"); got != second {
			t.Errorf("protocol %s fetched %s; want %s", version, got, second)
		}
	}
	shallow := filepath.Join(t.TempDir(), "shallow")
	ben.Git("clone", "--quiet", "--depth=1", "--branch=topic", w.Remote("ben"), shallow)
	if got := ben.Git("-C", shallow, "rev-list", "--count", "HEAD"); got != "1" {
		t.Errorf("a shallow clone has %s commits; want 1", got)
	}
	ben.Git("clone", "--quiet", "--filter=blob:none", w.Remote("ben"), filepath.Join(t.TempDir(), "partial"))
	ann.Git("push", "--quiet", "origin", ":topic")
	if out := ben.Git("ls-remote", "origin"); strings.Contains(out, "topic") {
		t.Errorf("topic is still there: %s", out)
	}
}

func TestWhoIsNotLetInIsToldWhy(t *testing.T) {
	w, ann, _ := landed(t)
	old, err := w.Accounts.Token(identity.With(t.Context(), identity.System("test")), "ann", "old", time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	url := func(token string) string {
		return strings.Replace(w.URL, "://", "://ann:"+token+"@", 1) + "/git/shop.git"
	}
	for token, want := range map[string]string{
		old:                       "This token expired on",
		"password":                "That is not a Weir token: it should start with weir_",
		old[:len(old)-4] + "AAAA": "token",
	} {
		out, err := ann.Try("ls-remote", url(token))
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("ls-remote = %v\n%s\nwant %q", err, out, want)
		}
		if _, err := ann.Try("push", url(token), "HEAD:refs/heads/x"); err == nil {
			t.Error("push was accepted")
		}
	}
	out, err := ann.Try("ls-remote", w.URL+"/git/shop.git")
	if err == nil {
		t.Errorf("nobody was let in: %s", out)
	}
	ann.Refused("There is no repository other.", "ls-remote", strings.Replace(w.Remote("ann"), "shop", "other", 1))
	ops := w.Work(t, "ops")
	ops.Commit("first", "a.txt", "1\n")
	ops.Refused("may not do this: repository.push", "push", w.Remote("ops"), "HEAD:refs/heads/x")
}

func TestAPushOverTheLimitIsRefusedWithASentenceAndKeepsNothing(t *testing.T) {
	w, ann, _ := landed(t)
	big := make([]byte, 6<<20)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}
	ann.Commit("big", "big.bin", string(big))
	for _, buffer := range []string{"1m", "100m"} { // in chunks, and with a length
		ann.Refused("This push is larger than the limit of 4 MiB. Push in smaller steps, and keep large files out of git.", "-c", "http.postBuffer="+buffer, "push", "origin", "HEAD:refs/heads/big")
	}
	if head, err := w.Source.Head(t.Context(), w.Repo.ID, "big"); err != nil || head != "" {
		t.Errorf("big is %q, %v", head, err)
	}
	ann.Git("reset", "--quiet", "--hard", "HEAD^")
	ann.Commit("small", "a.txt", "2\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/small")
}

func TestAFullDiskRefusesPushesAndStillLetsFetch(t *testing.T) {
	w, ann, _ := landed(t)
	ann.Commit("second", "a.txt", "2\n")
	w.Fill(fault.New(fault.Unavailable, "The disk of the data folder is nearly full."))
	ann.Refused("The disk of the data folder is nearly full.", "push", "origin", "HEAD:refs/heads/topic")
	ann.Git("fetch", "--quiet", "origin")
	w.Fill(nil)
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
}

func get(t *testing.T, w *sourcetest.World, method, path, contentType string, body []byte, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.URL+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path // As it is, not cleaned.
	req.SetBasicAuth("ann", w.Token("ann"))
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestOnlyTheSmartProtocolAndNoOtherPathIsServed(t *testing.T) {
	w, _, _ := landed(t)
	for path, want := range map[string]int{
		"/git/shop.git/info/refs":                                  http.StatusForbidden, // the dumb protocol
		"/git/shop.git/info/refs?service=git-upload-archive":       http.StatusForbidden,
		"/git/shop.git/git-upload-pack":                            http.StatusForbidden,
		"/git/shop.git/HEAD":                                       http.StatusNotFound,
		"/git/shop.git/objects/info/packs":                         http.StatusNotFound,
		"/git/shop.git/config":                                     http.StatusNotFound,
		"/git/../../etc/passwd":                                    http.StatusNotFound,
		"/git/..%2f..%2fetc.git/info/refs?service=git-upload-pack": http.StatusNotFound,
		"/git/shop.git/../shop.git/info/refs":                      http.StatusNotFound,
		"/git/SHOP.git/info/refs?service=git-upload-pack":          http.StatusNotFound,
		"/git/shop/info/refs?service=git-upload-pack":              http.StatusNotFound,
	} {
		if got, body := get(t, w, "GET", path, "", nil); got != want || !strings.Contains(body, "smart protocol") && !strings.Contains(body, "smart HTTP protocol") {
			t.Errorf("GET %s = %d %q; want %d", path, got, body, want)
		}
	}
}

func TestACompressedBodyIsUnpackedAndBounded(t *testing.T) {
	w, _, rev := landed(t)
	want := "0032want " + rev + "\n00000009done\n"
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = io.WriteString(zw, want)
	zw.Close()
	status, body := get(t, w, "POST", "/git/shop.git/git-upload-pack", "application/x-git-upload-pack-request", z.Bytes(), "Content-Encoding", "gzip")
	if status != http.StatusOK || !strings.Contains(body, "PACK") {
		t.Errorf("compressed request = %d, %d bytes", status, len(body))
	}
	for _, service := range []string{"git-upload-pack", "git-receive-pack"} {
		if status, body := get(t, w, "POST", "/git/shop.git/"+service, "application/x-"+service+"-request", []byte("not gzip"), "Content-Encoding", "gzip"); status != http.StatusBadRequest || !strings.Contains(body, "is not gzip") {
			t.Errorf("%s of a body that is not gzip = %d %q", service, status, body)
		}
	}
	// A bomb: 64 MiB of one command line's worth of nothing, in 64 KiB.
	var bomb bytes.Buffer
	zw = gzip.NewWriter(&bomb)
	_, _ = zw.Write(make([]byte, 64<<20))
	zw.Close()
	status, body = get(t, w, "POST", "/git/shop.git/git-receive-pack", "application/x-git-receive-pack-request", bomb.Bytes(), "Content-Encoding", "gzip")
	if status != http.StatusOK || !strings.Contains(body, "unpack too large") {
		t.Errorf("bomb = %d %.100q", status, body)
	}
}

func TestASlowPushHoldsUpNobody(t *testing.T) {
	w, ann, _ := landed(t)
	slow, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", w.URL+"/git/shop.git/git-receive-pack", slow)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("kim", w.Token("kim"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	if _, err := io.WriteString(out, "0094"); err != nil { // It has begun, and does not go on.
		t.Fatal(err)
	}
	ann.Commit("second", "a.txt", "2\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	ann.Git("fetch", "--quiet", "origin")
	out.CloseWithError(io.ErrUnexpectedEOF)
	<-ended
}

func TestAHookThatNobodyAskedForIsRefused(t *testing.T) {
	w, _, _ := landed(t)
	for name, question := range map[string]map[string]any{
		"unknown token": {"token": "x", "updates": []map[string]string{{"Ref": "refs/heads/main"}}},
		"no token":      {},
	} {
		conn, err := net.Dial("unix", w.Handler.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(conn).Encode(question); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			OK    bool
			Lines []string
		}
		if err := json.NewDecoder(conn).Decode(&answer); err != nil || answer.OK || !strings.Contains(strings.Join(answer.Lines, ""), "This push is not known to the server. Push again.") {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
		conn.Close()
	}
}

func TestAHookWithoutItsServerRefuses(t *testing.T) {
	t.Setenv("WEIR_HOOK_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	var says bytes.Buffer
	if code := gitd.Hook(strings.NewReader("a b refs/heads/x\n"), &says); code == 0 || !strings.Contains(says.String(), "The server stopped while judging this push; nothing was accepted. Push again.") {
		t.Errorf("Hook() = %d, %q", code, says.String())
	}
	if code := gitd.Hook(strings.NewReader("nonsense\n"), &says); code == 0 || !strings.Contains(says.String(), "The push could not be read.") {
		t.Errorf("Hook() = %d, %q", code, says.String())
	}
}

func TestRepositoryHooksAndConfigurationOfTheMachineAreNotRead(t *testing.T) {
	w, ann, _ := landed(t)
	hooks := filepath.Join(w.Git.Dir(w.Repo.ID), "hooks")
	if err := os.MkdirAll(hooks, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"update", "post-receive", "pre-receive"} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ann.Commit("second", "a.txt", "2\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
}
