// Package envelope seals what only one reader may see: tasks for an agent, the result that comes back, and files of
// any size. It is pure, as package crypto is, with one exception that is not ours: crypto/hpke takes the ephemeral
// key of version 2 and of streams from the system's generator and lets nobody hand one in.
//
// What does not open is an error. Nothing here ever answers with, or falls back to, plaintext that was not verified.
// What opens may be old: nothing here has a clock or a memory, so who must not do a task twice remembers subtask ids.
//
// # Version 1 (WIRE 19)
//
// The form of existing agents, to the byte: an ephemeral X25519 key, HKDF-SHA-256 salted with the subtask id, AES-256-GCM
// without associated data. It does not say who sent it, its metadata can be changed by anybody on the way, it binds
// neither public key, and one AES key serves both directions. See [OpenV1] for what to believe. Use it only for agents
// that speak nothing else.
//
// # Version 2
//
// HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, and an Ed25519 signature of
// the sender. One line of JSON, in this order of members, without white space, strings as JSON.stringify prints them;
// any other spelling is refused:
//
//	{"v":2,"direction":"task","subtaskId":ID,"recipient":KEYID,"sender":KEYID,"metadata":{…},
//	 "enc":BASE64,"payload":BASE64,"signature":BASE64}
//	{"v":2,"direction":"result","subtaskId":ID,"recipient":KEYID,"sender":KEYID,"nonce":HEX,"payload":BASE64}
//
// Key ids are the first 16 hex digits of the SHA-256 of the raw public key. The sender of a task goes by its Ed25519 key,
// its recipient by its X25519 key; a result names the same two the other way round.
//
//	info      "edgecoder envelope v2\n", raw key of the sender (32 bytes), raw key of the recipient (32 bytes)
//	AAD       the clear members, as they stand on the wire, in braces: everything up to enc, or up to nonce
//	signature crypto.SignText under the label "envelope v2" over info, AAD, enc and payload
//	result    AES-256-GCM under a random nonce and the secret that the HPKE context exports (RFC 9180 5.3, 9.8)
//	          for "edgecoder envelope v2 result"
//
// Ids are labels and could collide; the whole keys are in info. HPKE's own modes with an authenticated sender are not in
// the standard library, and they would let a recipient forge tasks to itself; a signature can be shown to others. The
// result needs none: only who opened the task has the exported secret.
//
// # Streams
//
// For files, in constant memory. All numbers are big-endian.
//
//	header    "edgecoder-stream", the version 0x01, the recipient's key id (8 bytes), HPKE enc (32 bytes)
//	chunk     AES-256-GCM over 65,536 bytes of the file, the last one over 1 to 65,536, or over none if the file is empty
//
//	info      "edgecoder stream v1\n", raw key of the recipient (32 bytes)
//	key       exported by the HPKE context for "edgecoder stream v1 chunks", 32 bytes
//	nonce     number of the chunk from 0 (11 bytes), 0x01 for the last one, else 0x00 (1 byte)
//	AAD       the header
//
// This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its
// Nonce-Reuse Misuse-Resistance", 2015): chunks that are lost, added, doubled or moved do not verify, nor does an end
// that is none. Who seals a stream is not said: anybody who has the public key can.
package envelope
