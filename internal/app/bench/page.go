package main

import (
	"fmt"
	"os"
	"strings"
)

// figure says what a row is, and what it should be.
type figure struct {
	name, what string
	goal       string // "" if there is none
}

// sections are the figures of the page in its order. A row that is not here is left out.
var sections = []struct {
	title, about string
	figures      []figure
}{
	{"Runs of jobs", `A run is pushed to a server with its defaults: confinement, evidence, masking and fsync on, logs stored, signing off the path. Each job
has one step, ` + "`true`" + `, and two run at a time. The *realistic floor* does the same work without a server: a workspace, the files that steps
talk through, the same sandbox, a shell. The bare floor is ` + "`fork` and `exec` of `sh -c true`" + `.`, []figure{
		{"run_100_jobs", "100 jobs, against the realistic floor", "2"},
		{"run_1000_jobs", "1,000 jobs, against the realistic floor", "2"},
		{"run_1x100_steps", "one job of 100 steps, against the same steps in one sandbox", "1.5"},
		{"run_100_jobs_to_fork_exec", "100 jobs, against fork and exec", ""},
		{"run_1000_jobs_to_fork_exec", "1,000 jobs, against fork and exec", ""},
		{"run_100_jobs_to_make_j2", "100 jobs, against `make -j2`", ""},
		{"run_1000_jobs_to_make_j2", "1,000 jobs, against `make -j2`", ""},
		{"run_100_jobs_postgres", "100 jobs, the database is PostgreSQL", "2"},
		{"run_1000_jobs_postgres", "1,000 jobs, the database is PostgreSQL", "2"},
		{"run_1x100_steps_postgres", "one job of 100 steps, the database is PostgreSQL", "1.5"},
		{"rss_after_10000_jobs_mb", "memory after 10,000 jobs, against after 1,000", "flat"},
		{"pickup_ms_p50", "a job is queued until its first instruction on an idle agent, median", ""},
		{"pickup_ms_p99", "the same, 99th percentile", "20 ms"},
		{"cpu_percent_of_200_idle_agents", "the server's processor time while 200 agents wait", ""},
		{"log_mb_per_s", "log taken in, masked and written", "100 MB/s"},
		{"log_sealed_mb_per_s", "log until all of it is compressed and stored", ""},
		{"log_search_mb_per_s", "log searched", ""},
	}},
	{"Artifacts", `Pushes go as stock clients do them: an upload is begun, the bytes follow, the digest ends it. The floor hashes the same bytes, writes them to
a file and waits until they are on disk. Floor and figure alternate.`, []figure{
		{"push_256mb", "a blob of 256 MiB", "1.5"},
		{"pull_256mb", "the same back, hashed and written", "1.2"},
		{"push_1000x4k", "1,000 blobs of 4 KiB, eight at a time", "3"},
		{"push_1gib_peak_rss_mb", "the server's memory during 1 GiB, against during 16 MiB", "flat"},
		{"push_32_parallel_peak_rss_mb", "the server's memory during 32 pushes of 16 MiB at a time, against during one", "flat"},
		{"sbom_500_modules_ms", "the list of components of an image with 500 modules", ""},
		{"verify_chain_ms", "`weir verify` of a release, from the registry alone", ""},
	}},
	{"Delivery", "The demo: a service with traffic, a good change, a bad one. Waiting for traffic to judge by is most of it.", []figure{
		{"push_to_production_ms", "push until the rollout has completed", ""},
		{"push_to_production_waiting_for_events_ms", "of it, waiting for traffic and people", ""},
		{"push_to_production_without_bake_ms", "without the time that a release is watched", ""},
		{"bad_change_to_detected_ms", "the first request to a bad canary until it is stopped", ""},
		{"rollback_ms", "the decision to go back until the last answer of the bad release", "1000 ms"},
		{"failed_requests", "failed requests outside of the fault that is put in", "0"},
		{"judge_false_stops", "good releases that the judge stops, of simulations", "0.01"},
		{"judge_missed_faults", "faults at the rate to detect that it misses", "0.1"},
	}},
	{"The server", "", []figure{
		{"binary_mb", "the binary", ""},
		{"start_ms", "start until ready", "500 ms"},
		{"idle_rss_mb", "memory of an idle server", "120 MB"},
	}},
}

// peers are figures of others on two processors as well, from their own programs, against fork and exec of as many shells. They were
// measured once, on another day, and are here for their order of magnitude.
const peers = `## Others

Measured once, with the programs as released (act 0.2.89; woodpecker-cli, and Woodpecker with one agent of capacity 2), on two
processors, another day. The ratio is to ` + "`fork` and `exec`" + ` of as many shells, as in the rows above that say so; ` + "`make -j2`" + ` was 1.3 and the
realistic floor 2.2 there.

| what | took | ratio |
|---|---|---|
| act, 1 job of 100 steps | 1.63 s | 5.9 |
| act, 100 jobs | 10.2 s | 64 |
| act, 1,000 jobs | 230 s | 120 |
| woodpecker-cli exec, 1 job of 100 steps | 523 ms | 1.9 |
| Woodpecker, server and agent, 1 job of 100 steps | 10 s | 37 |
| Woodpecker, server and agent, 100 jobs | 39 s | 140 to 250 |
`

// page turns a table of results into a page of the documentation.
func page(results, to string) error {
	b, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 5 {
			rows[f[0]] = f
		}
	}
	var out strings.Builder
	out.WriteString(`# Benchmarks

` + "`make bench`" + ` measures what Weir promises in figures and writes them to ` + "`bench/results.tsv`" + ` and to this page. It takes about ten
minutes, and wants a machine that does nothing else. Times differ from machine to machine and from day to day; what is compared are ratios
to a floor, or to a peer, that was measured in the same run. The figures are of two processors.

`)
	for _, s := range sections {
		fmt.Fprintf(&out, "## %s\n\n", s.title)
		if s.about != "" {
			out.WriteString(s.about + "\n\n")
		}
		out.WriteString("| what | figure | against | ratio | goal |\n|---|---|---|---|---|\n")
		for _, f := range s.figures {
			r, ok := rows[f.name]
			if !ok {
				continue
			}
			unit, _, _ := strings.Cut(r[2], " ")
			if strings.HasPrefix(r[2], "of ") || strings.HasPrefix(r[2], "share") {
				unit = r[2]
			}
			fmt.Fprintf(&out, "| %s | %s %s | %s | %s | %s |\n", f.what, plain(r[1]), unit, plain(r[3]), r[4], f.goal)
		}
		out.WriteString("\n")
	}
	out.WriteString(peers)
	return os.WriteFile(to, []byte(out.String()), 0o644)
}

// plain writes 1.22e+04 as people do.
func plain(number string) string {
	var v float64
	if _, err := fmt.Sscanf(number, "%g", &v); err != nil || !strings.Contains(number, "e") {
		return number
	}
	return fmt.Sprintf("%.0f", v)
}
