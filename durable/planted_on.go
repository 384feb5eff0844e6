//go:build planted

package durable

import "os"

// The bug of a build with the tag "planted", if PLANTED_BUG names it. Such a
// build is for TestPlanted of package chaos alone.
var plantNoDirSync = os.Getenv("PLANTED_BUG") == "no_dir_sync" // names are not made durable
