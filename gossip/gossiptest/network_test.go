package gossiptest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreamCarriesBytesLateAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetDelay(func(_, _ string) time.Duration { return 50 * time.Millisecond })
		a, b := n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
		go func() {
			c, err := b.Listener().Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.Copy(c, c)
		}()
		began := time.Now()
		c, err := a.Dial(t.Context(), b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "hello, ")
		io.WriteString(c, "world")
		c.(*conn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "hello, world" {
			t.Fatalf("%q, %v", got, err)
		}
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("dial and echo took %v", took)
		}
		c.Close()
	})
}

func TestDialRefusedAndTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
		if _, err := a.Dial(t.Context(), "10.0.0.3:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: %v", err)
		}
		n.Partition([]string{a.Addr()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, b.Addr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("across a partition: %v", err)
		}
		n.Heal()
		b.Kill()
		if _, err := a.Dial(t.Context(), b.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("killed: %v", err)
		}
		n.Host("10.0.0.2:1") // the address is free again
	})
}

func TestPartitionSwallowsAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
		c, err := a.Dial(t.Context(), b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		far, err := b.Listener().Accept()
		if err != nil {
			t.Fatal(err)
		}
		n.Partition([]string{b.Addr()})
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		far.SetReadDeadline(time.Time{})
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after a while: %v", err)
		}
	})
}

func TestPacketsLossAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(7)
		a, b := n.Host("10.0.0.1:1").PacketConn(), n.Host("10.0.0.2:1").PacketConn()
		n.SetLoss(0.5)
		for range 200 {
			a.WriteTo([]byte("x"), b.LocalAddr())
		}
		if lost := n.Lost(); lost < 60 || lost > 140 {
			t.Errorf("lost %d of 200", lost)
		}
		got := 0
		b.SetReadDeadline(time.Now().Add(time.Second))
		for {
			if _, _, err := b.ReadFrom(make([]byte, 10)); err != nil {
				break
			}
			got++
		}
		if uint64(got)+n.Lost() != 200 {
			t.Errorf("%d arrived, %d lost", got, n.Lost())
		}
		b.Close()
		if _, _, err := b.ReadFrom(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestCrashResetsStreamsAndFreesTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
		c, err := a.Dial(t.Context(), b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		far, err := b.Listener().Accept()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(far, "not read yet")
		b.Crash()
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other end read %v", err)
		}
		if _, err := far.Write([]byte("from the grave")); err == nil {
			t.Error("the crashed host wrote")
		}
		if _, err := b.Dial(t.Context(), a.Addr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the crashed host dialled: %v", err)
		}
		if n.Host(b.Addr()) == b {
			t.Error("the address is not free")
		}
	})
}

func TestFateLosesAndDoublesPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
		fates := [][]time.Duration{nil, {0, time.Second}, {2 * time.Second}}
		n.SetFate(func(_, _ string) []time.Duration {
			f := fates[0]
			fates = fates[1:]
			return f
		})
		to := net.UDPAddrFromAddrPort(b.addr)
		for _, text := range []string{"lost", "twice", "late"} {
			if _, err := a.PacketConn().WriteTo([]byte(text), to); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 10)
		for _, want := range []string{"twice", "twice", "late"} {
			size, _, err := b.PacketConn().ReadFrom(buf)
			if got := string(buf[:size]); err != nil || got != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if n.Lost() != 1 {
			t.Errorf("%d packets lost, want 1", n.Lost())
		}
	})
}
