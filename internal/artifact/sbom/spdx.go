package sbom

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// The parts of an SPDX 2.3 document, in the order and the names of its JSON form.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
	Licences      []spdxLicence      `json:"hasExtractedLicensingInfos,omitempty"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID         string         `json:"SPDXID"`
	Name       string         `json:"name"`
	Version    string         `json:"versionInfo,omitempty"`
	Download   string         `json:"downloadLocation"`
	Analyzed   bool           `json:"filesAnalyzed"`
	Purpose    string         `json:"primaryPackagePurpose,omitempty"`
	Checksums  []spdxChecksum `json:"checksums,omitempty"`
	Concluded  string         `json:"licenseConcluded"`
	Declared   string         `json:"licenseDeclared"`
	Copyright  string         `json:"copyrightText"`
	Comment    string         `json:"comment,omitempty"`
	References []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

type spdxLicence struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
	Name string `json:"name"`
}

const unknown = "NOASSERTION"

var (
	purposes = map[cdx.ComponentType]string{cdx.ComponentTypeApplication: "APPLICATION", cdx.ComponentTypeLibrary: "LIBRARY", cdx.ComponentTypeFile: "FILE", cdx.ComponentTypeContainer: "CONTAINER"}
	sums     = map[cdx.HashAlgorithm]string{cdx.HashAlgoSHA1: "SHA1", cdx.HashAlgoSHA256: "SHA256", cdx.HashAlgoSHA512: "SHA512"}
)

// SPDX is the list as SPDX 2.3. It says what the CycloneDX document says: a file
// is a package with the purpose FILE, since SPDX asks of a file for a SHA-1.
func (d *Document) SPDX() (json.RawMessage, error) {
	root := d.bom.Metadata.Component
	digest := (*root.Hashes)[0].Value
	out := spdxDocument{Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: root.Name + "-" + root.Version, Namespace: "https://weir.dev/spdx/" + digest,
		Creation: spdxCreation{d.bom.Metadata.Timestamp, []string{"Tool: weir"}}}
	w := spdxWriter{licences: map[string]string{}}
	top := w.pack(*root, "SPDXRef-Package-0")
	out.Packages = append(out.Packages, top)
	out.Relationships = append(out.Relationships, spdxRelationship{out.ID, "DESCRIBES", top.ID})
	for i, c := range *d.bom.Components {
		p := w.pack(c, fmt.Sprintf("SPDXRef-Package-%d", i+1))
		out.Packages = append(out.Packages, p)
		kind := "CONTAINS"
		if c.Type == cdx.ComponentTypeContainer {
			kind = "DESCENDANT_OF"
		}
		out.Relationships = append(out.Relationships, spdxRelationship{top.ID, kind, p.ID})
	}
	out.Licences = w.named
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("encode SPDX: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// spdxWriter numbers the licences that have no place in SPDX's list.
type spdxWriter struct {
	licences map[string]string
	named    []spdxLicence
}

func (w *spdxWriter) pack(c cdx.Component, id string) spdxPackage {
	p := spdxPackage{ID: id, Name: c.Name, Version: c.Version, Download: unknown, Purpose: purposes[c.Type], Concluded: unknown, Declared: unknown, Copyright: unknown}
	if c.Hashes != nil {
		for _, h := range *c.Hashes {
			if _, err := hex.DecodeString(h.Value); err == nil && sums[h.Algorithm] != "" {
				p.Checksums = append(p.Checksums, spdxChecksum{sums[h.Algorithm], h.Value})
			}
		}
	}
	if c.Properties != nil {
		for _, x := range *c.Properties {
			if x.Name == "go:sum" {
				p.Comment = "go.sum " + x.Value
			}
		}
	}
	if c.PackageURL != "" {
		p.References = []spdxRef{{"PACKAGE-MANAGER", "purl", c.PackageURL}}
	}
	if c.Licenses != nil {
		p.Declared = w.licence(*c.Licenses)
	}
	return p
}

func (w *spdxWriter) licence(all cdx.Licenses) string {
	var parts []string
	for _, l := range all {
		switch {
		case l.Expression != "":
			parts = append(parts, l.Expression)
		case l.License != nil && l.License.ID != "":
			parts = append(parts, l.License.ID)
		case l.License != nil:
			id, ok := w.licences[l.License.Name]
			if !ok {
				id = fmt.Sprintf("LicenseRef-%d", len(w.named)+1)
				w.licences[l.License.Name] = id
				w.named = append(w.named, spdxLicence{id, l.License.Name, l.License.Name})
			}
			parts = append(parts, id)
		}
	}
	if len(parts) > 1 {
		return "(" + strings.Join(parts, ") AND (") + ")"
	}
	return strings.Join(parts, "")
}
