package store

// slabBytes is how much a slab takes at a time.
const slabBytes = 64 << 10

// slab hands out memory for the many small values of a transaction, which bbolt keeps
// until its end.
type slab struct{ left []byte }

// room returns an empty slice with room for n bytes.
func (s *slab) room(n int) []byte {
	if n > len(s.left) {
		s.left = make([]byte, max(n, slabBytes))
	}
	out := s.left[:0:n]
	s.left = s.left[n:]
	return out
}
