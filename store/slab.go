package store

// slabLeast and slabMost are how much a slab takes at first and at a time: it doubles,
// so that one value takes little and many take few pieces.
const (
	slabLeast = 1 << 10
	slabMost  = 64 << 10
)

// slab hands out memory for many small values that are dropped together: those of a
// transaction, which bbolt keeps until its end, or of one read.
type slab struct {
	left []byte
	took int // last
}

// room returns an empty slice with room for n bytes.
func (s *slab) room(n int) []byte {
	if n > len(s.left) {
		s.took = min(max(2*s.took, slabLeast), slabMost)
		s.left = make([]byte, max(n, s.took))
	}
	out := s.left[:0:n]
	s.left = s.left[n:]
	return out
}
