// Package fault holds the kinds of errors that cross layers and the sentence a
// user may read.
//
// Everything that is not a fault is internal: the user gets a sentence and a
// request id, the log has the rest.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong, from the caller's point of view.
type Kind string

// The kinds. One table per edge turns them into a status or an exit code.
const (
	NotFound    Kind = "not_found"
	Conflict    Kind = "conflict"
	Invalid     Kind = "invalid"
	Denied      Kind = "denied"
	Unavailable Kind = "unavailable"
)

// A fault is an error with a kind and a sentence that may be shown to a user.
type fault struct {
	kind     Kind
	sentence string
	cause    error
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.sentence + ": " + f.cause.Error()
	}
	return f.sentence
}

func (f *fault) Unwrap() error { return f.cause }

// New returns a fault. The sentence says what is wrong, where, and what to do.
func New(kind Kind, sentence string, args ...any) error {
	return &fault{kind: kind, sentence: fmt.Sprintf(sentence, args...)}
}

// Wrap returns a fault caused by err. The user reads only the sentence.
func Wrap(kind Kind, err error, sentence string, args ...any) error {
	return &fault{kind: kind, sentence: fmt.Sprintf(sentence, args...), cause: err}
}

// KindOf returns the kind of the outermost fault in err's chain, or "" if err is internal.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.kind
	}
	return ""
}

// Is reports whether err is a fault of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Sentence returns what a user may read of err: the fault's sentence, or a
// general one that gives nothing away.
func Sentence(err error) string {
	if err == nil {
		return ""
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f.sentence
	}
	return "Weir could not do this because of an internal error. The log has the details under this request's id."
}
