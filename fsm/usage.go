package fsm

// Usage is how full a collection of the state is. At its cap it refuses.
type Usage struct {
	Name      string
	Rows, Cap int
}

// bounded are the fields that have a cap.
type bounded interface{ usage() (rows, most int) }

func (t *table[V]) usage() (rows, most int)    { return len(t.m), t.cap }
func (w *nonceWindow) usage() (rows, most int) { return len(w.byNonce), w.limit }

// usage counts runs: agents without a request in their window have none.
func (w *rateWindows) usage() (rows, most int) { return w.runs, w.most }

// Usage tells how full each collection is, in a fixed order.
func (s *State) Usage() []Usage {
	var out []Usage
	for _, f := range s.fields() {
		if b, ok := f.(bounded); ok {
			rows, most := b.usage()
			out = append(out, Usage{f.label(), rows, most})
		}
	}
	return out
}
