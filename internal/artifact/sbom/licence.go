package sbom

import (
	"regexp"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// ids are the licences of the SPDX list that packages name. One that is missing
// here is passed on by its name.
var ids = func() map[string]bool {
	m := map[string]bool{}
	for id := range strings.FieldsSeq(`0BSD AFL-2.1 AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-2.0
		BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 bzip2-1.0.6 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-4.0 CC0-1.0
		CDDL-1.0 CDDL-1.1 curl EPL-1.0 EPL-2.0 EUPL-1.2 FTL GFDL-1.3 GPL-1.0-only GPL-1.0-or-later GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later
		HPND ICU ISC IJG JSON LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only LGPL-3.0-or-later Libpng MIT MIT-0 MPL-1.1 MPL-2.0
		MS-PL MulanPSL-2.0 NCSA OFL-1.1 OpenSSL PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 Python-2.0.1 Ruby SSPL-1.0 TCL Unicode-3.0 Unicode-DFS-2016 Unlicense UPL-1.0 Vim W3C WTFPL
		X11 Zlib ZPL-2.1 BUSL-1.1 Elastic-2.0 GCC-exception-3.1 Classpath-exception-2.0 LLVM-exception`) {
		m[id] = true
	}
	return m
}()

// expression is the form of an SPDX licence expression.
var expression = regexp.MustCompile(`^\(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*( (AND|OR|WITH) \(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*)*$`)

// known reports whether said is an SPDX expression over licences of the list.
func known(said string) bool {
	if !expression.MatchString(said) || strings.Count(said, "(") != strings.Count(said, ")") {
		return false
	}
	for word := range strings.FieldsSeq(strings.NewReplacer("(", " ", ")", " ").Replace(said)) {
		if word != "AND" && word != "OR" && word != "WITH" && !ids[strings.TrimSuffix(word, "+")] && !ids[word] {
			return false
		}
	}
	return true
}

// licences is what a package says of itself: an id or an expression of SPDX where
// it is one, a name otherwise.
func licences(said string) *cdx.Licenses {
	said = strings.Join(strings.Fields(said), " ")
	switch {
	case said == "" || len(said) > 500:
		return nil
	case ids[said]:
		return &cdx.Licenses{{License: &cdx.License{ID: said}}}
	case known(said):
		return &cdx.Licenses{{Expression: said}}
	}
	return &cdx.Licenses{{License: &cdx.License{Name: said}}}
}
