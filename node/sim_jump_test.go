package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// TestSimBanByAClockThatJumped: the clock of the leader is ten minutes ahead, and
// nobody has noticed yet. A ban for half a minute is not refused as one that has run
// out: the leader does not judge by such a clock, and whoever leads next takes it.
func TestSimBanByAClockThatJumped(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		lead := w.leader()
		cl := w.client(lead)
		defer cl.Close()
		if _, err := cl.Status(t.Context()); err != nil { // the connection stands when the clock jumps
			t.Fatal(err)
		}
		lead.clock.move(10 * time.Minute)
		var err error
		w.eventually("the ban", func() bool {
			_, err = cl.Ban(t.Context(), client.BanRequest{AgentID: "a", ReasonCode: crypto.ReasonManualReview, Reason: "a test", ReporterID: "operator",
				EvidenceSHA256: crypto.Sum([]byte("r")).String(), ExpiresAtMs: time.Now().Add(30 * time.Second).UnixMilli()})
			e := (*client.Error)(nil)
			return err == nil || errors.As(err, &e) && e.Code == client.CodeInvalid
		})
		if err != nil {
			t.Error(err)
		}
	})
}
