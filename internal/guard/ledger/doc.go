// Package ledger says what was done: an append-only, tamper-evident record of
// every decision, and of every signature.
//
// It is one Merkle log (RFC 6962 hashes, C2SP signed-note checkpoints). Audit
// entries and the bodies of signatures are leaves of the same tree, so that a
// promotion, an approval and a signature have the same kind of inclusion proof.
//
// An entry is appended in the transaction of the action that it records: an
// action cannot happen unlogged. Its position is given afterwards by one leased,
// fenced sequencer, which also extends the tree and signs a checkpoint:
//
//	appended --sequenced--> in the tree --covered by a checkpoint--> provable
//
// The signing key stays outside the database, and so does the newest checkpoint
// that was signed (see Anchor): a restored older copy of the database cannot
// sign on, and a holder of the database cannot rewrite it unseen.
package ledger
