package artifact

import (
	"path"
	"regexp"
	"strings"

	"weir/internal/base/fault"
)

// RegistryName is where in the registry the images of a service are kept: the repository of its source, and its own name if
// that is another one.
func RegistryName(repository, service string) (string, error) {
	name := strings.ToLower(repository)
	if path.Base(name) != strings.ToLower(service) {
		name += "/" + strings.ToLower(service)
	}
	if !ValidRepository(name) {
		return "", fault.New(fault.Invalid, "%q cannot name a repository of the registry; rename the repository or the service to letters, digits, dots and dashes", name)
	}
	return name, nil
}

var releaseTag = regexp.MustCompile(`^\d+\.\d+\.\d+-[0-9a-f]{7,40}$`)

// IsReleaseTag reports whether t has the form of tags that never move: a semantic version and a commit.
func IsReleaseTag(t string) bool { return releaseTag.MatchString(t) }
