// Package checkpoint holds what makes a stream of records a public proof: the Merkle tree's hashes (RFC 6962
// section 2.1), checkpoints as signed notes, the cosignatures of coordinators, the versioned set of who cosigns, and
// bundles that prove one record to whoever holds nothing but that set. It is pure: bytes in, bytes or an error out.
//
// Formats are those of C2SP, so that public verifiers and witnesses read them: signed-note, tlog-checkpoint,
// tlog-cosignature (cosignature/v1, Ed25519) and tlog-proof, at https://c2sp.org. The text of a set is our own, inside a
// signed note. Every parser accepts exactly one spelling and is bounded.
//
// A coordinator signs all of it with its one signing key. The signed texts cannot be taken for each other: a
// checkpoint begins with "edgecoder/", a cosignature with "cosignature/v1" and a newline, a set with "edgecoder
// cosigner set v1" and a newline (and a letter, where the statements of package crypto have a zero byte).
//
// The leaf of a record is the hash of its bytes exactly as history keeps them. One tree covers all records of a stream
// that its history holds; a recovery begins a new epoch and with it a new origin, because it may have taken back records.
package checkpoint
