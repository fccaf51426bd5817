package blob

import (
	"bytes"
	"errors"
	"io"
)

// Small is the size of the largest blob that is worth no file of its own.
const Small = 8 << 10

// Head reads what is small whole. Of what is large it returns everything as rest, and no head.
func Head(r io.Reader) (head []byte, rest io.Reader, err error) {
	b := make([]byte, Small+1)
	n := 0
	// Not ReadFull, which cannot tell an end from a reader that broke off with io.ErrUnexpectedEOF.
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	switch {
	case n == len(b):
		return nil, io.MultiReader(bytes.NewReader(b), then{r, err}), nil
	case errors.Is(err, io.EOF):
		return b[:n], nil, nil
	}
	return nil, nil, err
}

// then is a reader that has said something already.
type then struct {
	r   io.Reader
	err error
}

func (t then) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	return t.r.Read(p)
}
