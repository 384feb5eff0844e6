//go:build unix

package keyfile

import "syscall"

func sysOf(uid int) any { return &syscall.Stat_t{Uid: uint32(uid)} }
