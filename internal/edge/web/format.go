package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// took says a duration the way people do: "412 ms", "4.1 s", "4 m 27 s", "3 h 42 m", "2 d 4 h".
func took(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(math.Floor(d.Seconds()*10)/10, 'f', 1, 64), ".0") + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		if s := int(d.Seconds()) % 60; s > 0 {
			return fmt.Sprintf("%d m %02d s", int(d.Minutes()), s)
		}
		return fmt.Sprintf("%d m", int(d.Minutes()))
	case d < 24*time.Hour:
		if m := int(d.Minutes()) % 60; m > 0 {
			return fmt.Sprintf("%d h %d m", int(d.Hours()), m)
		}
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	days, hours := int(d.Hours())/24, int(d.Hours())%24
	if hours > 0 && days < 10 {
		return fmt.Sprintf("%d d %d h", days, hours)
	}
	return fmt.Sprintf("%d d", days)
}

// ago is how long something has been so, coarsely: it changes seldom.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return "under a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d m", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours())/24)
}

// clock is minutes and seconds: "1:31".
func clock(d time.Duration) string {
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// day is a moment with its date, in UTC.
func day(t time.Time) string { return t.UTC().Format("2 Jan 15:04:05") }

// exact is a moment in full.
func exact(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05.000 UTC") }

// hour is a moment of today, with the date if it is another day.
func hour(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04:05")
	}
	return t.Format("2 Jan 15:04:05")
}

// number groups thousands: "48,219".
func number[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		s = "−" + s
	}
	return s
}

// size says bytes.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// plural is "1 job", "2 jobs".
func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// short cuts a digest or a revision for the eye; the whole of it is in the title.
func short(digest string) string {
	if hash, ok := strings.CutPrefix(digest, "sha256:"); ok && len(hash) > 8 {
		return "sha256:" + hash[:8] + "…"
	}
	if len(digest) >= 40 {
		return digest[:7]
	}
	return digest
}

// figure writes a measured value with as many digits as its size deserves.
func figure(v float64, unit string) string {
	digits := 2
	switch a := math.Abs(v); {
	case unit == "ms" || a >= 100:
		digits = 0
	case a >= 10:
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if digits == 2 && strings.HasSuffix(s, "00") {
		s = strings.TrimSuffix(s, ".00")
	}
	s = strings.Replace(s, "-", "−", 1)
	if unit == "%" {
		return s + "%"
	}
	return s + " " + unit
}

// percent writes a share of traffic: "5%", "12.5%".
func percent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }

// initials of a person, for the round mark beside the name.
func initials(name string) string {
	var out []rune
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == '.' || r == '-' || r == '_' || r == '@' }) {
		if len(out) < 2 {
			out = append(out, []rune(strings.ToUpper(word))[0])
		}
	}
	return string(out)
}

// sign of a difference.
func difference(a, b float64, unit string) string {
	d := a - b
	if d >= 0 {
		return "+" + figure(d, unit)
	}
	return figure(d, unit)
}

// words says how a component moved.
func (c ComponentChange) words() string {
	cut := func(s string) string {
		if len(s) > 40 {
			return s[:12]
		}
		return s
	}
	switch {
	case c.From == "":
		return "added, " + cut(c.To)
	case c.To == "":
		return "removed, was " + cut(c.From)
	}
	return cut(c.From) + " to " + cut(c.To)
}
