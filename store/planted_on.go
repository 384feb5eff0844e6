//go:build planted

package store

import "os"

// The bug of a build with the tag "planted", if PLANTED_BUG names it. Such a
// build is for TestPlanted of package chaos alone.
var plantNoSync = os.Getenv("PLANTED_BUG") == "no_sync" // raft's log, term and votes are not synced
