package node

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
)

// silentNetwork swallows every packet: a dial ends with its context alone.
type silentNetwork struct {
	machineNetwork
	tried *[]string // of one goroutine at a time
}

func (s silentNetwork) dial(ctx context.Context, addr string) (net.Conn, error) {
	*s.tried = append(*s.tried, addr)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestKnockEndsWithItsCall: nothing dials on after a knock that nobody answered, and an
// old address of the other does not take the time of the new one.
func TestKnockEndsWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const other = "deadbeef-0000-4000-8000-000000000000"
		var tried []string
		book := &addressBook{heard: map[string]peerAddress{other: {Raft: "192.0.2.1:1"}}}
		book.Members = map[string]peerAddress{other: {Raft: "192.0.2.2:1"}}
		n := &Node{dialer: &peerDialer{book: book, creds: &credentials{}, net: silentNetwork{tried: &tried}}}
		ctx, cancel := context.WithTimeout(t.Context(), returnTime)
		defer cancel()
		if _, err := n.knock(ctx, other, returnRequest{}); err == nil {
			t.Error("nobody answered")
		}
		synctest.Wait()
		if !slices.Equal(tried, []string{"192.0.2.1:1", "192.0.2.2:1"}) {
			t.Errorf("it tried %v", tried)
		}
	})
}
