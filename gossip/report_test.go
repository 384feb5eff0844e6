package gossip_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// TestSimReportsStayWhereTheyAreSent: one member hears it; neither broadcasts nor push/pull carry it on.
func TestSimReportsStayWhereTheyAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := gossiptest.New(1)
		a := start(t, "a", on(network.Host("10.0.0.1:7946")))
		b := start(t, "b", on(network.Host("10.0.0.2:7946"), "10.0.0.1:7946"))
		c := start(t, "c", on(network.Host("10.0.0.3:7946"), "10.0.0.1:7946"))
		defer end(a, b, c)
		meet(t, []*node{a, b, c})
		if got := slices.Sorted(slices.Values(c.LiveOf("coordinator"))); !slices.Equal(got, []string{"id-a", "id-b"}) || len(c.LiveOf("another")) > 0 {
			t.Errorf("c sees %q", got)
		}
		if err := c.Report([]byte("mine"), "id-a", "id-nobody"); err != nil {
			t.Fatal(err)
		}
		until(t, time.Second, "the report is there", func() bool { return a.headOf("c") == "mine" && c.headOf("c") == "mine" })
		time.Sleep(3 * time.Minute) // many rounds of push/pull
		if got := b.headOf("c"); got != "" {
			t.Errorf("b heard %q", got)
		}
		if err := c.Report([]byte("newer"), "id-a"); err != nil {
			t.Fatal(err)
		}
		until(t, time.Second, "the newer one too", func() bool { return a.headOf("c") == "newer" })
		if err := a.SetHead([]byte("published")); err != nil {
			t.Fatal(err)
		}
		until(t, 10*time.Second, "what is published still goes to all", func() bool { return b.headOf("a") == "published" && c.headOf("a") == "published" })
		if err := c.Report(make([]byte, gossip.MaxHead+1), "id-a"); !errors.Is(err, gossip.ErrTooLarge) {
			t.Error(err)
		}
		if err := c.Leave(time.Second); err != nil {
			t.Fatal(err)
		}
		if err := c.Report([]byte("late"), "id-a"); !errors.Is(err, gossip.ErrClosed) {
			t.Error(err)
		}
	})
}
