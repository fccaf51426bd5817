package pipelinedb

import (
	"strings"
	"testing"
)

func TestTrimTakesTheLongestUnusedAndLeavesEachRepositoryItsFloor(t *testing.T) {
	entry := func(repository, key string, size int64) cacheEntry {
		return cacheEntry{Repository: repository, Key: key, Size: size}
	}
	all := []cacheEntry{entry("busy", "1", 40), entry("quiet", "1", 10), entry("busy", "2", 40), entry("busy", "3", 40), entry("quiet", "2", 10)}
	for _, c := range []struct {
		most, floor int64
		want        string
	}{
		{140, 0, ""},
		{139, 0, "busy/1"},
		{90, 0, "busy/1 quiet/1"},
		{60, 15, "busy/1 busy/2"}, // quiet would fall below its floor
		{0, 40, "busy/1 busy/2"},  // nobody goes below
		{0, 0, "busy/1 quiet/1 busy/2 busy/3 quiet/2"},
		{0, 1000, ""},
	} {
		var got []string
		for _, e := range trim(all, c.most, c.floor) {
			got = append(got, e.Repository+"/"+e.Key)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("trim(%d, %d) = %v; want %s", c.most, c.floor, got, c.want)
		}
	}
}
