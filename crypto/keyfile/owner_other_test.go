//go:build !unix

package keyfile

func sysOf(int) any { return nil }
