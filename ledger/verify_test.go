package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	testCluster = "00112233445566778899aabbccddeeff"
	testStart   = int64(1_767_225_600_000) // the beginning of an hour
)

// book writes records as a ledger does, and lets tests lie in any of them.
type book struct {
	seq     uint64
	atMs    int64
	head    crypto.Hash
	records [][]byte
}

func (b *book) add(r Record) {
	b.seq++
	r.Seq, r.Index, r.AtMs, r.Prev = b.seq, b.seq*2, b.atMs, b.head
	if r.Actor == "" && r.Kind != KindExpire && r.Kind != KindShare {
		r.Actor = "admin:root"
	}
	_, data := r.Append(nil)
	b.head = r.Hash
	b.records = append(b.records, data)
}

func testID(atMs int64, n int) (id ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(atMs)<<16)
	id[6], id[8] = 0x70, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

func testKey(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("ledger test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func sampleReport(n int) SignedReport {
	r := Report{ID: testID(testStart, 100+n), AgentID: "a", Account: "a", Payer: "shop", Task: "t", Class: ClassCPU, DurationMs: 1_000 * int64(n), OK: true}
	return r.Sign(testKey("a"), testCluster)
}

// sampleRecords has a record of each kind; what says what each is.
func sampleRecords(change func(n int, r *Record)) (all [][]byte, head crypto.Hash) {
	b := &book{atMs: testStart, head: Genesis(testCluster)}
	n := 0
	add := func(r Record) {
		if change != nil {
			change(n, &r)
		}
		n++
		b.add(r)
	}
	p := DefaultPolicy()
	add(Record{Kind: KindPolicy, Policy: &p})                                                                                                              // 0
	add(Record{Kind: KindAccount, Account: &Account{ID: "shop", Kind: KindService, Owner: "t1", Floor: -50}})                                              // 1
	add(Record{Kind: KindAccount, Account: &Account{ID: "a", Kind: KindAgent, Owner: "a"}})                                                                // 2
	add(Record{Kind: KindTransfer, ID: testID(b.atMs, 1), Ref: "r", Debit: Issuance, Credit: "shop", Amount: 100, DebitBalance: -100, CreditBalance: 100}) // 3
	add(Record{Kind: KindHold, ID: testID(b.atMs, 2), Debit: "shop", Credit: "a", Amount: 60, ExpiresMs: b.atMs + 5_000, DebitHeld: 60})                   // 4
	add(Record{Kind: KindHold, ID: testID(b.atMs, 3), Debit: "shop", Credit: "a", Amount: 30, ExpiresMs: b.atMs + 5_000, DebitHeld: 90})                   // 5
	add(Record{Kind: KindHold, ID: testID(b.atMs, 4), Debit: "shop", Credit: "a", Amount: 5, ExpiresMs: b.atMs + 5_000, DebitHeld: 95})                    // 6
	b.atMs += 4_999
	add(Record{Kind: KindPost, ID: testID(b.atMs, 5), Hold: testID(testStart, 2), Debit: "shop", Credit: "a", Amount: 50, DebitBalance: 50, DebitHeld: 35, CreditBalance: 50}) // 7
	add(Record{Kind: KindVoid, ID: testID(b.atMs, 6), Hold: testID(testStart, 3), Debit: "shop", DebitHeld: 5})                                                                // 8
	b.atMs++
	add(Record{Kind: KindExpire, Hold: testID(testStart, 4), Debit: "shop", DebitHeld: 0}) // 9
	one, two, three := sampleReport(1), sampleReport(2), sampleReport(3)
	add(Record{Kind: KindKey, Actor: "agent:a", Credit: "a", Key: one.Key})                                // 10
	add(Record{Kind: KindReport, Actor: "agent:a", Report: &one})                                          // 11
	add(Record{Kind: KindReport, Actor: "agent:a", Report: &two})                                          // 12
	add(Record{Kind: KindReport, Actor: "agent:a", Report: &three})                                        // 13
	add(Record{Kind: KindConfirm, ID: one.Report.ID, Credit: "a", Weight: 1_000_000, WindowMs: testStart}) // 14
	add(Record{Kind: KindReject, ID: two.Report.ID, Credit: "a"})                                          // 15
	b.atMs += EpochMs
	add(Record{Kind: KindConfirm, ID: three.Report.ID, Credit: "a", Weight: 3_000_000, WindowMs: testStart + EpochMs}) // 16
	pool := p.Pool(Micro)
	add(Record{Kind: KindEpoch, WindowMs: testStart, Weight: 1_000_000, Epoch: &Epoch{Load: Load{Agents: 1, CPU: 1}, Smoothed: Micro, Pool: pool, Accounts: 1}}) // 17
	add(Record{Kind: KindShare, WindowMs: testStart, Credit: "a", Weight: 1_000_000, Amount: pool, CreditBalance: 50 + pool})                                    // 18
	was := b.atMs
	b.atMs -= 2 * EpochMs
	add(Record{Kind: KindRecovery, Recovery: &Recovery{Epoch: 2, FloorMs: b.atMs + MaxAheadMs, WasMs: was, ClusterID: testCluster}}) // 19
	b.atMs += 2 * MaxAheadMs
	add(Record{Kind: KindTransfer, ID: testID(b.atMs, 1), Debit: "a", Credit: Reserve, Amount: 50, DebitBalance: pool, CreditBalance: 50}) // 20
	return b.records, b.head
}

func verify(records [][]byte) (*Verifier, error) { return verifyOf(testCluster, records) }

func verifyOf(clusterID string, records [][]byte) (*Verifier, error) {
	v := NewVerifier(clusterID)
	for _, data := range records {
		if err := v.Add(data); err != nil {
			return v, err
		}
	}
	return v, nil
}

func TestVerifierAcceptsASoundLedger(t *testing.T) {
	records, head := sampleRecords(nil)
	v, err := verify(records)
	if err == nil {
		err = v.Finish(uint64(len(records)), head)
	}
	if err != nil {
		t.Fatal(err)
	}
	shop, _ := v.Account("shop")
	if shop.Balance != 50 || shop.Held != 0 || v.Accounts() != 4 || len(v.Balances()) != 4 || v.Seq() != uint64(len(records)) || v.Head() != head {
		t.Errorf("the shop has %+v of %d accounts", shop, v.Accounts())
	}
	for _, data := range records { // what is read is what is written
		r, err := ParseRecord(data)
		if err != nil {
			t.Fatal(err)
		}
		if _, again := r.Append([]byte("before")); !bytes.Equal(again, data) {
			t.Errorf("%s comes back as other bytes", r.Kind)
		}
	}
	for name, err := range map[string]error{
		"more":    v.Finish(uint64(len(records))+1, head),
		"another": v.Finish(uint64(len(records)), crypto.Hash{}),
	} {
		var bad *RecordError
		if !errors.As(err, &bad) || bad.Code != FaultHead {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every bit of every record is vouched for, and the first bad record is named: the
// changed one itself, whose own hash gives it away.
func TestVerifierFindsEveryFlippedBit(t *testing.T) {
	records, _ := sampleRecords(nil)
	for n := range records {
		for i := range records[n] {
			for bit := range 8 {
				damaged := bytes.Clone(records[n])
				damaged[i] ^= 1 << bit
				v := NewVerifier(testCluster)
				for _, data := range records[:n] {
					if err := v.AddChecked(goodRecord(t, data)); err != nil {
						t.Fatal(err)
					}
				}
				var bad *RecordError
				if err := v.Add(damaged); !errors.As(err, &bad) || bad.Seq != uint64(n+1) || bad.Code != FaultForm {
					t.Fatalf("record %d, bit %d of byte %d: %v", n+1, bit, i, err)
				}
			}
		}
	}
}

var checkedRecords = map[string]Checked{}

// goodRecord checks a record of the sample once.
func goodRecord(t *testing.T, data []byte) Checked {
	t.Helper()
	c, known := checkedRecords[string(data)]
	if !known {
		c = CheckRecord(data)
		checkedRecords[string(data)] = c
	}
	return c
}

// Who hashes anew what it changed is found out by the rules, record for record.
func TestVerifierHoldsTheRules(t *testing.T) {
	set := func(f func(*Record)) func(*Record) { return f }
	for name, c := range map[string]struct {
		at     int
		change func(*Record)
		code   string
	}{
		"no policy first":        {0, set(func(r *Record) { r.Kind, r.Account = KindAccount, &Account{} }), FaultRule},
		"policy out of bounds":   {0, set(func(r *Record) { p := *r.Policy; p.IDWindowMs = 1; r.Policy = &p }), FaultRule},
		"policy version":         {0, set(func(r *Record) { p := *r.Policy; p.Version = 2; r.Policy = &p }), FaultRule},
		"account of the cluster": {1, set(func(r *Record) { r.Account = &Account{ID: Reserve, Kind: KindService, Owner: "x"} }), FaultRule},
		"floor above":            {1, set(func(r *Record) { r.Account = &Account{ID: "shop", Kind: KindService, Owner: "x", Floor: 1} }), FaultRule},
		"owner changes":          {2, set(func(r *Record) { r.Account = &Account{ID: "shop", Kind: KindAgent, Owner: "a"} }), FaultRule},
		"amount of nothing":      {3, set(func(r *Record) { r.Amount, r.DebitBalance, r.CreditBalance = 0, 0, 0 }), FaultRule},
		"amount beyond":          {3, set(func(r *Record) { r.Amount = MaxMicro + 1 }), FaultRule},
		"to itself":              {3, set(func(r *Record) { r.Credit = Issuance }), FaultRule},
		"to nobody":              {3, set(func(r *Record) { r.Credit = "x" }), FaultRule},
		"debit balance":          {3, set(func(r *Record) { r.DebitBalance++ }), FaultBalance},
		"credit balance":         {3, set(func(r *Record) { r.CreditBalance-- }), FaultBalance},
		"an old id":              {3, set(func(r *Record) { r.ID = testID(testStart-DefaultPolicy().IDWindowMs-1, 1) }), FaultRule},
		"an id ahead":            {3, set(func(r *Record) { r.ID = testID(testStart+MaxAheadMs+1, 1) }), FaultRule},
		"no id":                  {3, set(func(r *Record) { r.ID = ID{} }), FaultRule},
		"an id twice":            {5, set(func(r *Record) { r.ID = testID(testStart, 2) }), FaultRule},
		"more than is there":     {4, set(func(r *Record) { r.Amount, r.DebitHeld = 151, 151 }), FaultRule},
		"held":                   {4, set(func(r *Record) { r.DebitHeld = 0 }), FaultBalance},
		"a hold of no time":      {4, set(func(r *Record) { r.ExpiresMs = testStart }), FaultRule},
		"a hold for ever":        {4, set(func(r *Record) { r.ExpiresMs = testStart + DefaultPolicy().HoldMaxMs + 1 }), FaultRule},
		"posts more":             {7, set(func(r *Record) { r.Amount, r.DebitBalance, r.CreditBalance = 61, 39, 61 }), FaultRule},
		"posts to another":       {7, set(func(r *Record) { r.Credit = Reserve }), FaultRule},
		"posts nothing pending":  {7, set(func(r *Record) { r.Hold = testID(testStart, 9) }), FaultRule},
		"posts of another":       {7, set(func(r *Record) { r.Debit = "a" }), FaultRule},
		"posts twice":            {8, set(func(r *Record) { r.Hold = testID(testStart, 2) }), FaultRule},
		"held after a void":      {8, set(func(r *Record) { r.DebitHeld = 6 }), FaultBalance},
		"expires early":          {8, set(func(r *Record) { r.Kind = KindExpire }), FaultRule},
		"voids late":             {9, set(func(r *Record) { r.Kind, r.ID = KindVoid, testID(testStart+5_000, 7) }), FaultRule},
		"signature":              {11, set(func(r *Record) { s := *r.Report; s.Signature[0] ^= 1; r.Report = &s }), FaultSignature},
		"a report made longer":   {11, set(func(r *Record) { s := *r.Report; s.Report.DurationMs *= 2; r.Report = &s }), FaultSignature},
		"another key":            {11, set(func(r *Record) { s := *r.Report; s.Key = crypto.PublicOf(testKey("b")); r.Report = &s }), FaultSignature},
		"a report twice":         {12, set(func(r *Record) { s := sampleReport(1); r.Report = &s }), FaultRule},
		"signed for another":     {12, set(func(r *Record) { s := sampleReport(2).Report.Sign(testKey("a"), "elsewhere"); r.Report = &s }), FaultRule},
		"a cluster of no name":   {19, set(func(r *Record) { r.Recovery.ClusterID = "" }), FaultRule},
		"another's account": {12, set(func(r *Record) {
			rep := sampleReport(2).Report
			rep.Account = "shop"
			s := rep.Sign(testKey("a"), testCluster)
			r.Report = &s
		}), FaultRule},
		"paid by itself": {12, set(func(r *Record) {
			rep := sampleReport(2).Report
			rep.Payer = "a"
			s := rep.Sign(testKey("a"), testCluster)
			r.Report = &s
		}), FaultRule},
		"more weight":           {14, set(func(r *Record) { r.Weight++ }), FaultRule},
		"another earns":         {14, set(func(r *Record) { r.Credit = "shop" }), FaultRule},
		"another window":        {14, set(func(r *Record) { r.WindowMs += EpochMs }), FaultRule},
		"confirms none":         {14, set(func(r *Record) { r.ID = testID(testStart, 77) }), FaultRule},
		"confirms twice":        {15, set(func(r *Record) { r.ID = sampleReport(1).Report.ID }), FaultRule},
		"another pool":          {17, set(func(r *Record) { e := *r.Epoch; e.Pool++; r.Epoch = &e }), FaultRule},
		"another load":          {17, set(func(r *Record) { e := *r.Epoch; e.Load.Queued = 50; r.Epoch = &e }), FaultRule},
		"load out of bounds":    {17, set(func(r *Record) { e := *r.Epoch; e.Load.CPU = -1; r.Epoch = &e }), FaultRule},
		"more accounts":         {17, set(func(r *Record) { e := *r.Epoch; e.Accounts++; r.Epoch = &e }), FaultRule},
		"another total":         {17, set(func(r *Record) { r.Weight++ }), FaultRule},
		"a younger epoch first": {17, set(func(r *Record) { r.WindowMs += EpochMs }), FaultRule},
		"an epoch of nothing":   {17, set(func(r *Record) { r.WindowMs -= EpochMs }), FaultRule},
		"no share":              {18, set(func(r *Record) { r.Kind, r.ID = KindReject, testID(testStart, 1) }), FaultRule},
		"a larger share":        {18, set(func(r *Record) { r.Amount++ }), FaultRule},
		"a share of another":    {18, set(func(r *Record) { r.Credit = "shop" }), FaultRule},
		"a share's balance":     {18, set(func(r *Record) { r.CreditBalance++ }), FaultBalance},
		"an old recovery":       {19, set(func(r *Record) { r.Recovery = &Recovery{WasMs: r.Recovery.WasMs} }), FaultRule},
		"a clock before":        {19, set(func(r *Record) { was := *r.Recovery; was.WasMs = testStart; r.Recovery = &was }), FaultRule},
		"an id of before":       {20, set(func(r *Record) { r.ID = testID(testStart-EpochMs+5_000+MaxAheadMs, 1) }), FaultRule},
	} {
		records, _ := sampleRecords(func(n int, r *Record) {
			if n == c.at {
				c.change(r)
			}
		})
		_, err := verify(records)
		var bad *RecordError
		if !errors.As(err, &bad) || bad.Code != c.code || bad.Seq != uint64(c.at+1) || bad.Detail == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s of record %d", name, err, c.code, c.at+1)
		}
	}
}

// Left out, exchanged, or of another time: the chain is one.
func TestVerifierHoldsTheOrder(t *testing.T) {
	records, head := sampleRecords(nil)
	for n := range records {
		gone := append(append([][]byte{}, records[:n]...), records[n+1:]...)
		v, err := verify(gone)
		if err == nil {
			err = v.Finish(uint64(len(records)), head)
		}
		if err == nil {
			t.Fatalf("record %d is left out", n+1)
		}
		if err == nil || v.Add(records[n]) == nil && n+1 < len(records) {
			t.Errorf("after record %d was missed it goes on", n+1)
		}
		twice := append(append([][]byte{}, records[:n+1]...), records[n:]...)
		if _, err := verify(twice); err == nil {
			t.Fatalf("record %d stands twice", n+1)
		}
	}
	other, _ := sampleRecords(func(n int, r *Record) { r.Ref = "other" })
	mixed := append(append([][]byte{}, records[:5]...), other[5:]...)
	var bad *RecordError
	if _, err := verify(mixed); !errors.As(err, &bad) || bad.Code != FaultLink || bad.Seq != 6 {
		t.Errorf("the records of two ledgers: %v", err)
	}
	if _, err := verifyOf("another cluster", records); !errors.As(err, &bad) || bad.Code != FaultLink || bad.Seq != 1 {
		t.Errorf("the ledger of another cluster: %v", err)
	}
	b := &book{atMs: testStart, head: Genesis(testCluster)}
	p := DefaultPolicy()
	b.add(Record{Kind: KindPolicy, Policy: &p})
	b.atMs--
	p.Version = 2
	b.add(Record{Kind: KindPolicy, Policy: &p})
	if _, err := verify(b.records); !errors.As(err, &bad) || bad.Code != FaultOrder {
		t.Errorf("time runs back: %v", err)
	}
	v, _ := verify(records[:18]) // an epoch without its shares
	if err := v.Finish(18, v.Head()); err == nil {
		t.Error("it ends among the shares of an epoch")
	}
}

func TestParseRecordIsStrict(t *testing.T) {
	records, _ := sampleRecords(nil)
	for _, data := range records {
		for i := range data {
			if _, err := ParseRecord(data[:i]); !errors.Is(err, ErrRecord) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
		if _, err := ParseRecord(append(bytes.Clone(data), 0)); !errors.Is(err, ErrRecord) {
			t.Errorf("a byte behind it: %v", err)
		}
	}
	if _, err := ParseRecord(make([]byte, MaxRecordBytes+1)); err == nil {
		t.Error("too large, and read")
	}
	long := strings.Repeat("x", crypto.MaxIDBytes)
	s := Report{ID: testID(testStart, 1), AgentID: long, Account: long, Payer: long, Task: long, Class: ClassGPU, DurationMs: MaxReportMs, OK: true}.Sign(testKey("a"), testCluster)
	r := Record{Seq: 1 << 60, Index: 1 << 60, AtMs: MaxMicro, Kind: KindReport, Actor: "agent:" + long, Report: &s}
	if _, data := r.Append(nil); len(data) > MaxRecordBytes/2 {
		t.Errorf("the largest report has %d bytes", len(data))
	}
}

// FuzzRecord: whatever is read is written with the same bytes, and no verifier falls over it.
func FuzzRecord(f *testing.F) {
	records, _ := sampleRecords(nil)
	for _, data := range records {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		if _, again := r.Append(nil); !bytes.Equal(again, data) {
			t.Errorf("%+v has two spellings", r)
		}
	})
}

// FuzzVerifier reads bodies that are hashed and linked as they should be, so that
// what is fuzzed is the rules: whatever passes sums up to zero.
func FuzzVerifier(f *testing.F) {
	records, _ := sampleRecords(nil)
	for _, data := range records {
		f.Add(data[:len(data)-34])
	}
	var checked []Checked
	for _, data := range records {
		checked = append(checked, CheckRecord(data))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := crypto.Sum(append([]byte(recordLabel), body...))
		r, err := ParseRecord(append(append(bytes.Clone(body), 0x58, 0x20), sum[:]...))
		if err != nil {
			return
		}
		for n := range len(records) + 1 {
			v := NewVerifier(testCluster)
			for _, c := range checked[:n] {
				if err := v.AddChecked(c); err != nil {
					t.Fatal(err)
				}
			}
			r.Seq, r.Prev, r.Index, r.AtMs = v.seq+1, v.head, v.index, max(r.AtMs, v.atMs)
			_, data := r.Append(nil)
			if v.Add(data) != nil {
				continue
			}
			if err := v.Finish(v.Seq(), v.Head()); err != nil && v.paying == nil {
				t.Errorf("after %d records %+v: %v", n, r, err)
			}
			for id, a := range v.Balances() {
				if a.Balance-a.Held < a.Floor || a.Held < 0 {
					t.Errorf("after %d records %+v brings %s to %+v", n, r, id, a)
				}
			}
		}
	})
}

// transfers is a ledger of so many transfers between a hundred accounts.
func transfers(n int) *book {
	b := &book{atMs: testStart, head: Genesis(testCluster)}
	p := DefaultPolicy()
	b.add(Record{Kind: KindPolicy, Policy: &p})
	balance := map[string]int64{}
	name := func(i int) string { return fmt.Sprintf("account-%04d", i%100) }
	for i := range 100 {
		b.add(Record{Kind: KindAccount, Account: &Account{ID: name(i), Kind: KindAgent, Owner: name(i), Floor: -MaxMicro / 2}})
	}
	for i := range n {
		b.atMs = testStart + int64(i/10)
		from, to := name(i), name(i*7+1)
		if from == to {
			to = name(i + 1)
		}
		balance[from], balance[to] = balance[from]-1, balance[to]+1
		b.add(Record{Kind: KindTransfer, ID: testID(b.atMs, i), Debit: from, Credit: to, Amount: 1, DebitBalance: balance[from], CreditBalance: balance[to]})
	}
	return b
}

// One op is one record: its hash and its rules, on one processor.
func BenchmarkVerify(b *testing.B) {
	ledger := transfers(50_000)
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for done := 0; done < b.N; done += len(ledger.records) {
			if _, err := verify(ledger.records); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for i := range b.N {
			if c := CheckRecord(ledger.records[i%len(ledger.records)]); c.err != nil {
				b.Fatal(c.err)
			}
		}
	})
	b.Run("report", func(b *testing.B) {
		records, _ := sampleRecords(nil)
		for range b.N {
			if c := CheckRecord(records[11]); c.err != nil {
				b.Fatal(c.err)
			}
		}
	})
}
