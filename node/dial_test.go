package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// mute is a network in which a dial ends when its caller has had enough.
type mute struct {
	machineNetwork
	open, most atomic.Int64 // dials under way, and the most of them
}

func (m *mute) dial(ctx context.Context, _ string) (net.Conn, error) {
	m.most.Store(max(m.most.Load(), m.open.Add(1))) // no two dials begin at once
	<-ctx.Done()
	m.open.Add(-1)
	return nil, ctx.Err()
}

// TestCallsIntoAPartition: net/http dials on when a call was given up. Dials
// without an end of their own would pile up while a peer is cut off, until they
// take all connections that there may be to it (found by simulation).
func TestCallsIntoAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := openAddressBook(t.TempDir(), slog.New(slog.DiscardHandler))
		book.hear("peer", peerAddress{Raft: "10.0.0.1:1"})
		cut := &mute{}
		n := &Node{rpc: newRPCClient(&peerDialer{book: book, creds: &credentials{}, net: cut}, LocalTiming().Peer)}
		for range 2 * maxRPCConns {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			var e *client.Error
			if err := n.call(ctx, "peer", rpcPing, pingRequest{}, &pingReply{}); !errors.As(err, &e) {
				t.Errorf("a call into a partition: %v", err)
			}
			cancel()
			synctest.Wait()
		}
		if most, limit := cut.most.Load(), int64(LocalTiming().Peer/time.Second)+1; most > limit {
			t.Errorf("%d dials were under way at once, want at most %d", most, limit)
		}
		time.Sleep(LocalTiming().Peer)
		synctest.Wait()
		if left := cut.open.Load(); left != 0 {
			t.Errorf("%d dials outlive their calls", left)
		}
	})
}
