package pipeline_test

import (
	"testing"

	"weir/internal/pipeline"
)

func TestTheStricterNetworkCounts(t *testing.T) {
	for _, c := range [][3]string{{"egress", "none", "none"}, {"none", "egress", "none"}, {"", "egress", "egress"}, {"egress", "", "egress"}, {"host", "egress", "egress"}, {"", "", ""}} {
		if got := pipeline.Stricter(c[0], c[1]); got != c[2] {
			t.Errorf("Stricter(%q, %q) = %q; want %q", c[0], c[1], got, c[2])
		}
	}
}
