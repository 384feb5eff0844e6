//go:build !planted

package store

// A bug that is planted to test the judges of package chaos (docs/chaos.md).
const plantNoSync = false
