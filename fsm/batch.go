package fsm

import (
	"errors"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dcbor"
)

// errBatch refuses bytes that are no batch in its one spelling.
var errBatch = errors.New("a batch of claims is not in canonical form")

// leastClaimBytes is the size of a claim whose texts are empty: a count of
// claims that the bytes cannot hold makes no room for them.
const leastClaimBytes = 1 + 1 + 1 + 34 + 1 + 1 + 17 + 17

// MarshalCBOR encodes a batch by hand, as the general encoder would if it knew
// members that are there only when needed. Text that is not UTF-8 is for the
// decoder to refuse, as everywhere.
func (b AdmitBatch) MarshalCBOR() ([]byte, error) {
	size := 16
	for _, id := range b.Callers {
		size += 9 + len(id)
	}
	for i := range b.Claims {
		size += leastClaimBytes + 12 + // time, and heads longer than a byte
			len(b.Claims[i].AgentID) + len(b.Claims[i].Nonce)
	}
	noted := b.noted()
	members := uint64(2)
	if noted {
		members, size = 3, size+12*len(b.Claims)
	}
	out := dcbor.AppendHead(make([]byte, 0, size), dcbor.Array, members)
	out = dcbor.AppendArray(out, len(b.Callers), b.Callers == nil)
	for _, id := range b.Callers {
		out = dcbor.AppendText(out, id)
	}
	out = dcbor.AppendArray(out, len(b.Claims), b.Claims == nil)
	for i := range b.Claims {
		out = appendClaim(out, &b.Claims[i])
	}
	if noted {
		out = dcbor.AppendHead(out, dcbor.Array, uint64(len(b.Claims)))
		for i := range b.Claims {
			out = dcbor.AppendHead(out, dcbor.Array, 2)
			out = dcbor.AppendUnsigned(out, uint64(b.Claims[i].Profile))
			out = dcbor.AppendSigned(out, b.Claims[i].ExpiresMs)
		}
	}
	return out, nil
}

// noted tells whether a claim says how it was signed.
func (b *AdmitBatch) noted() bool {
	for i := range b.Claims {
		if b.Claims[i].noted() {
			return true
		}
	}
	return false
}

func (c *Claim) noted() bool { return c.Profile != crypto.ProfileFiveHeader || c.ExpiresMs != 0 }

// UnmarshalCBOR reads what MarshalCBOR writes, and nothing else.
func (b *AdmitBatch) UnmarshalCBOR(data []byte) error {
	d := dcbor.NewReader(data)
	major, members := d.Head()
	d.Want(major == dcbor.Array && members >= 2 && members <= 3)
	var out AdmitBatch
	if n := d.ArrayOf(1); n >= 0 {
		out.Callers = make([]string, n)
	}
	for i := range out.Callers {
		out.Callers[i] = d.Text()
	}
	if n := d.ArrayOf(leastClaimBytes); n >= 0 {
		out.Claims = make([]Claim, n)
	}
	for i := range out.Claims {
		readClaim(&d, &out.Claims[i])
	}
	if members == 3 {
		readNotes(&d, &out)
	}
	if !d.Done() {
		return errBatch
	}
	*b = out
	return nil
}

// readNotes reads the pair of profile and expiry of each claim. Without one that
// says anything the batch has another, shorter spelling.
func readNotes(d *dcbor.Reader, b *AdmitBatch) {
	d.Want(d.ArrayOf(3) == len(b.Claims))
	for i := 0; i < len(b.Claims) && !d.Bad(); i++ {
		d.List(2)
		b.Claims[i].Profile = crypto.Profile(d.UnsignedTo(1<<8 - 1))
		b.Claims[i].ExpiresMs = d.Signed()
	}
	d.Want(b.noted())
}

func appendClaim(dst []byte, c *Claim) []byte {
	dst = dcbor.AppendHead(dst, dcbor.Array, 7)
	dst = dcbor.AppendUnsigned(dst, uint64(c.Caller))
	dst = dcbor.AppendText(dst, c.AgentID)
	dst = dcbor.AppendBytes(dst, c.Key[:])
	dst = dcbor.AppendSigned(dst, c.TimestampMs)
	dst = dcbor.AppendText(dst, c.Nonce)
	dst = dcbor.AppendBytes(dst, c.Tag[:])
	return dcbor.AppendBytes(dst, c.ClaimID[:])
}
