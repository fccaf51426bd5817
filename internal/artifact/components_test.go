package artifact

import (
	"slices"
	"testing"

	"weir/internal/guard/evidence"
)

func TestCompareNamesWhatWasAddedRemovedAndMoved(t *testing.T) {
	lib := func(name, version string) Component { return Component{Kind: "library", Name: name, Version: version} }
	file := func(name, hash string) Component { return Component{Kind: "file", Name: name, Hash: hash} }
	before := []Component{lib("a", "1"), lib("gone", "1"), lib("same", "1"), lib("two", "1"), lib("two", "2"), file("index.html", "aa"), file("old.css", "bb")}
	after := []Component{lib("a", "2"), lib("new", "1"), lib("same", "1"), lib("two", "2"), lib("two", "3"), file("index.html", "cc")}
	want := []Changed{{"library", "a", "1", "2"}, {"library", "gone", "1", ""}, {"file", "index.html", "aa", "cc"}, {"library", "new", "", "1"}, {"file", "old.css", "bb", ""},
		{"library", "two", "", "3"}, {"library", "two", "1", ""}}
	if got := Compare(before, after); !slices.Equal(got, want) {
		t.Errorf("Compare() = %v\nwant %v", got, want)
	}
	if got := Compare(before, before); len(got) != 0 {
		t.Errorf("Compare() of the same = %v", got)
	}
	of := func(licence string) []Component {
		return []Component{{Kind: "library", Name: "a", Version: "1", Licence: licence}}
	}
	if got := Compare(of("MIT"), of("BUSL-1.1")); !slices.Equal(got, []Changed{{"licence", "a", "MIT", "BUSL-1.1"}}) {
		t.Errorf("Compare() of another licence = %v", got)
	}
	if got := Compare(of(""), of("MIT")); len(got) != 0 {
		t.Errorf("Compare() of a licence that is known now = %v", got)
	}
	if got := Compare(nil, nil); len(got) != 0 {
		t.Errorf("Compare() of nothing = %v", got)
	}
}

func TestSBOMThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := components(evidence.Evidence{ID: "ev_1", Statement: []byte(`{"predicate": 7}`)}); err == nil {
		t.Error("components() of a number is no error")
	}
}
