//go:build unix

package keyfile

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user that a file belongs to, if the system told.
func ownerOf(info fs.FileInfo) (uid int, known bool) {
	st, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int(st.Uid), true
}
