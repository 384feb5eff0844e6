package fsm

import (
	"slices"
	"strings"
)

// idList keeps ids in order, in pieces: one more costs the move of a piece, and a
// page of them the search for where it begins.
type idList struct {
	pieces [][]string // none empty
	n      int
}

// maxPiece is when a piece is cut in two: some 16 KiB, moved in a microsecond.
const maxPiece = 1024

// piece returns the piece that an id belongs to: the last that begins at or before it.
func (l *idList) piece(id string) int {
	at, found := slices.BinarySearchFunc(l.pieces, id, func(p []string, id string) int { return strings.Compare(p[0], id) })
	if !found {
		at--
	}
	return max(0, at)
}

func (l *idList) add(id string) {
	l.n++
	if len(l.pieces) == 0 {
		l.pieces = [][]string{{id}}
		return
	}
	n := l.piece(id)
	p := l.pieces[n]
	at, _ := slices.BinarySearch(p, id)
	p = slices.Insert(p, at, id)
	l.pieces[n] = p
	if len(p) <= maxPiece {
		return
	}
	half := len(p) / 2
	l.pieces[n] = slices.Clone(p[:half])
	l.pieces = slices.Insert(l.pieces, n+1, slices.Clone(p[half:]))
}

// remove takes an id out, if it is there.
func (l *idList) remove(id string) {
	if len(l.pieces) == 0 {
		return
	}
	n := l.piece(id)
	at, found := slices.BinarySearch(l.pieces[n], id)
	if !found {
		return
	}
	l.n--
	if l.pieces[n] = slices.Delete(l.pieces[n], at, at+1); len(l.pieces[n]) == 0 {
		l.pieces = slices.Delete(l.pieces, n, n+1)
	}
}

// after returns up to limit ids that come after one.
func (l *idList) after(id string, limit int) []string {
	var out []string
	for n := l.piece(id); n < len(l.pieces) && len(out) < limit; n++ {
		p := l.pieces[n]
		at, found := slices.BinarySearch(p, id)
		if found {
			at++
		}
		out = append(out, p[at:min(len(p), at+limit-len(out))]...)
	}
	return out
}
