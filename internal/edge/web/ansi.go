package web

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is how much of one line a page shows.
const maxLine = 4 << 10

var colours = [8]string{"dim", "red", "green", "yellow", "blue", "magenta", "cyan", ""}

// ansi turns a line that a program wrote for a terminal into HTML: eight colours
// and bold, everything else of a terminal's language dropped, the text escaped.
func ansi(line string) string {
	if i := strings.LastIndexByte(strings.TrimRight(line, "\r"), '\r'); i >= 0 {
		line = line[i+1:] // What a terminal would show after a progress bar.
	}
	more := 0
	if len(line) > maxLine {
		cut := maxLine
		for cut > 0 && !utf8.RuneStart(line[cut]) {
			cut--
		}
		more, line = len(line)-cut, line[:cut]
	}
	var b strings.Builder
	colour, bold, open := "", false, false
	text := func(s string) {
		if s == "" {
			return
		}
		class := strings.TrimSpace(colour + map[bool]string{true: " bold"}[bold])
		if class != "" {
			b.WriteString(`<i class="` + class + `">`)
			open = true
		}
		b.WriteString(html.EscapeString(printable(s)))
		if open {
			b.WriteString("</i>")
			open = false
		}
	}
	for {
		esc := strings.IndexByte(line, 0x1b)
		if esc < 0 {
			break
		}
		text(line[:esc])
		rest := line[esc+1:]
		params, final, after := sequence(rest)
		if final == 'm' {
			colour, bold = sgr(params, colour, bold)
		}
		line = after
	}
	text(line)
	if more > 0 {
		b.WriteString(`<i class="dim"> … ` + size(int64(more)) + ` more in the raw log</i>`)
	}
	return b.String()
}

// sequence splits an escape sequence off what follows the escape character.
func sequence(s string) (params string, final byte, rest string) {
	switch {
	case s == "":
		return "", 0, ""
	case s[0] == '[':
		for i := 1; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return s[1:i], s[i], s[i+1:]
			}
			if s[i] < 0x20 {
				return "", 0, s[i:]
			}
		}
		return "", 0, ""
	case s[0] == ']': // a title or a link, up to BEL or ST
		for i := 1; i < len(s); i++ {
			if s[i] == 0x07 {
				return "", 0, s[i+1:]
			}
			if s[i] == 0x1b {
				return "", 0, strings.TrimPrefix(s[i+1:], "\\")
			}
		}
		return "", 0, ""
	}
	return "", 0, s[1:]
}

func sgr(params, colour string, bold bool) (string, bool) {
	codes := strings.Split(params, ";")
	for i := 0; i < len(codes); i++ {
		switch c := codes[i]; {
		case c == "" || c == "0" || c == "00":
			colour, bold = "", false
		case c == "1" || c == "01":
			bold = true
		case c == "22":
			bold = false
		case c == "39":
			colour = ""
		case c == "38" || c == "48":
			return colour, bold // More colours than a page has: what follows are their numbers.
		case len(c) == 2 && (c[0] == '3' || c[0] == '9') && c[1] >= '0' && c[1] <= '7':
			colour = colours[c[1]-'0']
		}
	}
	return colour, bold
}

// printable drops control characters and what turns the direction of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
}
