package catalog

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Percent is a share, written 5% and kept as 0.05.
type Percent float64

// UnmarshalText reads 5%, 99.9% or 100%.
func (p *Percent) UnmarshalText(text []byte) error {
	s, ok := strings.CutSuffix(string(text), "%")
	f, err := strconv.ParseFloat(s, 64)
	if !ok || err != nil || math.IsNaN(f) || f < 0 || f > 100 {
		return fmt.Errorf("%q is not a share; write a number from 0 to 100 and a percent sign, such as 25%%", text)
	}
	*p = Percent(f / 100)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (p Percent) String() string {
	// Rounded, since 0.999*100 is not quite 99.9.
	return strconv.FormatFloat(math.Round(float64(p)*1e8)/1e6, 'f', -1, 64) + "%"
}

// Describe gives the pattern for the schema.
func (Percent) Describe() (pattern, example string) { return `^[0-9]+(\.[0-9]+)?%$`, "25%" }

// Duration is a span of time, written 90s, 10m, 12h, 30d or 1h30m.
type Duration time.Duration

var days = regexp.MustCompile(`^([0-9]+)d`)

// UnmarshalText reads what time.ParseDuration reads, and days (24 h) before it.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	bad := fmt.Errorf("%q is not a span of time; write one such as 90s, 10m, 12h or 30d", text)
	var total time.Duration
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 36500 {
			return bad
		}
		total, s = time.Duration(n)*24*time.Hour, s[len(m[0]):]
		if s == "" {
			*d = Duration(total)
			return nil
		}
	}
	rest, err := time.ParseDuration(s)
	if err != nil || rest < 0 {
		return bad
	}
	*d = Duration(total + rest)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(t/(24*time.Hour)), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Std returns the time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Describe gives the pattern for the schema.
func (Duration) Describe() (pattern, example string) {
	return `^([0-9]+d)?([0-9.]+(ms|s|m|h))*$`, "10m"
}

// Bytes is an amount of memory, written 256Mi or 1Gi.
type Bytes int64

// UnmarshalText reads a whole number with an optional Ki, Mi or Gi.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, unit := string(text), int64(1)
	for suffix, u := range map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30} {
		if cut, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = cut, u
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not an amount of memory; write one such as 256Mi or 1Gi", text)
	}
	*b = Bytes(n * unit)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (b Bytes) MarshalText() ([]byte, error) {
	n := int64(b)
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return []byte(strconv.FormatInt(n/u.size, 10) + u.suffix), nil
		}
	}
	return []byte(strconv.FormatInt(n, 10)), nil
}

// Describe gives the pattern for the schema.
func (Bytes) Describe() (pattern, example string) { return `^[0-9]+(Ki|Mi|Gi)?$`, "256Mi" }
