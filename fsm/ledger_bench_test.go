package fsm

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// ledgerBatches encodes entries of the log with transfers between the accounts, each
// of whose ids is new; starts again with new ids at every call.
func ledgerBatches(b *testing.B, w *world, entries, size, accounts int, op LedgerOp) [][]byte {
	b.Helper()
	out := make([][]byte, entries)
	for e := range out {
		batch := LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}}
		place := map[int]uint16{}
		at := func(n int) uint16 {
			if _, known := place[n]; !known {
				place[n] = uint16(len(batch.Accounts))
				batch.Accounts = append(batch.Accounts, fmt.Sprintf("account-%05d", n))
			}
			return place[n]
		}
		for i := range size {
			n := e*size + i
			entry := LedgerEntry{Op: op, ID: w.newID(), Debit: at(n % accounts), Credit: at((n*7 + 1) % accounts), Amount: 1}
			if entry.Debit == entry.Credit {
				entry.Credit = at((n + 1) % accounts)
			}
			if op == LedgerHold {
				entry.ExpiresMs = w.wallMs + 3_600_000
			}
			batch.Entries = append(batch.Entries, entry)
		}
		cmd, err := New(Actor{NodeID: "n0"}, batch)
		if err != nil {
			b.Fatal(err)
		}
		cmd.AtMs = w.wallMs
		if out[e], err = EncodeCommand(cmd); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// richWorld has accounts that can pay for whatever a benchmark does.
func richWorld(b *testing.B, accounts int) *world {
	b.Helper()
	w := ledgerWorld(b)
	for i := range accounts {
		id := fmt.Sprintf("account-%05d", i)
		w.must(w.do(operator, LedgerAccountSet{ID: id, Kind: ledger.KindAgent, Owner: id}))
		w.wantEntry(w.issue(id, 1_000_000_000), CodeOK)
	}
	w.log = nil
	return w
}

// One op is one entry: decode and apply of a log entry, its records with their
// hashes included, are divided among its entries.
func BenchmarkLedgerBatch(b *testing.B) {
	for _, op := range []LedgerOp{LedgerTransfer, LedgerHold} {
		for _, size := range []int{1, 64, MaxLedgerEntries} {
			b.Run(fmt.Sprintf("op %d by %d", op, size), func(b *testing.B) {
				w := richWorld(b, 1_000)
				round := ledgerBatches(b, w, max(1, 65_536/size), size, 1_000, op)
				start := snapshotOf(b, w.s, w.history)
				b.ReportAllocs()
				b.ResetTimer()
				s, next := w.s, 0
				for done := 0; done < b.N; done += size {
					if next == len(round) {
						b.StopTimer() // the ids are used up: begin again where we started
						s, _ = restored(b, start)
						next = 0
						b.StartTimer()
					}
					cmd, err := DecodeCommand(round[next])
					if err != nil {
						b.Fatal(err)
					}
					next++
					res, records, err := s.Apply(s.Index()+1, cmd)
					if err != nil || res.Ledger[size-1].Code != CodeOK || res.Ledger[0].Repeated || len(records) != size {
						b.Fatalf("%+v, %v", res.Ledger[0], err)
					}
				}
			})
		}
	}
}

// An epoch of the most accounts is one entry of the log.
func BenchmarkLedgerEpoch(b *testing.B) {
	w := ledgerWorld(b)
	manyEarners(w, MaxEpochAccounts)
	e, _ := w.s.OldestEpoch()
	w.toNextEpoch()
	// Records that the weights follow from are missing, so only the state is kept.
	frozen := w.s.Freeze()
	cmd, err := New(admin, LedgerEpochClose{WindowMs: e.WindowMs, Load: ledger.Load{Queued: 3}})
	if err != nil {
		b.Fatal(err)
	}
	cmd.AtMs = w.wallMs
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := thawed(b, frozen)
		runtime.GC()
		b.StartTimer()
		if res, _, err := s.Apply(s.Index()+1, cmd); err != nil || !res.OK() {
			b.Fatalf("%+v, %v", res, err)
		}
	}
}

// BenchmarkLedgerIDs tells what an id in the window takes: bytes an op.
func BenchmarkLedgerIDs(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w, caller := newIDWindow(MaxLedgerIDs), idCallerOf("token:t")
	n := 0
	for b.Loop() {
		if n == MaxLedgerIDs {
			w, n = newIDWindow(MaxLedgerIDs), 0
		}
		at := worldStart + int64(n/100)
		w.insert(at, nonceRow{key: caller.key(idAt(at, n))})
		n++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "live-B/id")
	runtime.KeepAlive(w)
}

// BenchmarkLedgerDigest is the share of a mark: every account has changed.
func BenchmarkLedgerDigest(b *testing.B) {
	w := richWorld(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		for _, row := range w.s.ledger.accounts.m {
			w.s.ledger.accounts.changed(row)
		}
		w.s.ledger.accounts.digest()
	}
}

func thawed(b *testing.B, f *Frozen) *State {
	b.Helper()
	var buf bytes.Buffer
	if err := f.Write(&buf); err != nil {
		b.Fatal(err)
	}
	s, _, err := ReadSnapshot(&buf)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
