// Package store owns what lasts in a data directory, but keys and the address
// cache: raft.db (log, term, vote), snapshots/ and history.db. Everything that
// is read at start is held against a checksum, and what does not match stops
// the node with a Damage (DESIGN.md, "State that lasts").
package store
