// Package httpsig signs and reads requests by HTTP Message Signatures (RFC 9421) with Ed25519, in the one profile
// that EdgeCoder admits, and chooses between it and the five headers (WIRE 2). Like package crypto it is pure:
// text goes in, text or an error comes out.
//
// # The profile
//
// Covered are exactly these components, in any order and without parameters:
//
//	"@method" "@authority" "@path" "@query" "content-digest"
//
// The signature parameters are exactly these, in any order, all but alg required:
//
//	created  Unix seconds
//	expires  Unix seconds, later than created by at most MaxLifetime
//	nonce    1 to 128 bytes of printable ASCII without spaces; good once for a key
//	keyid    agent and key, as KeyID spells them: "agent-1:0123456789abcdef"
//	tag      "edgecoder", which sets these signatures apart from those of others
//	alg      "ed25519"; the key says it already
//
// So method, host, path, query, body, agent and key are bound, and a request for one service is worthless at
// another. Content-Digest (RFC 9530) must have a sha-256 member; others may stand beside it, are covered, and
// are not compared with anything.
//
// A request may carry signatures of others, under labels and tags of their own: they are neither covered nor
// looked at. Two with our tag are refused, and so are one and any of the five headers, since two readers might
// take different ones.
//
// # One spelling
//
// Signature-Input, Signature and Content-Digest must be as RFC 9651 section 4.1 serialises them. Readers of
// structured fields are lenient, of members given twice they take the last without a word; what is not the
// serialisation of what was read is refused.
package httpsig
