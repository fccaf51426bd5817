package web

import (
	"fmt"

	"github.com/a-h/templ"
)

// streams are the lines of water over the crest behind the sign-in page: spread
// before it, narrow above it, falling after it.
func streams() []string {
	const n = 24
	var out []string
	for i := range n {
		t := float64(i) / (n - 1)
		before, over, after := 250+440*t, 291+49*t, 716+138*t
		out = append(out, fmt.Sprintf("M-20 %.1fC250 %.1f 300 %.1f 485 %.1fC620 %.1f 690 %.1f 850 %.1fC1010 %.1f 1180 %.1f 1460 %.1f",
			before, before, over, over, over, after, after, after+8, after-8, after-6))
	}
	return out
}

func invalid(on bool) templ.Attributes {
	if on {
		return templ.Attributes{"aria-invalid": "true", "aria-describedby": "link-e"}
	}
	return nil
}
