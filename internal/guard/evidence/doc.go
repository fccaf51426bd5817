// Package evidence is what is known about a revision or an artifact, signed so
// that anybody can check it without asking this server.
//
// A statement (in-toto v1) says something about one or more subjects, each
// named by digest: an image by sha256, a commit by gitCommit. Sign turns it
// into a sigstore bundle v0.3 that stock cosign accepts offline:
//
//   - a leaf certificate for ten minutes, naming who signed as a URI,
//     with an embedded certificate timestamp from our own CT key;
//   - a DSSE envelope signed by a key that exists only in memory, once;
//   - an RFC 3161 timestamp over the signature, so that it verifies long
//     after the certificate has expired;
//   - an entry (hashedrekord 0.0.2) in the ledger with its inclusion proof.
//
// A signature passes two states:
//
//	signed    the row and its log entry exist, stored in one transaction
//	complete  the log has given the entry a position; the bundle is stored
//
// Promises: a statement is signed at most once for each (predicate type,
// subject, key), whatever crashes in between; a second Sign returns the first
// answer. A signature left in state signed is completed by Run after a restart.
// Verify is pure: it needs a bundle and a trusted root, no server and no
// network, and always wants a predicate type, because an image that carries
// only an SBOM is not a signed image.
package evidence
