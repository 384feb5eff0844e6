//go:build unix

package cmd

import (
	"io/fs"
	"os"
	"syscall"
)

// openPlain opens neither through a link nor waits for the other end of a pipe.
const openPlain = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
