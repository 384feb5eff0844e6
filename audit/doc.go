// Package audit is a node's own log of security events: append-only files of
// JSON lines, hash-chained from the first line, rotated and bounded on disk.
//
// A line is one JSON object and a newline:
//
//	{"seq":N,"prev":"HEX","time_ms":…,"node":…,…,"hash":"HEX"}
//
// hash is SHA-256 over the text "edgecoder audit line v1" and a newline, the 32
// bytes of prev, and the bytes of the line up to `,"hash":`. prev is the hash of
// the line before, and 64 zeros before the first; seq counts from 1. The bytes
// are hashed as they stand in the file, so any tool can check a line without
// knowing how JSON is spelt here. The format is this project's own.
//
// A chain shows that lines were changed, dropped, added or swapped. It cannot
// show that its newest lines are missing, nor that somebody who may write the
// directory made all of it anew: for that one needs a [Head] that was noted
// elsewhere.
//
// What the log tells of itself are lines too: a torn end after a crash
// ([TypeTorn]), a part that does not verify ([TypeBreak]), old files that made
// room ([TypeDropped]), events that could not be written ([TypeLost]).
package audit
