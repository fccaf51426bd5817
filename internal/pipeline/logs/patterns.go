package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// Limits on masks: a job may ask for some, not for all the memory.
const (
	maxSecrets = 500
	maxPattern = 4096
	maxTable   = 1 << 23 // transitions: 32 MiB
	shortest   = 3       // a shorter secret would blank the log and protect nothing
	shortLine  = 6       // the same for one line of a longer secret, and for encoded forms
)

// Patterns lists the forms in which a secret is recognised: as it is, each of its lines, URL-escaped, JSON-escaped, hexadecimal
// and base64 at each of its three alignments, also when a tool wraps it at 64 or 76 columns.
func Patterns(secret string) []string {
	var out []string
	add := func(s string, least int) {
		for len(s) > maxPattern { // in pieces, each hidden by itself
			if !slices.Contains(out, s[:maxPattern]) {
				out = append(out, s[:maxPattern])
			}
			s = s[maxPattern:]
		}
		if len(s) >= least && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	forms := []string{strings.Trim(secret, "\r\n")}
	if strings.ContainsAny(forms[0], "\r\n") {
		for line := range strings.Lines(secret) {
			forms = append(forms, strings.Trim(line, "\r\n"))
		}
	}
	for i, f := range forms {
		if i == 0 {
			add(f, shortest)
		} else {
			add(f, shortLine)
		}
		if len(f) < shortLine {
			continue
		}
		for _, e := range escaped(f) {
			add(e, shortLine)
		}
		h := hex.EncodeToString([]byte(f))
		add(h, shortLine)
		add(strings.ToUpper(h), shortLine)
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			for shift := range 3 {
				add(shifted(enc, f, shift), shortLine)
			}
			for _, width := range []int{64, 76} {
				for _, line := range wrapped(shifted(enc, f, 0), width) {
					add(line, shortLine)
				}
			}
		}
	}
	return out
}

// escaped are the URL and JSON forms of a secret, as the usual encoders write them.
func escaped(s string) []string {
	query, path := url.QueryEscape(s), url.PathEscape(s)
	out := []string{query, strings.ReplaceAll(query, "+", "%20"), path, lowerHex(query), lowerHex(strings.ReplaceAll(query, "+", "%20")), lowerHex(path)}
	for _, html := range []bool{true, false} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		if enc.Encode(s) == nil {
			text := strings.TrimSuffix(b.String(), "\n")
			text = text[1 : len(text)-1]
			out = append(out, text, strings.ReplaceAll(text, "/", `\/`), ascii(text))
		}
	}
	return out
}

// lowerHex writes %2F as %2f, as some encoders do.
func lowerHex(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// ascii writes letters beyond ASCII as \uXXXX, as Python's json does.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			b.WriteString(unit(0xd800 + r>>10))
			b.WriteString(unit(0xdc00 + r&0x3ff))
		default:
			b.WriteString(unit(r))
		}
	}
	return b.String()
}

func unit(r rune) string {
	return `\u` + hex.EncodeToString([]byte{byte(r >> 8), byte(r)})
}

// shifted is the part of the base64 text that depends on nothing but s when s begins shift bytes into a group of three.
func shifted(enc *base64.Encoding, s string, shift int) string {
	text := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + s))
	text = strings.TrimRight(text, "=")
	from := []int{0, 2, 3}[shift]
	to := len(text)
	if (len(s)+shift)%3 != 0 {
		to-- // its low bits belong to what follows
	}
	if to <= from {
		return ""
	}
	return text[from:to]
}

// wrapped cuts a text into lines of a width, nothing if it fits one.
func wrapped(text string, width int) (lines []string) {
	if len(text) <= width {
		return nil
	}
	for ; len(text) > width; text = text[width:] {
		lines = append(lines, text[:width])
	}
	return append(lines, text)
}
