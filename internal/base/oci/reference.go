package oci

import (
	"regexp"
	"strings"

	"weir/internal/base/fault"
)

// Reference names an image: [HOST/]REPOSITORY[:TAG][@DIGEST].
type Reference struct {
	Host       string // "" is Weir's own registry
	Repository string
	Tag        string // "latest" if neither tag nor digest is given
	Digest     string
}

var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestForm     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	hostForm       = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
)

// Parse reads the name of an image as workflows write it. As everywhere, the first part is a host if it has a dot or a port, or is
// localhost.
func Parse(name string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, fault.New(fault.Invalid, "%q is no name of an image: %s. Write NAME:TAG, NAME@sha256:DIGEST or HOST/NAME:TAG", clip(name), why)
	}
	if len(name) > 512 {
		return bad("it is longer than 512 characters")
	}
	var r Reference
	rest := name
	if before, digest, ok := strings.Cut(rest, "@"); ok {
		if rest, r.Digest = before, digest; !digestForm.MatchString(digest) {
			return bad("what follows the @ is not sha256: and 64 hexadecimal digits")
		}
	}
	if first, more, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(first, ".:[") || first == "localhost") {
		if r.Host, rest = first, more; !hostForm.MatchString(first) {
			return bad("its first part is no host")
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		if r.Tag, rest = rest[i+1:], rest[:i]; !tagForm.MatchString(r.Tag) {
			return bad("what follows the colon cannot be a tag")
		}
	}
	if r.Repository = rest; len(rest) > 255 || !repositoryForm.MatchString(rest) {
		return bad("names are small letters and digits, in parts joined by . _ - or /")
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// Name is the reference without tag and digest.
func (r Reference) Name() string {
	if r.Host != "" {
		return r.Host + "/" + r.Repository
	}
	return r.Repository
}

// String is the reference as it was meant.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// wanted is what a registry is asked for: the digest if there is one.
func (r Reference) wanted() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
