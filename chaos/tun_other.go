//go:build !linux

package chaos

import (
	"errors"
	"os"
)

var errNoNamespaces = errors.New("network namespaces are Linux's")

func openTUN(string) (*os.File, error) { return nil, errNoNamespaces }

func inNamespace(string, func() error) error { return errNoNamespaces }
