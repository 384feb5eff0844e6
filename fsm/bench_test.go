package fsm

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// unlimitedWorld has n active agents, put there directly, and no limit in reach.
func unlimitedWorld(b *testing.B, n int) *world {
	b.Helper()
	w := genesisWorld(b)
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: MaxRateRequests, WindowMs: 1000} })
	for i := range n {
		id := fmt.Sprintf("agent-%06d", i)
		w.s.agents.put(id, Agent{ID: id, State: AgentActive, Keys: Ring{{Public: publicKey(id)}}})
	}
	w.log = nil
	return w
}

// batches encodes entries of the given size with fresh nonces, spread over the agents.
func batches(b *testing.B, w *world, entries, size, agents int) [][]byte {
	b.Helper()
	refs := make([]KeyRef, agents)
	for i := range refs {
		refs[i] = keyRef(fmt.Sprintf("agent-%06d", i))
	}
	out := make([][]byte, entries)
	for e := range out {
		batch := AdmitBatch{Callers: []string{"verifier"}, Claims: make([]Claim, size)}
		for i := range batch.Claims {
			n := e*size + i
			nonce := fmt.Sprintf("%08x-0000-4000-8000-%012x", e, n)
			batch.Claims[i] = Claim{AgentID: fmt.Sprintf("agent-%06d", n%agents), Key: refs[n%agents], TimestampMs: w.wallMs + int64(e), Nonce: nonce,
				Tag: NewClaimID("t", nonce), ClaimID: NewClaimID("c", nonce)}
		}
		cmd, err := New(Actor{}, batch)
		if err != nil {
			b.Fatal(err)
		}
		cmd.AtMs = w.wallMs + int64(e)
		if out[e], err = EncodeCommand(cmd); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// One op is one claim: decode and apply of an entry are divided among its claims.
func BenchmarkAdmitBatch(b *testing.B) {
	for _, size := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			const agents = 1000
			w := unlimitedWorld(b, agents)
			round := batches(b, w, max(1, 65_536/size), size, agents)
			start := snapshotOf(b, w.s, w.history)
			b.ReportAllocs()
			b.ResetTimer()
			s, next := w.s, 0
			for done := 0; done < b.N; done += size {
				if next == len(round) {
					b.StopTimer() // the nonces are used up: begin again where we started
					s, _ = restored(b, start)
					next = 0
					b.StartTimer()
				}
				cmd, err := DecodeCommand(round[next])
				if err != nil {
					b.Fatal(err)
				}
				next++
				res, _, err := s.Apply(s.Index()+1, cmd)
				if err != nil || res.Claims[0].Code != CodeOK {
					b.Fatalf("%+v, %v", res, err)
				}
			}
		})
	}
}

// Encoding is the leader's share of a batch, the gate of EncodeCommand included.
func BenchmarkEncodeBatch(b *testing.B) {
	w := unlimitedWorld(b, 1)
	cmd, err := DecodeCommand(batches(b, w, 1, 1024, 1)[0])
	if err != nil {
		b.Fatal(err)
	}
	body, err := BodyOf[AdmitBatch](cmd)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for done := 0; done < b.N; done += 1024 {
		cmd, err := New(Actor{}, body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := EncodeCommand(cmd); err != nil {
			b.Fatal(err)
		}
	}
}

// fullWorld has 100,000 nonces in its window and 10,000 agents.
func fullWorld(b *testing.B) *world {
	b.Helper()
	const agents, nonces, size = 10_000, 100_000, 1000
	w := unlimitedWorld(b, agents)
	for _, data := range batches(b, w, nonces/size, size, agents) {
		cmd, err := DecodeCommand(data)
		if err != nil {
			b.Fatal(err)
		}
		w.index++
		if _, _, err := w.s.Apply(w.index, cmd); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

func BenchmarkDigest(b *testing.B) {
	w := fullWorld(b)
	b.Run("clean", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.s.Digest()
		}
	})
	b.Run("10000 windows changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for agent, win := range w.s.windows.agents {
				w.s.windows.changed(agent, win)
			}
			w.s.Digest()
		}
	})
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.s.FullDigest()
		}
	})
}

// Freeze is what Apply waits for while raft takes a snapshot.
func BenchmarkFreeze(b *testing.B) {
	w := fullWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		w.s.Freeze()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	w := fullWorld(b)
	data := snapshotOf(b, w.s, w.history)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		frozen := w.s.Freeze()
		for b.Loop() {
			if err := frozen.Write(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ScanSnapshot(bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
