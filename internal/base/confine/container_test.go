package confine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/base/oci/ocitest"
)

// container opens one of an image with busybox.
func container(t *testing.T, change func(*Spec, *ocitest.Image)) *Sandbox {
	t.Helper()
	if _, err := Runtime(); err != nil {
		t.Skip(fault.Sentence(err))
	}
	img := ocitest.Busybox(t)
	dir := t.TempDir()
	spec := Spec{Container: &Container{Dir: filepath.Join(dir, "c"), Hostname: "box"}}
	if change != nil {
		change(&spec, &img)
	}
	var reg ocitest.Registry
	reg.Put(t, "busybox:1", img)
	store, err := oci.Open(oci.StoreConfig{Dir: filepath.Join(dir, "images"), Owner: OwnerOf()})
	if err != nil {
		t.Fatal(err)
	}
	pulled, release, err := store.Pull(t.Context(), &reg, oci.Reference{Repository: "busybox", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	spec.Container.Layers = pulled.Layers
	if err := os.Mkdir(spec.Container.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	box, err := Open(t.Context(), spec)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { box.Close(); oci.RemoveAll(dir) })
	return box
}

// sh runs a script in a container and returns what it printed.
func sh(t *testing.T, box *Sandbox, user *User, script string) (string, Exit) {
	t.Helper()
	var out bytes.Buffer
	p, err := box.Start(Cmd{Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/bin", "A=b"}, Stdout: &out, Stderr: &out, User: user})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return strings.TrimSpace(out.String()), exit
}

func TestAContainerIsItsImageAndWhatWasBound(t *testing.T) {
	shared := t.TempDir()
	os.WriteFile(filepath.Join(shared, "in"), []byte("from outside"), 0o644)
	box := container(t, func(s *Spec, img *ocitest.Image) {
		s.Container.Binds = []Bind{{shared, "/shared", true}, {shared, "/looked/at", false}}
		s.Container.Hosts = map[string]string{"db": "127.0.0.2"}
		img.Layers = append(img.Layers, []tar.Header{{Name: "etc/.wh.group", Typeflag: tar.TypeReg}, ocitest.File("only", 0o600)})
	})
	for script, want := range map[string]string{
		"id -u; id -g":                           "0\n0",
		"hostname":                               "box",
		"env | grep -v -e SHLVL -e PWD":          "A=b\nPATH=/bin",
		"cat /shared/in":                         "from outside",
		"echo x 2>&1 > /looked/at/y || echo no":  "sh: can't create /looked/at/y: Read-only file system\nno",
		"ls /etc/group 2>/dev/null || echo gone": "gone",
		"grep db /etc/hosts":                     "127.0.0.2\tdb",
		"echo $$ > /tmp/p; test $(cat /tmp/p) -gt 1 && echo yes": "yes",

		"ls / | tr '\\n' ' '":                   "bin dev etc looked only proc root shared sys tmp",
		"grep -c Seccomp:.*2 /proc/self/status": "1",
		"grep NoNewPrivs /proc/self/status":     "NoNewPrivs:\t1",
		"ls /proc/self/fd | tr '\\n' ' '":       "0 1 2 3",
	} {
		if got, _ := sh(t, box, nil, script); got != want {
			t.Errorf("%s: %q; want %q", script, got, want)
		}
	}
	if manyUsers() {
		if got, _ := sh(t, box, &User{UID: 33, GID: 33, Groups: []int{33}}, "id -u; touch /root/x 2>/dev/null || echo no; touch /tmp/new; stat -c %u /tmp/new"); got != "33\nno\n33" {
			t.Errorf("as user 33: %q; want 33 and no", got)
		}
	}
}

func TestAnImageOfAsManyLayersAsThereMayBeStarts(t *testing.T) {
	dir := ""
	box := container(t, func(s *Spec, img *ocitest.Image) {
		dir = s.Container.Dir
		for i := len(img.Layers); i < 127; i++ {
			img.Layers = append(img.Layers, []tar.Header{ocitest.File(fmt.Sprintf("layer%d", i), 0o644)})
		}
	})
	if got, _ := sh(t, box, nil, "ls / | grep -c layer; echo x > /layer126 && test -s /layer126 && echo written"); got != "126\nwritten" {
		t.Errorf("in the container: %q", got)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(config), "lowerdir=")
	first, _, _ := strings.Cut(rest, ":")
	if _, err := os.Lstat(first); err != nil || !strings.HasPrefix(first, "/tmp/wl") {
		t.Errorf("the layers have no short names: %s %v", first, err)
	}
	box.Close()
	if _, err := os.Lstat(filepath.Dir(first)); err == nil {
		t.Errorf("%s is left behind", filepath.Dir(first))
	}
}

func TestRootInAContainerHasNoPowerOverTheMachine(t *testing.T) {
	box := container(t, nil)
	for _, script := range []string{
		"mount -t tmpfs none /tmp",
		"mount -o remount,rw /proc/sys",
		"echo 1 > /proc/sys/kernel/core_pattern",
		"echo c > /proc/sysrq-trigger",
		"echo 1 > /proc/sys/net/ipv4/ip_forward",
		"cat /proc/1/root/etc/passwd",
		"cat /proc/1/environ",
		"kill -9 1 && sleep 0.1 && test ! -d /proc/1",
		"chroot / true",
		"hostname other",
		"date -s 2000-01-01 | grep -v 2000",
		"dd if=/dev/mem of=/dev/null count=1",
		"touch /sys/x",
	} {
		if out, exit := sh(t, box, nil, script+" 2>&1"); exit.Success() {
			t.Errorf("%s went through: %s", script, out)
		}
	}
}

func TestAContainerHasANetworkOfItsOwnThatIsJoinedByHand(t *testing.T) {
	box := container(t, func(s *Spec, _ *ocitest.Image) {
		s.Serve = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served ", r.URL.Path) })
	})
	if got, _ := sh(t, box, nil, "wget -qO- "+box.LocalURL()+"/x"); got != "served /x" {
		t.Errorf("the job API: %q", got)
	}
	l, err := box.ListenAt([4]byte{127, 0, 0, 9}, 80)
	if err != nil {
		t.Fatalf("ListenAt: %v", err)
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	if got, _ := sh(t, box, nil, "nc 127.0.0.9 80 < /dev/null"); got != "hello" {
		t.Errorf("listener of the outside: %q", got)
	}
	l.Close()
	p, err := box.Start(Cmd{Argv: []string{"nc", "-l", "-p", "81", "-e", "echo", "hi"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	defer p.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := box.Dial(t.Context(), 81)
		if err == nil {
			var b [2]byte
			c.Read(b[:])
			c.Close()
			if string(b[:]) != "hi" {
				t.Errorf("dialled: %q", b)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Dial: %v", err)
		}
	}
}

func TestAContainerReachesOtherMachinesByTheProxyAndNeverThisOne(t *testing.T) {
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the server itself") }))
	defer own.Close()
	var asked []string
	box := container(t, func(s *Spec, _ *ocitest.Image) {
		s.Network = Egress
		s.OnEgress = func(to string) error { asked = append(asked, to); return errors.New("not today") }
	})
	try := func(url string, env []string) string {
		var out bytes.Buffer
		p, err := box.Start(Cmd{Argv: []string{"wget", "-qO-", url}, Env: append([]string{"PATH=/bin"}, env...), Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		exit, _ := p.Wait()
		if exit.Success() {
			t.Errorf("%s was reached: %s", url, out.String())
		}
		return out.String()
	}
	try(own.URL, nil)
	try(own.URL, box.Env())
	proxied := []string{}
	for _, kv := range box.Env() {
		if !strings.HasPrefix(strings.ToLower(kv), "no_proxy") {
			proxied = append(proxied, kv)
		}
	}
	if said := try(own.URL, proxied); !strings.Contains(said, "403") {
		t.Errorf("this machine by the proxy: %q; want a refusal", said)
	}
	if said := try("http://192.0.2.1/", proxied); !strings.Contains(said, "403") || len(asked) != 1 || asked[0] != "192.0.2.1:80" {
		t.Errorf("another machine: %q, asked %v; want the observer to decide", said, asked)
	}
}

func TestAContainerIsGoneWithAllThatRanInIt(t *testing.T) {
	box := container(t, nil)
	p, err := box.Start(Cmd{Argv: []string{"sh", "-c", "trap '' TERM INT HUP; (sleep 1000 &) ; while :; do sleep 1000; done"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	box.Close()
	<-p.Exited()
	if left, _ := os.ReadDir(filepath.Join(box.spec.Container.Dir, "state")); len(left) != 0 {
		t.Errorf("the runtime left %v", left)
	}
	for c, dir := range box.held.dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("the control group of %s is still there: %s", c, dir)
		}
	}
	if box.init.(*runtimeProcess).cmd.ProcessState == nil {
		t.Error("the runtime still runs")
	}
}

func TestAForkBombInAContainerIsBounded(t *testing.T) {
	box := container(t, func(s *Spec, _ *ocitest.Image) { s.Limits.Processes = 64 })
	if len(box.Unenforced()) > 0 {
		t.Skip("this machine has no control group of processes")
	}
	if out, _ := sh(t, box, nil, "i=0; while test $i -lt 200; do (sleep 30 >/dev/null 2>&1 &) || break; i=$((i+1)); done 2>&1; true"); strings.Contains(out, "nobody") {
		t.Log(out)
	}
	if why := box.Exceeded(); !strings.Contains(why, "more than 64 processes") {
		t.Errorf("Exceeded() = %q; want the bound", why)
	}
	if p, err := os.FindProcess(os.Getpid()); err != nil || p.Signal(syscall.Signal(0)) != nil {
		t.Error("this process is gone")
	}
}

func TestAContainerThatCannotStartSaysWhy(t *testing.T) {
	if _, err := Runtime(); err != nil {
		t.Skip(fault.Sentence(err))
	}
	dir := t.TempDir()
	layer := t.TempDir()
	_, err := Open(t.Context(), Spec{Container: &Container{Dir: dir, Hostname: "x", Layers: []string{layer}, Binds: []Bind{{filepath.Join(dir, "missing"), "/x", false}}}})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "missing") {
		t.Errorf("Open: %v; want a sentence that names the missing folder", err)
	}
	_, err = Open(t.Context(), Spec{Container: &Container{Dir: t.TempDir(), Hostname: "x", Layers: []string{"/a,b"}}})
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "comma") {
		t.Errorf("Open: %v; want a sentence about the path", err)
	}
}
