package detect

import (
	"bytes"
	"fmt"
	"strings"
)

// yaml writes the file. Each line that was found says where; each TODO says
// what belongs there.
func (s *scan) yaml() []byte {
	var b bytes.Buffer
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w("# What this repository's services are and how they are delivered, written by")
	w("# `weir init`. Read it; then `weir lint` says what is missing.")
	w("weir: 1")
	w("")
	w("# Rules of changes. They are read from main, never from the change they guard.")
	w("repository:")
	w("  trunk: main")
	if s.hasOwners {
		w("  reviews: {required: 1, code_owners: true}")
	} else {
		w("  reviews: {required: 1}  # there is no CODEOWNERS; with one, add code_owners: true")
	}
	switch {
	case len(s.required) > 0:
		w("  required_checks: [%s]", list(s.required))
	case len(s.files) > 0:
		w("  # required_checks: [FILE/JOB]  # no workflow runs for pull_request, or it is refused")
	default:
		w("  # required_checks: [ci.yml/test]  # there is no workflow yet")
	}
	w("")
	w("services:")
	for _, v := range s.services {
		s.service(w, v)
	}
	return b.Bytes()
}

func (s *scan) service(w func(string, ...any), v *service) {
	kind, arg, _ := strings.Cut(v.build, ": ")
	w("  %s:", v.name)
	w("    path: %s", quoted(v.path))
	w("    owner: %s%s", quoted(s.owner.Value), note(s.owner, "the team that answers for the service"))
	if len(s.files) > 0 {
		w("    pipeline:")
		w("      workflows: [%s]", list(s.files))
	}
	w("    artifact:")
	w("      build: {%s: %s}  # %s", kind, quoted(arg), v.source)
	w("      version: semver  # from git tags and conventional commits")
	w("    run:")
	w("      web:")
	w("        kind: http")
	w("        port: %s%s", value(v.port), note(v.port, "the port that the process listens on"))
	w("        ready: %s%s", value(v.ready), note(v.ready, "a path that answers 200 once the process can take requests"))
	if v.live.Value != "" {
		w("        live: %s%s", quoted(v.live.Value), note(v.live, ""))
	}
	w("        replicas: 1")
	w("        drain: 30s")
	if len(v.secrets) > 0 {
		w("    # The code reads these names, which look like secrets: %s.", join(v.secrets))
	}
	w("    environments:")
	w("      staging:")
	w("        target: local")
	if len(v.settings) > 0 {
		w("        # config: {%s: ...}  # variables that the code reads: %s", v.settings[0].Value, join(v.settings))
	}
	w("        strategy: {rolling: {max_unavailable: 0}}")
	w("      production:")
	w("        target: local")
	w("        after: {staging: {healthy_for: 10m}}")
	w("        approvals: {count: 1}  # somebody with the role approver, never an author")
	w("        strategy:")
	w("          canary: {steps: [5%%, 25%%, 50%%, 100%%], bake: 10m, if_undecided: hold, detect: 5%%}")
	w("        recovery: {objective: 60s}")
}

func value(l Line) string {
	if l.Value == "" {
		return "TODO"
	}
	return quoted(l.Value)
}

// quoted writes a value so that YAML reads back exactly it.
func quoted(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-") == "" && s[0] != '-'
	if plain {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func list(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = quoted(v)
	}
	return strings.Join(out, ", ")
}

func note(l Line, missing string) string {
	switch {
	case l.Value == "" || l.Value == "TODO":
		return "  # " + missing
	case l.Certainty == Certain:
		return "  # " + l.Source
	}
	if l.Certainty == Guess {
		return "  # a guess: " + l.Source
	}
	return fmt.Sprintf("  # %s, from %s", l.Certainty, l.Source)
}

func join(lines []Line) string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Value+" ("+l.Source+")")
	}
	return strings.Join(out, ", ")
}
