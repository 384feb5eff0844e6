package walk

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

const origin = "cluster-1"

// someRecords are those of a ledger in which money goes round, more than one chunk.
func someRecords(t testing.TB, n int, change func(seq uint64, r *ledger.Record)) (records [][]byte, head crypto.Hash) {
	t.Helper()
	policy := ledger.DefaultPolicy()
	accounts := []string{"a", "b", "c"}
	balances := map[string]int64{}
	head = ledger.Genesis(origin)
	add := func(r ledger.Record) {
		r.Seq, r.Index, r.AtMs, r.Prev, r.Actor = uint64(len(records)+1), uint64(len(records)+1), 1_767_225_600_000+int64(len(records)/100), head, "admin:t"
		if change != nil {
			change(r.Seq, &r)
		}
		_, data := r.Append(nil)
		records, head = append(records, data), r.Hash
	}
	add(ledger.Record{Kind: ledger.KindPolicy, Policy: &policy})
	for _, id := range accounts {
		add(ledger.Record{Kind: ledger.KindAccount, Account: &ledger.Account{ID: id, Kind: ledger.KindAgent, Owner: id}})
	}
	move := func(i int, from, to string, amount int64) {
		balances[from] -= amount
		balances[to] += amount
		id := ledger.NewID(1_767_225_600_000+int64(len(records)/100), [10]byte{6: byte(i >> 16), 8: byte(i >> 8), 9: byte(i)})
		add(ledger.Record{Kind: ledger.KindTransfer, ID: id, Debit: from, Credit: to, Amount: amount, DebitBalance: balances[from], CreditBalance: balances[to]})
	}
	for i, id := range accounts {
		move(i, ledger.Issuance, id, 1_000_000)
	}
	for i := len(accounts); len(records) < n; i++ {
		move(i, accounts[i%3], accounts[(i+1)%3], 1)
	}
	return records, head
}

func source(records [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// On all processors it comes to what one comes to, chunk borders or not.
func TestRecords(t *testing.T) {
	for _, n := range []int{7, chunkRecords - 1, chunkRecords, chunkRecords + 1, 5*chunkRecords + 3} {
		records, head := someRecords(t, n, nil)
		told := uint64(0)
		v, err := Records(t.Context(), origin, source(records), func(good uint64) { told = good })
		if err == nil {
			err = v.Finish(uint64(n), head)
		}
		if err != nil || told != uint64(n) || v.Accounts() != 5 {
			t.Errorf("%d records: %v, told of %d, %d accounts", n, err, told, v.Accounts())
		}
	}
	if v, err := Records(t.Context(), origin, source(nil), nil); err != nil || v.Finish(0, ledger.Genesis(origin)) != nil {
		t.Errorf("of nothing: %v", err)
	}
}

// The first bad record is named, whichever processor came upon a bad one first.
func TestRecordsNamesTheFirstBadOne(t *testing.T) {
	records, _ := someRecords(t, 3*chunkRecords, nil)
	for _, at := range []int{4, chunkRecords - 1, chunkRecords, 2*chunkRecords + 5} {
		damaged := slices.Clone(records)
		for _, i := range []int{at, len(records) - 1} {
			damaged[i] = bytes.Clone(records[i])
			damaged[i][len(damaged[i])/2] ^= 4
		}
		v, err := Records(t.Context(), origin, source(damaged), nil)
		bad := (*ledger.RecordError)(nil)
		if !errors.As(err, &bad) || bad.Seq != uint64(at+1) || v.Seq() != uint64(at) {
			t.Errorf("record %d: %v after %d", at+1, err, v.Seq())
		}
	}
	greedy, _ := someRecords(t, 2*chunkRecords, func(seq uint64, r *ledger.Record) {
		if seq == chunkRecords+9 {
			r.Amount++ // its hash and all links are right
		}
	})
	if _, err := Records(t.Context(), origin, source(greedy), nil); err == nil || err.(*ledger.RecordError).Seq != chunkRecords+9 {
		t.Errorf("another amount: %v", err)
	}
}

func TestRecordsEndsWithItsSourceAndItsCaller(t *testing.T) {
	records, _ := someRecords(t, 2*chunkRecords+1, nil)
	broken := errors.New("the disk is gone")
	v, err := Records(t.Context(), origin, func(yield func([]byte, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		yield(nil, broken)
	}, nil)
	if !errors.Is(err, broken) || v.Seq() != uint64(len(records)) {
		t.Errorf("%v after %d records", err, v.Seq())
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Records(ctx, origin, func(yield func([]byte, error) bool) {
		for i := 0; yield(records[i%len(records)], nil); i++ {
			if i == chunkRecords {
				cancel()
			}
		}
	}, nil)
	if !errors.Is(err, context.Canceled) && err == nil {
		t.Errorf("a caller that left: %v", err)
	}
}

func TestExport(t *testing.T) {
	records, head := someRecords(t, chunkRecords+20, nil)
	var file bytes.Buffer
	if err := ledger.WriteExport(&file, origin, nil, source(records), head); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	if v, err := Export(t.Context(), bytes.NewReader(whole), nil); err != nil || v.Seq() != uint64(len(records)) {
		t.Errorf("%v", err)
	}
	for _, cut := range []int{0, 10, len(whole) / 2, len(whole) - 1} {
		if _, err := Export(t.Context(), bytes.NewReader(whole[:cut]), nil); !errors.Is(err, ledger.ErrExport) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// FuzzExport: whatever is no export is refused, and what is taken is one.
func FuzzExport(f *testing.F) {
	records, head := someRecords(f, 20, nil)
	var file bytes.Buffer
	if err := ledger.WriteExport(&file, origin, nil, source(records), head); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Export(t.Context(), bytes.NewReader(data), nil)
		one, alone := ledger.VerifyExport(bytes.NewReader(data), nil)
		if (err == nil) != (alone == nil) || v != nil && one != nil && (v.Seq() != one.Seq() || v.Head() != one.Head()) {
			t.Errorf("on all processors %v, on one %v", err, alone)
		}
	})
}

func BenchmarkRecords(b *testing.B) {
	records, _ := someRecords(b, 200_000, nil)
	for b.Loop() {
		if _, err := Records(b.Context(), origin, source(records), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*200_000/b.Elapsed().Seconds(), "records/s")
}
