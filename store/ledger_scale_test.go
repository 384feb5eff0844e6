package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

const (
	scaleAccounts = 100
	// scaleStepMs is the cluster clock between two entries of the most transfers: the
	// narrowest window has 80,000 ids then, few beside what is measured.
	scaleStepMs = 500
	scaleFew    = 200_000
	// Bounds of the targets of DESIGN.md section 4: what may not grow with history,
	// and what a restart may take.
	scaleRestart  = 10 * time.Second
	scalePage     = 10 * time.Millisecond // of 100 records, the median
	scaleMoreLive = 32 << 20              // bytes, 3 a record: a batch of the flusher and its pages may wait to be collected
)

// scaled is what a node with some number of ledger records costs.
type scaled struct {
	live, snapshot int64 // bytes
	took, restart  time.Duration
	pages          []time.Duration // of 100 records from anywhere, sorted
}

// TestLedgerScale: memory and snapshots of a node do not depend on how many
// records its ledger has, it restarts in seconds, and pages come in milliseconds.
// make ledger-scale runs it with ten million.
func TestLedgerScale(t *testing.T) {
	most, _ := strconv.Atoi(os.Getenv("EDGECODER_LEDGER_SCALE"))
	if most == 0 {
		most = 60_000 // the same path in a second
	}
	few := scaleLedger(t, min(scaleFew, most/3))
	many := scaleLedger(t, most)
	if more := many.live - few.live; more > scaleMoreLive {
		t.Errorf("%d records cost %d bytes of memory more than a few", most, more)
	}
	if more := many.snapshot - few.snapshot; more > 1<<10 || more < -1<<10 {
		t.Errorf("a snapshot of %d records has %d bytes, of a few %d", most, many.snapshot, few.snapshot)
	}
	if many.restart > scaleRestart {
		t.Errorf("a restart with %d records took %s", most, many.restart)
	}
	if half := many.pages[len(many.pages)/2]; half > scalePage {
		t.Errorf("a page of 100 of %d records takes %s", most, half)
	}
}

func scaleLedger(t *testing.T, records int) (out scaled) {
	t.Helper()
	dir := t.TempDir()
	s, m := openLedger(t, dir)
	before := liveHeap()
	start := time.Now()
	feedLedger(t, m, records)
	if err := s.History.Flush(); err != nil {
		t.Fatal(err)
	}
	fed := time.Since(start)
	out.live = liveHeap() - before

	start = time.Now()
	out.snapshot = takeSnapshot(t, s, m)
	out.took = time.Since(start)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	start = time.Now()
	s, m = openLedger(t, dir)
	_, in := newestSnapshot(t, s)
	if err := m.Restore(in); err != nil {
		t.Fatal(err)
	}
	out.restart = time.Since(start)
	out.pages = readPages(t, s, records)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(under(dir, fileHistory))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records: %.0f/s applied and written, history.db %d MiB, live %.1f MiB, snapshot %s and %d bytes, restart %s, page of 100: half %s, 99 %% %s, longest %s",
		records, float64(records)/fed.Seconds(), info.Size()>>20, float64(out.live)/(1<<20), out.took.Round(time.Millisecond), out.snapshot,
		out.restart.Round(time.Millisecond), out.pages[len(out.pages)/2], out.pages[len(out.pages)*99/100], out.pages[len(out.pages)-1])
	return out
}

func openLedger(t *testing.T, dir string) (*Store, *fsm.Machine) {
	t.Helper()
	s, err := Open(dir, Options{Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	return s, fsm.NewMachine(s.History, nil)
}

// readPages times pages of 100 records from anywhere, parsed as a reader would.
func readPages(t *testing.T, s *Store, records int) (took []time.Duration) {
	t.Helper()
	rng := mathrand.New(mathrand.NewPCG(9, 9))
	for range 400 {
		from := 1 + rng.Uint64N(uint64(records-100))
		start := time.Now()
		page, err := s.History.Read(fsm.StreamLedger, from, 100)
		if err != nil || len(page) != 100 {
			t.Fatalf("%d records from %d: %v", len(page), from, err)
		}
		for i, r := range page {
			rec, err := ledger.ParseRecord(r.Data)
			if err != nil || rec.Seq != from+uint64(i) {
				t.Fatalf("record %d: %d, %v", from+uint64(i), rec.Seq, err)
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took
}

// feedLedger applies a genesis, accounts that have something, and that many
// transfers among them in entries of the most there may be. At the end the ids of
// all but the last entry have left the window, so that the live state has one size.
func feedLedger(t *testing.T, m *fsm.Machine, transfers int) {
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	index, at := uint64(0), int64(1_800_000_000_000)
	apply := func(actor fsm.Actor, body any) fsm.Result {
		index++
		cmd, err := fsm.New(actor, body)
		if err != nil {
			t.Fatal(err)
		}
		cmd.AtMs = at
		data, err := fsm.EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		res := m.Apply(&raft.Log{Type: raft.LogCommand, Index: index, Term: 1, Data: data}).(fsm.Result)
		if !res.OK() {
			t.Fatalf("index %d: %+v", index, res)
		}
		return res
	}
	admin := fsm.Actor{TokenID: "admin"}
	apply(fsm.Actor{}, fsm.Genesis{ClusterID: "00112233445566778899aabbccddeeff", CACert: []byte("ca"), Level: fsm.LevelLedger,
		AdminToken: fsm.TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n0", Name: "n0", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(key),
			EncryptionKey: bytes.Repeat([]byte{7}, 32), API: "h:1", Raft: "h:2", Gossip: "h:3"}})
	policy := ledger.DefaultPolicy()
	policy.IDWindowMs = ledger.MinIDWindowMs
	apply(admin, fsm.LedgerPolicySet{Policy: policy})

	serial := uint64(0)
	batch := fsm.LedgerBatch{Callers: []fsm.LedgerCaller{{TokenID: "admin"}}, Accounts: []string{ledger.Issuance}}
	move := func(debit, credit uint16, amount int64) {
		serial++
		var random [10]byte
		binary.BigEndian.PutUint64(random[2:], serial)
		batch.Entries = append(batch.Entries, fsm.LedgerEntry{Op: fsm.LedgerTransfer, ID: ledger.NewID(at, random), Debit: debit, Credit: credit, Amount: amount})
	}
	send := func() {
		res := apply(fsm.Actor{NodeID: "n0"}, batch)
		for i := range res.Ledger {
			if res.Ledger[i].Code != fsm.CodeOK {
				t.Fatalf("index %d, entry %d: %+v", index, i, res.Ledger[i])
			}
		}
		batch.Entries = batch.Entries[:0]
	}
	for i := range scaleAccounts {
		id := fmt.Sprintf("account-%03d", i)
		apply(admin, fsm.LedgerAccountSet{ID: id, Kind: ledger.KindAgent, Owner: id})
		batch.Accounts = append(batch.Accounts, id)
		move(0, uint16(1+i), 1_000_000)
	}
	send()
	for left := transfers; left > 0; left -= fsm.MaxLedgerEntries {
		at += scaleStepMs
		for i := range min(left, fsm.MaxLedgerEntries) {
			move(uint16(1+i%scaleAccounts), uint16(1+(i+1)%scaleAccounts), 1)
		}
		send()
	}
	at += 2 * ledger.MinIDWindowMs
	move(1, 2, 1)
	send()
}
