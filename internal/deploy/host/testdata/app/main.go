// A service for tests: it answers, fails, is slow, or tries to get out, as it is asked.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if os.Getenv("CRASH") != "" {
		fmt.Println("cannot go on: CRASH is set")
		os.Exit(3)
	}
	fail, _ := strconv.ParseFloat(os.Getenv("FAIL"), 64)
	if b, err := os.ReadFile("/fail"); err == nil { // a fault that is in the image
		fail, _ = strconv.ParseFloat(string(b), 64)
	}
	http.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if os.Getenv("NEVER_READY") != "" {
			w.WriteHeader(503)
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if rand.Float64() < fail {
			w.WriteHeader(500)
		}
		fmt.Fprint(w, os.Getenv("WEIR_VERSION"))
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("for"))
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		time.Sleep(d)
		fmt.Fprint(w, os.Getenv("WEIR_VERSION"))
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	http.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) { os.Exit(9) })
	http.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Environ()) })
	http.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.FormValue("path"))
		fmt.Fprint(w, "read ", len(b), " ", err)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "write ", os.WriteFile(r.FormValue("path"), []byte("x"), 0o644))
	})
	http.HandleFunc("/dial", func(w http.ResponseWriter, r *http.Request) {
		_, err := net.DialTimeout(r.FormValue("net"), r.FormValue("to"), time.Second)
		fmt.Fprint(w, "dial ", err)
	})
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		res, err := http.Get(r.FormValue("url"))
		if err != nil {
			fmt.Fprint(w, "fetch ", err)
			return
		}
		b, _ := io.ReadAll(res.Body)
		fmt.Fprint(w, "fetch ", res.StatusCode, " ", string(b))
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &http.Server{Addr: ":" + os.Getenv("PORT")}
	go s.ListenAndServe()
	<-ctx.Done()
	s.Shutdown(context.Background())
}
