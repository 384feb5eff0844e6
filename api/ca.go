package api

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// cas answers GET /v1/ca: what a client's CA file should hold now.
func (s *Server) cas(c *call) error {
	out := client.CAs{CAs: []client.CA{}}
	err := c.read(func(state *fsm.State) {
		now := state.ClockMs()
		ring, _ := state.KeyRing(fsm.Subject{Kind: fsm.SubjectCA})
		for _, der := range state.CACerts(now) {
			ca := client.CA{ID: crypto.Sum(der).String(), State: string(fsm.KeyActive), PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
			if cert, err := x509.ParseCertificate(der); err == nil {
				ca.NotAfterMs = cert.NotAfter.UnixMilli()
			}
			for i, k := range ring {
				if crypto.Hash(k.Public) == crypto.Sum(der) {
					ca.State, ca.EndsMs = string(ring.StateOf(i, now)), k.NotAfterMs
				}
			}
			out.CAs = append(out.CAs, ca)
		}
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}
