//go:build !linux

package cmd

import (
	"errors"
	"os"
)

func openNameless(string) (*os.File, bool) { return nil, false }

func linkNameless(*os.File, string) error { return errors.ErrUnsupported }
