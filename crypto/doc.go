// Package crypto holds the bytes EdgeCoder agrees on: canonical texts, hashes, signatures, key encodings,
// and the link of the blacklist chain. It is pure. Bytes go in, bytes or an error come out; there are no
// clocks, files or goroutines, and randomness is handed in as an io.Reader. What touches files lives in
// crypto/keyfile.
//
// # One spelling per statement
//
// Everything that is hashed or signed has exactly one byte form, and no two kinds of statement share one,
// so a signature over one can never be presented as another. The first byte already tells the wire formats
// apart, which we inherited and may not change; our own formats begin with the word edgecoder and a label, those of
// DSSE envelopes (package dsse) with its name:
//
//	signed request       "<digits>\n..."                       WIRE 2      SignedRequest.Canonical
//	message signature    "\"@method\": ..."                     RFC 9421    httpsig.Sign, any of its components first
//	blacklist event      64 hex digits, nothing else           WIRE 9.1    BlacklistEvent.EventHash
//	reporter evidence    "{\"agentId\":..."                    WIRE 9.2    ReporterEvidence.Canonical
//	enrolment proof      "edgecoder enroll v1\n<text>..."      CONTRACT    EnrollProofText
//	manifest             "DSSEv1 <length> <type> ..."          DSSE        dsse.Envelope.PAE
//	checkpoint           "edgecoder/<cluster id>/..."           C2SP        checkpoint.SignLog, checkpoint.Cosign
//	cosigner set         "edgecoder cosigner set v1\nc..."     checkpoint  checkpoint.Set.Sign
//	our own statements   "edgecoder <label>\n<length><part>…"  SignText
//
// # Two verification rules
//
// Ed25519 implementations differ on signatures that no honest signer makes. Statements that third parties
// check again (chain, evidence, proofs, cards) follow the rule of crypto/ed25519, which OpenSSL and Node
// share: see [Verify]. The admission hot path follows ZIP 215, the one rule under which checking singly and
// checking in a batch always agree: see [VerifyKey]. Honest signatures pass both. No verdict of either is
// ever computed inside the replicated state machine.
package crypto
