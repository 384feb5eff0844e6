package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

const unixPrefix = "unix:"

// checkListen takes a loopback address or a unix socket: an edge asks nobody for a credential, so who can reach it must be on this machine.
func checkListen(listen string) error {
	if path, ok := strings.CutPrefix(listen, unixPrefix); ok {
		if path == "" {
			return fmt.Errorf("%s %q: name a path, such as unix:/run/edgecoder/edge.sock", Setting("listen"), listen)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	ip, parseErr := netip.ParseAddr(host)
	if err != nil || port == "" || host != "localhost" && (parseErr != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s %q: want a loopback address such as 127.0.0.1:4501, or unix:PATH: an edge answers its own machine alone", Setting("listen"), listen)
	}
	return nil
}

// listenLocal opens the face of an edge.
func listenLocal(listen string, mode uint32) (net.Listener, error) {
	path, unix := strings.CutPrefix(listen, unixPrefix)
	if !unix {
		return net.Listen("tcp", listen)
	}
	if err := removeDeadSocket(path); err != nil {
		return nil, err
	}
	if mode == 0 {
		mode = 0o600
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, os.FileMode(mode)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeDeadSocket removes the socket of a process that was killed. Whatever answers, or is no socket, stays.
func removeDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: name another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("something answers on %s already", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Remove(path)
}
