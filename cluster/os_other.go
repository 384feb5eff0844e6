//go:build !unix

package cluster

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const noFollow, noWait = 0, 0

var errLocked = errors.New("locked by another process")

var errUnix = errors.New("clusters of local processes need Linux, macOS or another Unix")

func owner(fs.FileInfo) int              { return os.Geteuid() }
func tryLock(*os.File) error             { return errUnix }
func ownGroup(bool) *syscall.SysProcAttr { return nil }
func terminate(int) error                { return errUnix }
func kill(int) error                     { return errUnix }
func exists(int) bool                    { return false }
