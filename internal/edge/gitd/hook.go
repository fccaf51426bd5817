package gitd

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/source"
)

// HookName is the name under which git runs this binary as its hook.
const HookName = "pre-receive"

const (
	socketVariable = "WEIR_HOOK_SOCKET"
	tokenVariable  = "WEIR_HOOK_TOKEN"
	// maxQuestion bounds what a hook sends.
	maxQuestion = 1 << 20
)

// question is what the hook asks, once; answer is what it gets.
type question struct {
	Token   string          `json:"token"`
	Updates []source.Update `json:"updates"`
	Objects string          `json:"objects"` // git's quarantine folder
	Options []string        `json:"options"`
}

type answer struct {
	OK    bool     `json:"ok"`
	Lines []string `json:"lines"`
}

// Hook is the main function of the pre-receive hook. It decides nothing: it
// carries the question to the server and the answer to the person who pushes.
func Hook(stdin io.Reader, stderr io.Writer) int {
	say := func(lines ...string) {
		for _, l := range lines {
			for s := range strings.SplitSeq(l, "\n") {
				fmt.Fprintln(stderr, "Weir: "+s)
			}
		}
	}
	q := question{Token: os.Getenv(tokenVariable), Objects: os.Getenv("GIT_QUARANTINE_PATH")}
	sc := bufio.NewScanner(stdin)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) != 3 {
			say("The push could not be read.")
			return 1
		}
		q.Updates = append(q.Updates, source.Update{Old: f[0], New: f[1], Ref: f[2]})
	}
	n, _ := strconv.Atoi(os.Getenv("GIT_PUSH_OPTION_COUNT"))
	for i := range min(n, 16) {
		q.Options = append(q.Options, os.Getenv("GIT_PUSH_OPTION_"+strconv.Itoa(i)))
	}
	a, err := ask(os.Getenv(socketVariable), q)
	if err != nil {
		say("The server stopped while judging this push; nothing was accepted. Push again.")
		return 1
	}
	say(a.Lines...)
	if !a.OK {
		return 1
	}
	return 0
}

func ask(socket string, q question) (a answer, err error) {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return a, err
	}
	return a, json.NewDecoder(io.LimitReader(conn, maxQuestion)).Decode(&a)
}

// push is one that git is receiving.
type push struct {
	ctx          context.Context
	repositoryID string
}

// pending keeps pushes by the one-time token that their hook shows.
type pending struct {
	mu     sync.Mutex
	pushes map[string]*push
}

func (p *pending) add(v *push) (token string, done func()) {
	var b [24]byte
	_, _ = rand.Read(b[:])
	token = base64.RawURLEncoding.EncodeToString(b[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes[token] = v
	return token, func() { p.take(token) }
}

func (p *pending) take(token string) *push {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.pushes[token]
	delete(p.pushes, token)
	return v
}

// InstallHook makes the hook a link to this binary.
func InstallHook(dir, executable string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(dir, ".new")
	_ = os.Remove(tmp)
	if err := os.Symlink(executable, tmp); err != nil {
		return fmt.Errorf("install hook: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, HookName))
}

// Name makes the handler a part of the process: it answers hooks.
func (h *Handler) Name() string { return "git hooks" }

// Run answers hooks until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	_ = os.Remove(h.Socket)
	l, err := net.Listen("unix", h.Socket)
	if err != nil {
		return fmt.Errorf("listen for hooks: %w", err)
	}
	if err := os.Chmod(h.Socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
			var q question
			if err := json.NewDecoder(io.LimitReader(conn, maxQuestion)).Decode(&q); err != nil {
				return
			}
			_ = json.NewEncoder(conn).Encode(h.answer(q))
		})
	}
}

// answer judges a push: its objects are stored first, then rows, fact and
// ledger entry in one transaction; only then may git acknowledge it.
func (h *Handler) answer(q question) answer {
	p := h.pending.take(q.Token)
	if p == nil {
		return answer{Lines: []string{"This push is not known to the server. Push again."}}
	}
	// Whatever happens to the connection, a push that is being judged is judged.
	ctx := context.WithoutCancel(h.Repositories.Quarantined(p.ctx, p.repositoryID, q.Objects))
	pack, err := h.Repositories.StorePack(ctx, q.Objects)
	if err == nil {
		var lines []string
		lines, err = h.Source.Receive(ctx, source.Push{RepositoryID: p.repositoryID, Updates: q.Updates, Options: q.Options, Pack: pack})
		if err == nil {
			return answer{OK: true, Lines: lines}
		}
	}
	if fault.KindOf(err) == "" {
		slog.ErrorContext(ctx, "push not judged", "repository", p.repositoryID, "error", err)
	}
	return answer{Lines: []string{fault.Sentence(err)}}
}
