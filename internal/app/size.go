package app

import (
	"fmt"

	"weir/internal/base/fault"
	"weir/internal/catalog"
)

// Size writes bytes for people.
func Size(n int64) string {
	for _, u := range []struct {
		name string
		of   int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.of {
			return fmt.Sprintf("%.3g %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// ParseSize reads a size such as 20Gi; "default" is 0.
func ParseSize(s string) (int64, error) {
	if s == "default" {
		return 0, nil
	}
	var b catalog.Bytes
	if err := b.UnmarshalText([]byte(s)); err != nil || b == 0 {
		return 0, fault.New(fault.Invalid, "%q is not a size. Write one such as 512Mi or 20Gi, or default.", s)
	}
	return int64(b), nil
}
