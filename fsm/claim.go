package fsm

import (
	"errors"

	"github.com/edgecoder/edgecoder/crypto/dcbor"
)

// errClaim refuses bytes that are no claim in its one spelling.
var errClaim = errors.New("a claim is not in canonical form")

// UnmarshalCBOR decodes a claim by hand. Claims are nearly all that the log
// carries, and the general decoder fills byte arrays one reflected byte at a
// time, which took longer than deciding the claim. The encoding is the general
// one; a test holds the two against each other.
func (c *Claim) UnmarshalCBOR(data []byte) error {
	d := dcbor.NewReader(data)
	var out Claim
	readClaim(&d, &out)
	if !d.Done() {
		return errClaim
	}
	*c = out
	return nil
}

func readClaim(d *dcbor.Reader, c *Claim) {
	d.List(7)
	c.Caller = uint16(d.UnsignedTo(1<<16 - 1))
	c.AgentID = d.Text()
	d.Fill(c.Key[:])
	c.TimestampMs = d.Signed()
	c.Nonce = d.Text()
	d.Fill(c.Tag[:])
	d.Fill(c.ClaimID[:])
}
