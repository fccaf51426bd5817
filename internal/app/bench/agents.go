package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/internal/edge/api/client"
	"weir/internal/pipeline/runner/remote"
)

const (
	idleAgents = 200
	pickups    = 400
)

// agents measures how soon an idle agent begins a job, from when the job is ready to its first instruction, and what the server
// spends on 200 agents that have nothing to do.
func agents(ctx context.Context, weir string, t *table) (err error) {
	s, err := serve(ctx, weir)
	if err != nil {
		return err
	}
	defer s.stop()
	token := func(name string) (string, error) {
		var tok client.Token
		err := s.admin.Post(ctx, "/agents", map[string]any{"name": name, "hours": 1}, &tok)
		return tok.Token, err
	}
	// Two take turns, so that the one that is asked has nothing else to do.
	turns := []string{"far", "farther"}
	for _, name := range turns {
		tok, err := token(name)
		if err != nil {
			return err
		}
		agent := exec.CommandContext(ctx, weir, "agent", "--server", s.url, "--token", tok, "--labels", name, "--slots", "1", "--dir", filepath.Join(s.dir, "agent-"+name))
		if err := agent.Start(); err != nil {
			return err
		}
		defer func() {
			_ = agent.Process.Kill()
			_ = agent.Wait()
		}()
	}
	if err := s.connected(ctx, len(turns)); err != nil {
		return err
	}
	// A chain: each job is ready when the one before it has ended, and notes the time of its first instruction.
	var wf strings.Builder
	wf.WriteString("on: push\njobs:\n")
	for i := range pickups {
		fmt.Fprintf(&wf, "  j%d:\n    runs-on: [self-hosted, %s]\n", i, turns[i%len(turns)])
		if i > 0 {
			fmt.Fprintf(&wf, "    needs: j%d\n", i-1)
		}
		wf.WriteString("    outputs: {at: \"${{ steps.s.outputs.at }}\"}\n    steps:\n      - id: s\n        run: echo at=$EPOCHREALTIME >> $GITHUB_OUTPUT; sleep 0.05\n")
	}
	p, err := s.project(ctx, "pickup")
	if err != nil {
		return err
	}
	run, err := p.run(ctx, wf.String())
	if err != nil {
		return err
	}
	if err := s.admin.Get(ctx, "/runs/"+run.ID, &run); err != nil {
		return err
	}
	ended := map[string]time.Time{}
	for _, j := range run.Jobs {
		ended[j.Key] = j.Attempts[0].Finished
	}
	var all []float64
	for i, j := range run.Jobs {
		var sec float64
		if _, err := fmt.Sscan(j.Outputs["at"], &sec); err != nil || i == 0 {
			continue
		}
		// Ready from the moment at which the result of the job before it was taken.
		ready := ended[run.Jobs[i-1].Key]
		all = append(all, (sec-float64(ready.UnixMicro())/1e6)*1000)
	}
	if len(all) == 0 {
		return errors.New("no job told when it began")
	}
	slices.Sort(all)
	t.add("pickup_ms_p50", all[len(all)/2], "ms", 0)
	t.add("pickup_ms_p99", all[len(all)*99/100], "ms", 20)

	idle, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{}, idleAgents)
	for i := range idleAgents {
		name := fmt.Sprintf("idle%d", i)
		tok, err := token(name)
		if err != nil {
			return err
		}
		a := &remote.Agent{Client: &remote.Client{URL: s.url, Token: tok, HTTP: &http.Client{}}, Dir: filepath.Join(s.dir, name), Labels: []string{name}, Slots: 1}
		go func() {
			_ = a.Run(idle, idle)
			done <- struct{}{}
		}()
	}
	if err := s.connected(ctx, idleAgents+len(turns)); err != nil {
		return err
	}
	before, err := s.cpu()
	if err != nil {
		return err
	}
	const window = 15 * time.Second
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(window):
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	t.add("cpu_percent_of_200_idle_agents", 100*float64(after-before)/float64(window), "% of one processor", 0)
	stop()
	for range idleAgents {
		<-done
	}
	return nil
}

func (s *server) connected(ctx context.Context, want int) error {
	for {
		var all []struct{ Connected bool }
		if err := s.admin.Get(ctx, "/agents", &all); err != nil {
			return err
		}
		n := 0
		for _, a := range all {
			if a.Connected {
				n++
			}
		}
		if n >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
