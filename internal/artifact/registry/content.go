package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/fault"
)

// What a manifest may have at most. Images that people build have a tenth of it.
const (
	maxDepth       = 20     // of objects and lists
	maxDescriptors = 1000   // layers, or manifests of an index
	maxAnnotations = 16_000 // bytes of all keys and values, where a list of referrers or an index repeats them
	maxNesting     = 4      // of indexes that name indexes
	maxNamed       = 5000   // manifests that an index reaches
	maxReferrers   = 2000   // of one subject, by people and jobs
	maxTagsAtOnce  = 100
	maxBlobSize    = 1 << 42
)

// content is what the registry reads of a manifest or an index.
type content struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *named            `json:"config"`
	Layers        []named           `json:"layers"`
	Blobs         []named           `json:"blobs"` // of the artifact manifest that OCI gave up
	Manifests     []named           `json:"manifests"`
	Subject       *named            `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// named is a descriptor inside of a manifest.
type named struct {
	artifact.Descriptor
	URLs []string `json:"urls"`
	Data *string  `json:"data"`
}

// refused is a manifest that is not taken.
func refused(sentence string, args ...any) error {
	return artifact.Refuse(artifact.ManifestInvalid, fault.Invalid, sentence, args...)
}

// parse reads a hostile manifest and refuses one that two readers could take for two things. mediaType is what the client says it is,
// "" if nothing; foreign lets layers stay elsewhere.
func parse(raw []byte, mediaType string, foreign bool) (c content, err error) {
	if err := plain(raw); err != nil {
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, refused("the manifest is not JSON of the shape of an image manifest or index")
	}
	if c.MediaType, err = c.mediaType(mediaType); err != nil {
		return c, err
	}
	index := c.MediaType == artifact.MediaIndex || strings.HasSuffix(c.MediaType, ".manifest.list.v2+json")
	switch {
	case c.SchemaVersion != 2 && c.SchemaVersion != 0:
		return c, refused("the manifest has schemaVersion %d; only 2 is taken. Push the image with a client of this decade.", c.SchemaVersion)
	case len(c.Blobs) > 0:
		return c, refused("the manifest has blobs, as OCI's artifact manifest had before it was given up; push it as an image manifest with layers and an artifactType")
	case len(c.Manifests) > 0 && (len(c.Layers) > 0 || c.Config != nil):
		return c, refused("the manifest has both manifests, as an index has, and config or layers, as an image has; it must be one of the two")
	case index && (len(c.Layers) > 0 || c.Config != nil):
		return c, refused("the manifest is of the media type %s and has config or layers, which only an image has", c.MediaType)
	case !index && len(c.Manifests) > 0 && strings.Contains(c.MediaType, "manifest.v"):
		return c, refused("the manifest is of the media type %s and has manifests, which only an index has", c.MediaType)
	case len(c.Layers) > maxDescriptors:
		return c, refused("the manifest names %d layers; at most %d are taken", len(c.Layers), maxDescriptors)
	case len(c.Manifests) > maxDescriptors:
		return c, refused("the index names %d manifests; at most %d are taken", len(c.Manifests), maxDescriptors)
	case !mediaForm(c.ArtifactType):
		return c, refused("the artifactType %.80q is not a media type", c.ArtifactType)
	}
	if err := c.descriptors(foreign); err != nil || c.Subject == nil {
		return c, err
	}
	return c, annotations("the manifest", c.Annotations)
}

// mediaType is what both the client's header and the manifest say it is.
func (c content) mediaType(header string) (string, error) {
	if header != "" {
		m, _, err := mime.ParseMediaType(header)
		if err != nil {
			return "", refused("the Content-Type %.80q is not a media type", header)
		}
		header = m
	}
	switch {
	case !mediaForm(c.MediaType):
		return "", refused("the mediaType %.80q is not a media type", c.MediaType)
	case header == "" || header == "application/json" && c.MediaType != "":
		return c.MediaType, nil
	case c.MediaType != "" && c.MediaType != header:
		return "", refused("the manifest says that it is %s and was sent as %s; whoever pulls it would take it for one or the other", c.MediaType, header)
	}
	return header, nil
}

func mediaForm(s string) bool {
	if s == "" {
		return true
	}
	m, params, err := mime.ParseMediaType(s)
	return err == nil && len(s) <= 255 && len(params) == 0 && strings.Contains(m, "/")
}

// descriptors refuses what no client can follow, and what leads clients elsewhere.
func (c content) descriptors(foreign bool) error {
	all := append(append([]named{}, c.Layers...), c.Manifests...)
	if c.Config != nil {
		all = append(all, *c.Config)
	}
	if c.Subject != nil {
		all = append(all, *c.Subject)
	}
	for _, d := range all {
		switch {
		case !artifact.ValidDigest(d.Digest):
			return artifact.Refuse(artifact.DigestInvalid, fault.Invalid, "the manifest names %.80q, which is not a digest; write sha256: and 64 hexadecimal digits, or sha512: and 128", d.Digest)
		case d.Size < 0 || d.Size > maxBlobSize:
			return refused("the manifest gives %s a size of %d bytes", d.Digest, d.Size)
		case len(d.URLs) > 0 && !foreign:
			return refused("the manifest sends clients to %.80q for %s; foreign layers are not taken. Push the bytes here and leave out urls, or have an admin set registry.foreign_layers.", d.URLs[0], d.Digest)
		case len(d.URLs) > 100:
			return refused("the manifest gives %d addresses for %s", len(d.URLs), d.Digest)
		case !mediaForm(d.MediaType) || !mediaForm(d.ArtifactType):
			return refused("the manifest gives %s the media type %.80q, which is none", d.Digest, d.MediaType+d.ArtifactType)
		}
		if d.Data != nil {
			b, err := base64.StdEncoding.DecodeString(*d.Data)
			if err != nil || int64(len(b)) != d.Size || sumOf(d.Digest, b) != d.Digest {
				return refused("the data that the manifest carries for %s are not those bytes", d.Digest)
			}
		}
		if err := annotations("the descriptor of "+d.Digest, d.Annotations); err != nil {
			return err
		}
	}
	return nil
}

func sumOf(like string, b []byte) string {
	h := hasher(like)
	h.Write(b)
	return name(like, h)
}

func annotations(of string, all map[string]string) error {
	n := 0
	for k, v := range all {
		if k == "" {
			return refused("%s has an annotation without a name", of)
		}
		n += len(k) + len(v)
	}
	if n > maxAnnotations {
		return refused("%s has %d bytes of annotations; at most %d are taken. Put them into a layer.", of, n, maxAnnotations)
	}
	return nil
}

// foreign reports whether clients get a layer elsewhere.
func (d named) foreign() bool { return len(d.URLs) > 0 }

// edges is what the manifest names, each once.
func (c content) edges() []artifactdb.Edge {
	var out []artifactdb.Edge
	if c.Config != nil {
		out = append(out, artifactdb.Edge{Child: c.Config.Digest})
	}
	for _, d := range c.Layers {
		out = append(out, artifactdb.Edge{Child: d.Digest})
	}
	for _, d := range c.Manifests {
		out = append(out, artifactdb.Edge{Child: d.Digest, Manifest: true})
	}
	return out
}

// known are the keys that mean something; another spelling of one is a key that only some readers see.
var known = map[string]string{}

func init() {
	for _, k := range []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations", "digest", "size", "urls", "data", "platform"} {
		known[strings.ToLower(k)] = k
	}
}

// plain refuses JSON that is not one object, is nested too deep, or whose meaning depends on who reads it: a key given twice, or in
// another spelling. Keys of annotations and platforms are the user's own.
func plain(raw []byte) error {
	if !utf8.Valid(raw) {
		return refused("the manifest is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct {
		object bool
		key    bool // the next token is a key
		name   string
		keys   map[string]bool
	}
	var stack []level
	value := func() { // a value has ended
		if n := len(stack); n > 0 && stack[n-1].object {
			stack[n-1].key = true
		}
	}
	for first := true; ; first = false {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && !first && len(stack) == 0 {
			return nil
		}
		if err != nil || first && t != json.Delim('{') {
			return refused("the manifest is not JSON of the shape of an image manifest or index")
		}
		if !first && len(stack) == 0 {
			return refused("the manifest has more after its end")
		}
		top := len(stack) - 1
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '{', '[':
				l := level{object: t == '{', key: t == '{'}
				if top >= 0 {
					l.name = stack[top].name
				}
				if stack = append(stack, l); len(stack) > maxDepth {
					return refused("the manifest is nested more than %d deep", maxDepth)
				}
			default:
				stack = stack[:top]
				value()
			}
		case string:
			if top >= 0 && stack[top].key {
				l := &stack[top]
				if l.keys[t] {
					return refused("the manifest has %.80q twice in one object; readers would see one or the other", t)
				}
				if k, ok := known[strings.ToLower(t)]; ok && k != t && l.name != "annotations" && l.name != "platform" {
					return refused("the manifest has %.80q, which some readers take for %q; write it as that or leave it out", t, k)
				}
				if l.keys == nil {
					l.keys = map[string]bool{}
				}
				l.keys[t], l.key = true, false
				if top == 0 || l.name != "annotations" {
					stack[top].name = t
				}
				continue
			}
			value()
		default:
			value()
		}
	}
}
