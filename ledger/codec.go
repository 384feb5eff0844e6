package ledger

import "github.com/edgecoder/edgecoder/crypto/dcbor"

// codec writes members to out, or reads them from in, so that one list of the
// members of a record serves both ways.
type codec struct {
	reading bool
	out     []byte
	in      dcbor.Reader
}

func readingCodec(data []byte) codec { return codec{reading: true, in: dcbor.NewReader(data)} }

// list is the head of an array of n items; reading, it returns how many there are.
func (c *codec) list(n int) int {
	if c.reading {
		return c.in.Count(1)
	}
	c.out = dcbor.AppendArray(c.out, n, false)
	return n
}

func (c *codec) unsigned(n *uint64) {
	if c.reading {
		*n = c.in.Unsigned()
		return
	}
	c.out = dcbor.AppendUnsigned(c.out, *n)
}

func (c *codec) signed(n *int64) {
	if c.reading {
		*n = c.in.Signed()
		return
	}
	c.out = dcbor.AppendSigned(c.out, *n)
}

func (c *codec) byte(n *uint8) {
	if c.reading {
		*n = uint8(c.in.UnsignedTo(1<<8 - 1))
		return
	}
	c.out = dcbor.AppendUnsigned(c.out, uint64(*n))
}

// bool is 0 or 1.
func (c *codec) bool(b *bool) {
	if c.reading {
		*b = c.in.UnsignedTo(1) == 1
		return
	}
	n := uint64(0)
	if *b {
		n = 1
	}
	c.out = dcbor.AppendUnsigned(c.out, n)
}

func (c *codec) text(s *string) {
	if c.reading {
		*s = c.in.Text()
		return
	}
	c.out = dcbor.AppendText(c.out, *s)
}

// fixed is a byte string of the length of b.
func (c *codec) fixed(b []byte) {
	if c.reading {
		c.in.Fill(b)
		return
	}
	c.out = dcbor.AppendBytes(c.out, b)
}

func (c *codec) fail() {
	if c.reading {
		c.in.Want(false)
	}
}
