//go:build !linux

package node

import "testing"

func smallTmpfs(t *testing.T, _ int) string {
	t.Skip("only Linux has a tmpfs that a test can mount")
	return ""
}

func fillUp(*testing.T, string) bool { return false }

func emptyOut(*testing.T, string) {}
