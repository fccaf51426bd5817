package logs

import (
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
	maxStates  = 1 << 18
)

// Patterns lists the forms in which a secret is recognised: as it is, each of its lines, URL-escaped, JSON-escaped, hexadecimal
// and base64 at each of its three shifts.
func Patterns(secret string) []string {
	var out []string
	add := func(s string, min int) {
		if len(s) >= min && len(s) <= maxPattern && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	forms := []string{strings.Trim(secret, "\r\n")}
	if strings.Contains(forms[0], "\n") {
		for line := range strings.Lines(secret) {
			forms = append(forms, strings.Trim(line, "\r\n"))
		}
	}
	for i, f := range forms {
		if i == 0 {
			add(f, 3)
		} else {
			add(f, 6) // a short line of a key says nothing and would blank half the log
		}
		if len(f) < 6 {
			continue
		}
		add(url.QueryEscape(f), 6)
		add(url.PathEscape(f), 6)
		if b, err := json.Marshal(f); err == nil {
			add(string(b[1:len(b)-1]), 6)
		}
		h := hex.EncodeToString([]byte(f))
		add(h, 6)
		add(strings.ToUpper(h), 6)
		for shift := range 3 {
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				add(shifted(enc, f, shift), 6)
			}
		}
	}
	return out
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

// masker replaces patterns in a stream. It keeps back what could be the beginning of one.
type masker struct {
	next    [][256]int32 // dense transitions, so that a byte costs one look-up whatever the number of secrets
	longest []int        // length of the longest pattern that ends in a state
	depth   []int
	state   int32
	pending []byte
	hidden  []bool // same length as pending
	secrets []string
	inMask  bool // the last byte that went out was masked
}

func (m *masker) add(secret string) {
	if secret == "" || len(m.secrets) >= maxSecrets || slices.Contains(m.secrets, secret) {
		return
	}
	m.secrets = append(m.secrets, secret)
	m.build()
	// What is held back is read again with the new patterns.
	held, hidden := m.pending, m.hidden
	m.pending, m.hidden, m.state = nil, nil, 0
	for i, c := range held {
		m.step(c)
		m.hidden[len(m.hidden)-1] = m.hidden[len(m.hidden)-1] || hidden[i]
	}
}

func (m *masker) build() {
	m.next, m.longest, m.depth = [][256]int32{{}}, []int{0}, []int{0}
	for _, s := range m.secrets {
		for _, p := range Patterns(s) {
			if len(m.next)+len(p) > maxStates {
				break
			}
			at := int32(0)
			for i := range len(p) {
				if m.next[at][p[i]] == 0 {
					m.next = append(m.next, [256]int32{})
					m.longest, m.depth = append(m.longest, 0), append(m.depth, i+1)
					m.next[at][p[i]] = int32(len(m.next) - 1)
				}
				at = m.next[at][p[i]]
			}
			m.longest[at] = len(p)
		}
	}
	// Breadth first, so that the state to fall back to is complete.
	fail := make([]int32, len(m.next))
	var queue []int32
	for _, s := range m.next[0] {
		if s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		m.longest[at] = max(m.longest[at], m.longest[fail[at]])
		for c := range 256 {
			if s := m.next[at][c]; s != 0 {
				fail[s] = m.next[fail[at]][c]
				queue = append(queue, s)
			} else {
				m.next[at][c] = m.next[fail[at]][c]
			}
		}
	}
}

func (m *masker) step(c byte) {
	m.pending, m.hidden = append(m.pending, c), append(m.hidden, false)
	m.state = m.next[m.state][c]
	for i := range m.longest[m.state] {
		m.hidden[len(m.hidden)-1-i] = true
	}
}

// write appends the masked form of p to dst.
func (m *masker) write(dst, p []byte) []byte {
	if len(m.next) == 0 {
		return append(dst, p...)
	}
	for _, c := range p {
		m.step(c)
	}
	return m.release(dst, len(m.pending)-m.depth[m.state])
}

// flush appends what was held back: nothing follows that could complete a pattern.
func (m *masker) flush(dst []byte) []byte {
	m.state = 0
	dst = m.release(dst, len(m.pending))
	m.inMask = false
	return dst
}

func (m *masker) release(dst []byte, n int) []byte {
	for i := range n {
		switch {
		case !m.hidden[i]:
			dst = append(dst, m.pending[i])
		case !m.inMask:
			dst = append(dst, "***"...)
		}
		m.inMask = m.hidden[i]
	}
	m.pending = append(m.pending[:0], m.pending[n:]...)
	m.hidden = append(m.hidden[:0], m.hidden[n:]...)
	return dst
}
