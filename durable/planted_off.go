//go:build !planted

package durable

// A bug that is planted to test the judges of package chaos (docs/chaos.md).
const plantNoDirSync = false
