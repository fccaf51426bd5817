package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKindAndSentenceSurviveWrapping(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("save run: %w", Wrap(Unavailable, cause, "The disk of %s is full.", "/data"))
	if got := KindOf(err); got != Unavailable {
		t.Errorf("KindOf() = %q; want %q", got, Unavailable)
	}
	if got, want := Sentence(err), "The disk of /data is full."; got != want {
		t.Errorf("Sentence() = %q; want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestInternalErrorsGiveNothingAway(t *testing.T) {
	if s := Sentence(errors.New("password=hunter2")); strings.Contains(s, "hunter2") {
		t.Errorf("Sentence() = %q; it shows an internal error", s)
	}
	if k := KindOf(errors.New("x")); k != "" {
		t.Errorf("KindOf() = %q; want none", k)
	}
}
