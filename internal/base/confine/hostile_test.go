package confine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"weir/internal/base/confine"
)

// hostile is the program that tries to get out. It prints "safe: why" when it could not.
func hostile(name string, args []string) {
	verdict := func(err error) {
		if err != nil {
			fmt.Println("safe:", err)
			return
		}
		fmt.Println("REACHED")
	}
	client := &http.Client{Timeout: 5 * time.Second}
	switch name {
	case "read":
		b, err := os.ReadFile(args[0])
		if err == nil && len(b) == 0 {
			err = fmt.Errorf("empty")
		}
		verdict(err)
	case "list":
		_, err := os.ReadDir(args[0])
		verdict(err)
	case "write":
		verdict(os.WriteFile(args[0], []byte("x"), 0o644))
	case "signal":
		pid, _ := strconv.Atoi(args[0])
		verdict(syscall.Kill(pid, syscall.SIGKILL))
	case "ptrace":
		pid, _ := strconv.Atoi(args[0])
		verdict(syscall.PtraceAttach(pid))
	case "environ":
		b, err := os.ReadFile("/proc/" + args[0] + "/environ")
		if err == nil && !strings.Contains(string(b), "HOME=") {
			err = fmt.Errorf("another process")
		}
		verdict(err)
	case "syscall":
		nr, _ := strconv.Atoi(args[0])
		a, _ := strconv.Atoi(args[1])
		_, _, errno := syscall.RawSyscall(uintptr(nr), uintptr(a), 0, 0)
		if errno != 0 {
			verdict(errno)
			return
		}
		verdict(nil)
	case "eat":
		mib, _ := strconv.Atoi(args[0])
		var all [][]byte
		for range mib {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Println("ate", len(all))
	case "multiply":
		// Children stay until the whole sandbox ends.
		n, _ := strconv.Atoi(args[0])
		for i := range n {
			if _, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "60"}, &syscall.ProcAttr{}); err != nil {
				fmt.Printf("safe: %d processes, then %v\n", i, err)
				return
			}
		}
		fmt.Println("REACHED")
	case "dial":
		_, err := net.DialTimeout(args[0], args[1], 2*time.Second)
		verdict(err)
	case "get":
		// NO_PROXY would keep a loopback address away from the proxy; this client asks the proxy all the same, if there is one.
		if p := os.Getenv("HTTP_PROXY"); p != "" && !strings.Contains(args[0], ":8080") {
			u, _ := url.Parse(p)
			client.Transport = &http.Transport{Proxy: http.ProxyURL(u)}
		}
		r, err := client.Get(args[0])
		if err != nil {
			verdict(err)
			return
		}
		b, _ := io.ReadAll(r.Body)
		if r.StatusCode == http.StatusForbidden && strings.Contains(string(b), "a sandboxed program may not reach") {
			verdict(fmt.Errorf("%s", b))
			return
		}
		fmt.Println("REACHED", r.StatusCode, string(b))
	case "connect":
		p := strings.TrimPrefix(os.Getenv("HTTPS_PROXY"), "http://")
		if p == "" {
			verdict(fmt.Errorf("no proxy"))
			return
		}
		c, err := net.Dial("tcp", p)
		if err != nil {
			fmt.Println("the proxy cannot be reached:", err)
			return
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", args[0], args[0])
		r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
		if err != nil {
			verdict(err)
			return
		}
		b := make([]byte, 1000)
		n := 0
		if r.StatusCode != 200 {
			n, _ = r.Body.Read(b)
			verdict(fmt.Errorf("%d %s", r.StatusCode, b[:n]))
			return
		}
		fmt.Println("REACHED")
	case "caps":
		b, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Cap") && strings.Trim(strings.Fields(line)[1], "0") != "" {
				fmt.Println("REACHED", line)
				return
			}
			if strings.HasPrefix(line, "NoNewPrivs:") && strings.Fields(line)[1] != "1" {
				fmt.Println("REACHED", line)
				return
			}
		}
		verdict(fmt.Errorf("none"))
	case "userns":
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		verdict(cmd.Run())
	case "mount":
		verdict(unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	case "setuid":
		verdict(syscall.Setuid(0))
	case "serve":
		http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "from inside") }))
	case "parent":
		s, err := confine.Open(context.Background(), confine.Spec{Unconfined: len(args) > 1 && args[1] != ""})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		p, err := s.Start(confine.Cmd{Argv: []string{"/bin/sh", "-c", "sleep " + args[0] + " & wait"}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		p.Wait()
	}
}
