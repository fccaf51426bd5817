// Package source governs what becomes part of a trunk: repositories, refs,
// changes, reviews, checks, and the rules that admit a merge.
//
// A change is one proposed merge with immutable patchsets:
//
//	open --new patchset--> open --gate says yes--> landed
//	  \--> abandoned
//
// Promises:
//   - The database's row of a ref is the truth. A push is acknowledged after its
//     objects are in the blob store and ref, fact and ledger entry are committed
//     in one transaction; the bare repository on disk is a cache that is brought
//     in line before it is used.
//   - The first push to an empty repository is a bootstrap and recorded as such.
//     After it, a trunk moves only by landing a change: a fast-forward to exactly
//     the revision that was checked and reviewed. That binds admins, too.
//   - The rules that guard a change come from the target branch, never from the
//     change itself.
package source
