package gossiptest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pausedPair has two hosts with a connection between them, the second paused.
func pausedPair(t *testing.T) (a, b *Host, near, far net.Conn) {
	t.Helper()
	n := New(1)
	a, b = n.Host("10.0.0.1:1"), n.Host("10.0.0.2:1")
	near, err := a.Dial(t.Context(), b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = b.Listener().Accept(); err != nil {
		t.Fatal(err)
	}
	b.Pause()
	return a, b, near, far
}

// TestPause: a paused host reads, accepts, dials and shows nothing, whatever its
// deadlines say, while others write to it; all of it goes on when it resumes.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, near, far := pausedPair(t)
		began := time.Now()
		var took [4]time.Duration
		lasts := func(i int, do func()) {
			go func() {
				do()
				took[i] = time.Since(began)
			}()
		}
		lasts(0, func() { // it reads
			buf := make([]byte, 5)
			if _, err := io.ReadFull(far, buf); err != nil || string(buf) != "hello" {
				t.Errorf("read %q, %v", buf, err)
			}
		})
		lasts(1, func() { // it dials
			c, err := b.Dial(t.Context(), a.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
		lasts(2, func() { // what it writes, and even that it closes, arrives
			if text, err := io.ReadAll(near); err != nil || string(text) != "bye" {
				t.Errorf("read %q, %v", text, err)
			}
		})
		lasts(3, func() { // it is dialled, and accepts
			c, err := a.Dial(t.Context(), b.Addr())
			if err != nil || time.Since(began) > 0 {
				t.Errorf("the kernel of a paused host connects: %v, after %s", err, time.Since(began))
				return
			}
			got, err := b.Listener().Accept()
			if err != nil {
				t.Error(err)
				return
			}
			got.Close()
			c.Close()
		})
		if _, err := near.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := b.PacketConn().WriteTo([]byte("lost"), net.UDPAddrFromAddrPort(a.addr)); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		go func() {
			far.Write([]byte("bye"))
			time.Sleep(30 * time.Second)
			far.Close()
		}()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if took != [4]time.Duration{} {
			t.Errorf("after 20 s of a pause: %v", took)
		}
		b.Resume()
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, want := range []time.Duration{20 * time.Second, 20 * time.Second, 40 * time.Second, 20 * time.Second} {
			if took[i] != want {
				t.Errorf("%d took %s, want %s", i, took[i], want)
			}
		}
		a.PacketConn().SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := a.PacketConn().ReadFrom(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a packet of the paused host: %v", err)
		}
	})
}

// TestPauseEnds: who is killed while it is paused waits for nothing any more, and
// a dial ends with its context.
func TestPauseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, near, far := pausedPair(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Dial(ctx, a.Addr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		ends := make(chan error, 4)
		go func() { _, err := far.Read(make([]byte, 1)); ends <- err }()
		go func() { _, err := near.Read(make([]byte, 1)); ends <- err }()
		go func() { _, err := b.Listener().Accept(); ends <- err }()
		go func() { _, _, err := b.PacketConn().ReadFrom(make([]byte, 1)); ends <- err }()
		synctest.Wait()
		b.Crash()
		for range cap(ends) {
			if err := <-ends; err == nil {
				t.Error("no error after a crash")
			}
		}
	})
}
