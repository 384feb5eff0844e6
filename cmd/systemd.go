package cmd

import (
	"net"
	"os"
	"time"
)

// notifyTime bounds the wait for a full socket of systemd.
const notifyTime = time.Second

// tellSystemd reports a state of the service to systemd, in the form of
// sd_notify(3). Without NOTIFY_SOCKET nobody wants to know.
func (p *program) tellSystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if err := notify(path, state); err != nil {
		p.say("warning: systemd was not told %q: %v", state, err)
	}
}

// notify sends one datagram; a path that begins with @ is in Linux's abstract
// name space, as package net has it too.
func notify(path, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTime)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
