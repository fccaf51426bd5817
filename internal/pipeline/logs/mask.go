package logs

import "slices"

// masker replaces patterns in a stream. It keeps back what could be the beginning of one, so that it does not matter how the
// stream is cut into writes.
//
// It is an automaton over all patterns of all secrets with dense transitions: a byte costs one look-up whatever their number.
type masker struct {
	class   [256]uint8 // bytes that no pattern tells apart are one class, which keeps the table small
	classes int32
	next    []int32 // by state and class
	longest []int32 // length of the longest pattern that ends in a state
	depth   []int32
	state   int32
	pending []byte // what has come in and not gone out
	hidden  []span // of pending, in order, not touching
	secrets []string
	inMask  bool // the last byte that went out was masked
}

type span struct{ from, to int }

// add hides a secret from here on. It reports false if there is no room for one more.
func (m *masker) add(secret string) bool {
	if slices.Contains(m.secrets, secret) || len(Patterns(secret)) == 0 {
		return true
	}
	if len(m.secrets) >= maxSecrets {
		return false
	}
	m.secrets = append(m.secrets, secret)
	if !m.build() {
		m.secrets = m.secrets[:len(m.secrets)-1]
		m.build()
		return false
	}
	// What is held back is read again with the new patterns.
	was := m.hidden
	m.hidden, m.state = nil, 0
	m.scan(0)
	for _, s := range was {
		m.hide(s.from, s.to)
	}
	return true
}

// build makes the automaton; false if it would be too large.
func (m *masker) build() bool {
	var patterns []string
	total := 1
	for _, s := range m.secrets {
		for _, p := range Patterns(s) {
			patterns = append(patterns, p)
			total += len(p)
		}
	}
	m.class, m.classes = [256]uint8{}, 1
	for _, p := range patterns {
		for i := range len(p) {
			if m.class[p[i]] == 0 && m.classes < 256 {
				m.class[p[i]] = uint8(m.classes)
				m.classes++
			}
		}
	}
	if int64(total)*int64(m.classes) > maxTable {
		return false
	}
	row := make([]int32, m.classes)
	m.next, m.longest, m.depth = slices.Clone(row), []int32{0}, []int32{0}
	for _, p := range patterns {
		at := int32(0)
		for i := range len(p) {
			to := &m.next[at*m.classes+int32(m.class[p[i]])]
			if *to == 0 {
				*to = int32(len(m.depth))
				m.longest, m.depth = append(m.longest, 0), append(m.depth, int32(i+1))
				at = *to
				m.next = append(m.next, row...)
				continue
			}
			at = *to
		}
		m.longest[at] = int32(len(p))
	}
	m.link()
	return true
}

// link adds the transitions of falling back, breadth first, so that the state to fall back to is complete.
func (m *masker) link() {
	fail := make([]int32, len(m.depth))
	var queue []int32
	for _, s := range m.next[:m.classes] {
		if s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		m.longest[at] = max(m.longest[at], m.longest[fail[at]])
		for c := range m.classes {
			back := m.next[fail[at]*m.classes+c]
			if s := m.next[at*m.classes+c]; s != 0 {
				fail[s] = back
				queue = append(queue, s)
			} else {
				m.next[at*m.classes+c] = back
			}
		}
	}
}

// scan reads pending from a place on.
func (m *masker) scan(from int) {
	if len(m.next) == 0 {
		return
	}
	state, next, longest, classes, class := m.state, m.next, m.longest, m.classes, &m.class
	for i, c := range m.pending[from:] {
		state = next[state*classes+int32(class[c])]
		if n := longest[state]; n > 0 {
			m.hide(from+i+1-int(n), from+i+1)
		}
	}
	m.state = state
}

// hide adds a span. Spans come in the order of their ends, save the few that add puts back.
func (m *masker) hide(from, to int) {
	for n := len(m.hidden); n > 0 && m.hidden[n-1].to >= from; n-- {
		last := m.hidden[n-1]
		if last.from > to { // it lies behind: rare, and only after add
			m.hidden = append(m.hidden, span{from, to})
			m.settle()
			return
		}
		from, to = min(from, last.from), max(to, last.to)
		m.hidden = m.hidden[:n-1]
	}
	m.hidden = append(m.hidden, span{from, to})
}

// settle brings spans into order and joins them.
func (m *masker) settle() {
	all := slices.SortedFunc(slices.Values(m.hidden), func(a, b span) int { return a.from - b.from })
	m.hidden = m.hidden[:0]
	for _, s := range all {
		if n := len(m.hidden); n > 0 && m.hidden[n-1].to >= s.from {
			m.hidden[n-1].to = max(m.hidden[n-1].to, s.to)
			continue
		}
		m.hidden = append(m.hidden, s)
	}
}

// write appends the masked form of p to dst.
func (m *masker) write(dst, p []byte) []byte {
	if len(m.next) == 0 {
		return append(dst, p...)
	}
	from := len(m.pending)
	m.pending = append(m.pending, p...)
	m.scan(from)
	return m.release(dst, len(m.pending)-int(m.depth[m.state]))
}

// flush appends what was held back: nothing follows that could complete a pattern.
func (m *masker) flush(dst []byte) []byte {
	m.state = 0
	dst = m.release(dst, len(m.pending))
	m.inMask = false
	return dst
}

// release lets the first n bytes of pending go.
func (m *masker) release(dst []byte, n int) []byte {
	at, used := 0, 0
	for _, s := range m.hidden {
		if s.from >= n {
			break
		}
		if s.from > at {
			dst = append(dst, m.pending[at:s.from]...)
			m.inMask = false
		}
		if !m.inMask {
			dst = append(dst, "***"...)
		}
		at, m.inMask = min(s.to, n), true
		if s.to > n {
			break
		}
		used++
	}
	if at < n {
		dst = append(dst, m.pending[at:n]...)
		m.inMask = false
	}
	m.pending = append(m.pending[:0], m.pending[n:]...)
	m.hidden = append(m.hidden[:0], m.hidden[used:]...)
	for i := range m.hidden {
		m.hidden[i].from, m.hidden[i].to = max(0, m.hidden[i].from-n), m.hidden[i].to-n
	}
	return dst
}
