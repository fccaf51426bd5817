package confine

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"weir/internal/base/jail"
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

func TestWhoStopsEveryProcessOfAServiceStopsNoSandbox(t *testing.T) {
	s, err := Open(t.Context(), Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nursery.Lock()
	z := nursery.current
	nursery.Unlock()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(z.pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	b, err := bear(shapeOf(s.boot, Limits{})) // the zygote has taken the signals before the next request
	if err != nil {
		t.Fatal(err)
	}
	b.drop()
	var out strings.Builder
	p, err := s.Start(Cmd{Argv: []string{"/bin/sh", "-c", "kill -TERM $$; echo not stopped"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err != nil || exit.Signal != "SIGTERM" || out.String() != "" {
		t.Errorf("a command that is told to stop: %+v, %v, %q; want it to stop as ever", exit, err, out.String())
	}
	nursery.Lock()
	defer nursery.Unlock()
	if nursery.current != z || z.lost() {
		t.Error("the zygote is gone")
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
		if _, err := z.fork(theirs, shape{uid: -5, gid: -5}); err == nil {
			t.Fatal("an init was made for a user that cannot be")
		}
	}
	c, err := z.fork(theirs, shape{uid: 1000, gid: 1000, netns: true})
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

func TestASandboxMayHaveAnInitThatWaitedForIt(t *testing.T) {
	none := shapeOf(jail.Boot{NetNS: true}, Limits{})
	take := func() *born {
		nursery.Lock()
		defer nursery.Unlock()
		next := nursery.spare
		nursery.spare = nil
		return next
	}
	if b := take(); b != nil {
		b.drop()
	}
	for range 2 { // the second one finds one there
		prepare(none)
	}
	waits := take()
	if waits == nil || waits.shape != none {
		t.Fatalf("%+v waits, want an init", waits)
	}
	for name, before := range map[string]func(*born){
		"alive": func(*born) {},
		"killed": func(s *born) {
			_ = s.Kill()
			s.Wait()
		},
		"of another shape": func(s *born) { s.netns = !s.netns },
	} {
		if b := take(); b != nil {
			b.drop()
		}
		prepare(none)
		nursery.Lock()
		before(nursery.spare)
		nursery.Unlock()
		var out strings.Builder
		s, err := Open(t.Context(), Spec{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p, err := s.Start(Cmd{Argv: []string{"/bin/sh", "-c", "id -u; cd /sys 2>/dev/null; cat /proc/self/net/dev | wc -l"}, Stdout: &out})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := p.Wait(); err != nil || out.String() != "1000\n3\n" && os.Getuid() == 0 {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
		s.Close()
	}
	waits.ours.Close()
	waits.Wait() // it ends with its socket
}
