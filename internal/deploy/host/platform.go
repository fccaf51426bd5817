package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
)

const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// imageIndex names the images of several platforms.
type imageIndex struct {
	MediaType string `json:"mediaType"`
	Manifests []struct {
		descriptor
		Platform struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
		} `json:"platform"`
	} `json:"manifests"`
}

// platformOf returns the digest of the image for this machine if raw is an
// index, and "" if it is an image itself. What is signed is the index; the image
// is bound to it by its digest.
func platformOf(raw []byte) (string, error) {
	var i imageIndex
	if json.Unmarshal(raw, &i) != nil || i.Manifests == nil && i.MediaType != ociIndex && i.MediaType != dockerIndex {
		return "", nil
	}
	var have []string
	for _, m := range i.Manifests {
		if p := m.Platform; p.OS == "linux" && p.Architecture == runtime.GOARCH {
			if !validDigest(m.Digest) {
				return "", fmt.Errorf("its index names the image %q", m.Digest)
			}
			return m.Digest, nil
		} else if p.OS != "unknown" {
			have = append(have, p.OS+"/"+p.Architecture)
		}
	}
	return "", errors.New("it has no image for linux/" + runtime.GOARCH + ", only for " + strings.Join(have, ", "))
}
