package gossiptest

// Pause holds a host as if its process were stopped (SIGSTOP): it reads and
// accepts nothing, deadlines or not, and nothing that it writes or closes is seen
// by anybody, until Resume. Its kernel goes on: others connect and write to it as
// long as there is room. The goroutines of the process are not held, and their
// timers run; but whatever they do about it stays inside. Packets that they send
// are lost.
func (h *Host) Pause() {
	h.net.set(func() {
		if h.paused != nil || h.crashed {
			return
		}
		h.paused = make(chan struct{})
		for c := range h.net.streams {
			if c.host == h {
				h.hold(c)
			}
		}
	})
}

// hold keeps what an end of a stream sends; the network's lock must be held.
func (h *Host) hold(c *conn) {
	h.heldBack = append(h.heldBack, c.out)
	c.out.change(func() { c.out.held = true })
}

// Resume lets a paused host go on: what was held arrives now.
func (h *Host) Resume() {
	var late []*half
	h.net.set(func() {
		if h.paused != nil {
			close(h.paused)
		}
		late, h.paused, h.heldBack = h.heldBack, nil, nil
	})
	for _, out := range late {
		out.change(func() { out.held = false })
	}
}

// waits is closed once the host goes on; nil: it was not paused.
func (h *Host) waits() <-chan struct{} {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.paused
}

// goesOn waits until the host is not paused, or its process lets go of the socket.
func (h *Host) goesOn(done <-chan struct{}) {
	for {
		held := h.waits()
		if held == nil {
			return
		}
		select {
		case <-held:
		case <-done:
			return
		}
	}
}

// paused is the wait of a stream's end: until its host goes on or the stream is broken.
func (c *conn) paused() {
	for {
		held := c.host.waits()
		if held == nil {
			return
		}
		wake, err := c.in.broken()
		if err != nil {
			return
		}
		select {
		case <-held:
		case <-wake:
		}
	}
}

// broken returns why nothing can be read any more, or what tells of a change.
func (h *half) broken() (wake <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wake, h.err
}
