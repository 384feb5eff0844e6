package client

import (
	"context"
	"strings"
)

// CA is one CA of a cluster. Clients trust all that are listed: the next one is
// not used yet, and a retiring one is shown for the sake of clients that know no
// other.
type CA struct {
	ID         string `json:"id"`           // SHA-256 of the certificate, hex: the pin of join tokens
	State      string `json:"state"`        // next, active or retiring
	EndsMs     int64  `json:"ends_ms"`      // when it stops to count, by its rotation; 0: no rotation ends it yet
	NotAfterMs int64  `json:"not_after_ms"` // end of the certificate itself
	PEM        string `json:"pem"`
}

// CAs answers GET /v1/ca, the active one first.
type CAs struct {
	CAs []CA `json:"cas"`
}

// Bundle is what a CA file holds.
func (c CAs) Bundle() string {
	var b strings.Builder
	for _, ca := range c.CAs {
		b.WriteString(ca.PEM)
	}
	return b.String()
}

// CAs returns the CAs that count now.
func (c *Client) CAs(ctx context.Context, opts ...Option) (out CAs, err error) {
	err = c.get(ctx, "/v1/ca", &out, opts)
	return out, err
}
