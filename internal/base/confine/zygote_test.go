package confine

import (
	"io"
	"strings"
	"syscall"
	"testing"
)

// The zygote may be killed, as anything may. What it has forked must not live on, and whoever comes next must not notice.
func TestSandboxesEndWithTheirZygoteAndTheNextOneOpens(t *testing.T) {
	s, err := Open(t.Context(), Spec{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Start(Cmd{Argv: []string{"/bin/sleep", "1000"}, Stdout: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	nursery.Lock()
	z := nursery.current
	nursery.Unlock()
	if err := syscall.Kill(z.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Gone()
	if exit, err := p.Wait(); err == nil {
		t.Errorf("a command outlived the zygote: %+v", exit)
	}
	s.Close()
	var out strings.Builder
	next, err := Open(t.Context(), Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	p, err = next.Start(Cmd{Argv: []string{"/bin/echo", "again"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil || out.String() != "again\n" {
		t.Errorf("the next sandbox said %q, %v", out.String(), err)
	}
}

func TestARefusedInitIsAnErrorAndNotTheEndOfTheZygote(t *testing.T) {
	z, err := newZygote()
	if err != nil {
		t.Fatal(err)
	}
	defer z.conn.Close()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	for range 2 { // nobody may be that user in there
		if _, err := z.fork(theirs, -5, -5, false); err == nil {
			t.Fatal("an init was made for a user that cannot be")
		}
	}
	c, err := z.fork(theirs, 1000, 1000, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Error(err)
	}
	c.Wait()
	if err := c.Kill(); err == nil {
		t.Error("what is gone was killed")
	}
}
