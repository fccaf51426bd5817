// Package sbom lists what is inside an artifact, as CycloneDX 1.6 and as SPDX 2.3. A Go binary
// carries the list of its modules; a folder of files is listed file by file; an
// image is searched for the packages that its layers have installed. The same
// artifact gives the same list, byte for byte.
package sbom

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"

	"weir/internal/base/fault"
)

// Subject is what the list is about.
type Subject struct {
	Name    string
	Version string
	Digest  string // of the image
	Created time.Time
	Bases   []Base // images that it was built from
}

// Base is an image that another was built from.
type Base struct{ Name, Digest string }

// maxListed is how many files are listed one by one.
const maxListed = 20_000

// FromGo reads the modules of a Go binary.
func FromGo(s Subject, binary io.ReaderAt, modules *Modules) (*Document, error) {
	info, err := buildinfo.Read(binary)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the binary of %s does not list its modules; build it with go build, in module mode", s.Name)
	}
	root := "app:" + s.Name
	list := fromBuildInfo(info, modules)
	bom := document(s, root, list)
	bom.Metadata.Component.Properties = &[]cdx.Property{{Name: "go:package", Value: info.Path}, {Name: "go:version", Value: info.GoVersion}}
	return &Document{bom}, nil
}

// FromFiles lists the files of a tar archive with their digests.
func FromFiles(s Subject, files io.Reader) (*Document, error) {
	var list []cdx.Component
	for t := tar.NewReader(files); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the files of %s are not a readable tar archive", s.Name)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, t); err != nil {
			return nil, fmt.Errorf("read %s: %w", h.Name, err)
		}
		name := path.Clean(h.Name)
		list = append(list, cdx.Component{BOMRef: "file:" + name, Type: cdx.ComponentTypeFile, Name: name,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum.Sum(nil))}}})
		if len(list) > maxListed {
			return nil, fault.New(fault.Invalid, "%s has more than %d files, too many to list; leave out what is not served", s.Name, maxListed)
		}
	}
	return &Document{document(s, "app:"+s.Name, list)}, nil
}

func document(s Subject, root string, list []cdx.Component) *cdx.BOM {
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	list = slices.CompactFunc(list, func(a, b cdx.Component) bool { return a.BOMRef == b.BOMRef })
	var refs []string
	for _, c := range list {
		refs = append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SpecVersion = cdx.SpecVersion1_6
	bom.JSONSchema = "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceOID, []byte(s.Digest)).String()
	bom.Metadata = &cdx.Metadata{
		Timestamp: s.Created.UTC().Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: root, Type: cdx.ComponentTypeApplication, Name: s.Name, Version: s.Version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: strings.TrimPrefix(s.Digest, "sha256:")}}},
	}
	bom.Components = &list
	bom.Dependencies = &[]cdx.Dependency{{Ref: root, Dependencies: &refs}}
	return bom
}

// Document is a list that can be written in more than one format.
type Document struct{ bom *cdx.BOM }

// CycloneDX is the list as CycloneDX 1.6.
func (d *Document) CycloneDX() (json.RawMessage, error) {
	var b bytes.Buffer
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetEscapeHTML(false).EncodeVersion(d.bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encode SBOM: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
