package web

import "strings"

// word is a stretch of text; a code one stood between backticks.
type word struct {
	Text string
	Code bool
}

// prose splits a sentence at its backticks.
func prose(s string) []word {
	var out []word
	for i, part := range strings.Split(s, "`") {
		if part != "" {
			out = append(out, word{part, i%2 == 1})
		}
	}
	return out
}
