// Package spec reads workflow files: GitHub Actions syntax, checked by actionlint and then by a second, stricter reading that
// keeps exactly what Weir runs. Whatever the second reading does not know is refused by name, with file, line and column:
// nothing a user wrote is ever silently ignored.
//
// Parse is pure and bounded; a file may be hostile.
package spec
