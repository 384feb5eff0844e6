//go:build !linux

package store

import (
	"errors"
	"os"
)

// fallocate has no portable counterpart: zeros are written instead.
func fallocate(*os.File, int64) error { return errors.ErrUnsupported }
