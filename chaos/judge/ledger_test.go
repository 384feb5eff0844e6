package judge

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/ledger"
)

// bank writes the records of a story's ledger as the server would: a tale then
// spoils one of them. Amounts go from a to b unless it says otherwise.
type bank struct {
	s        *story
	records  []ledger.Record
	balance  map[string]int64
	held     map[string]int64
	holds    map[string]ledger.Record
	verdict  string
	accounts func([]client.Account) []client.Account // changes what the nodes show
}

func newBank(s *story) *bank {
	b := &bank{s: s, balance: map[string]int64{}, held: map[string]int64{}, holds: map[string]ledger.Record{}, verdict: "ok"}
	s.run.About.Expect, s.run.About.IDWindowMs = nil, 600_000
	for _, id := range []string{"a", "b", "c"} {
		b.add(1, 0, ledger.Record{Kind: ledger.KindAccount, Account: &ledger.Account{ID: id, Kind: ledger.KindAgent, Owner: id}})
		b.transfer(1, 0, b.id(0), issuance, id, 100)
	}
	s.run.About.LedgerSize = uint64(len(b.records))
	return b
}

func (b *bank) add(index uint64, clock int64, r ledger.Record) *ledger.Record {
	r.Seq, r.Index, r.AtMs, r.Actor = uint64(len(b.records)+1), index, wall0+clock, "token:x"
	b.records = append(b.records, r)
	return &b.records[len(b.records)-1]
}

// id makes the next id, of a time.
func (b *bank) id(ms int64) string {
	return ledger.NewID(wall0+ms, [10]byte{8: byte(len(b.records)), 9: byte(len(b.s.run.Ops))}).String()
}

func uuid(text string) ledger.ID {
	id, err := ledger.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

func (b *bank) transfer(index uint64, clock int64, id, debit, credit string, amount int64) *ledger.Record {
	b.balance[debit] -= amount
	b.balance[credit] += amount
	return b.add(index, clock, ledger.Record{Kind: ledger.KindTransfer, ID: uuid(id), Debit: debit, Credit: credit, Amount: amount,
		DebitBalance: b.balance[debit], CreditBalance: b.balance[credit]})
}

// pays records a transfer and a client's call that did it.
func (b *bank) pays(start int64, index uint64, amount int64) *Op {
	id := b.id(start)
	b.transfer(index, start, id, "a", "b", amount)
	return b.move(start, transferOf(id, "a", "b", amount), Moved{Code: client.LedgerOK, Index: index, ClockMs: wall0 + start})
}

func transferOf(id, debit, credit string, amount int64) Entry {
	return Entry{Op: client.OpTransfer, ID: id, Debit: debit, Credit: credit, Amount: amount}
}

func (b *bank) move(start int64, e Entry, m Moved) *Op {
	return b.s.add(start, start+5, Op{Kind: KindMove, Index: m.Index, Move: &Move{Entries: []Entry{e}, Results: []Moved{m}}})
}

// refused is a call of a transfer from a to b that ended with a code.
func (b *bank) refused(start int64, index uint64, amount int64, code string) *Op {
	return b.move(start, transferOf(b.id(start), "a", "b", amount), Moved{Code: code, Index: index, ClockMs: wall0 + start})
}

// lost is a call that nobody answered.
func (b *bank) lost(start int64, amount int64) *Op {
	return b.s.add(start, start+5, Op{Kind: KindMove, Code: client.CodeUnknownOutcome, Move: &Move{Entries: []Entry{transferOf(b.id(start), "a", "b", amount)}}})
}

func (b *bank) hold(start int64, index uint64, amount, life int64) Entry {
	id := b.id(start)
	b.held["a"] += amount
	b.holds[id] = *b.add(index, start, ledger.Record{Kind: ledger.KindHold, ID: uuid(id), Debit: "a", Credit: "b", Amount: amount,
		ExpiresMs: wall0 + start + life, DebitHeld: b.held["a"]})
	e := Entry{Op: client.OpHold, ID: id, Debit: "a", Credit: "b", Amount: amount, ExpiresMs: wall0 + start + life}
	b.move(start, e, Moved{Code: client.LedgerOK, Index: index, ClockMs: wall0 + start})
	return e
}

func (b *bank) post(start int64, index uint64, hold Entry, amount int64) {
	id := b.id(start)
	b.held["a"] -= hold.Amount
	b.balance["a"] -= amount
	b.balance["b"] += amount
	b.add(index, start, ledger.Record{Kind: ledger.KindPost, ID: uuid(id), Hold: uuid(hold.ID), Debit: "a", Credit: "b", Amount: amount,
		DebitBalance: b.balance["a"], DebitHeld: b.held["a"], CreditBalance: b.balance["b"]})
	b.move(start, Entry{Op: client.OpPost, ID: id, Hold: hold.ID, Amount: amount}, Moved{Code: client.LedgerOK, Index: index, ClockMs: wall0 + start})
}

func (b *bank) expire(clock int64, index uint64, hold Entry) {
	b.held["a"] -= hold.Amount
	b.add(index, clock, ledger.Record{Kind: ledger.KindExpire, Hold: uuid(hold.ID), Debit: "a", DebitHeld: b.held["a"]})
}

func (b *bank) reads(start int64, index uint64, account string, balance, held int64, strong bool) *Op {
	return b.s.add(start, start+2, Op{Kind: KindAccount, Index: index, Strong: strong, Account: &AccountRead{Account: account, Balance: balance, Held: held, Available: balance - held}})
}

// close has both nodes show the ledger.
func (b *bank) close() {
	b.s.finals()
	var texts []string
	var all []byte
	prev := ledger.Genesis("cluster")
	for i := range b.records {
		r := &b.records[i]
		r.Prev = prev
		var data []byte
		all, data = r.Append(all)
		prev = r.Hash
		texts = append(texts, base64.StdEncoding.EncodeToString(data))
	}
	accounts := []client.Account{{ID: issuance, Floor: -ledger.MaxMicro, Balance: b.balance[issuance], Available: b.balance[issuance] + ledger.MaxMicro}, {ID: "@reserve"}}
	for _, id := range []string{"a", "b", "c"} {
		accounts = append(accounts, client.Account{ID: id, Balance: b.balance[id], Held: b.held[id], Available: b.balance[id] - b.held[id]})
	}
	if b.accounts != nil {
		accounts = b.accounts(accounts)
	}
	for i := range b.s.run.Finals {
		f := &LedgerFinal{Size: uint64(len(texts)), Head: prev.String(), Accounts: accounts, Verdict: b.verdict, Records: texts}
		if i > 0 {
			f.Records, f.SameAs = nil, b.s.run.Finals[0].Node
		}
		b.s.run.Finals[i].Ledger = f
	}
}

// banked makes a tale of a bank.
func banked(tell func(*bank)) func(*story) {
	return func(s *story) {
		b := newBank(s)
		tell(b)
		b.close()
	}
}

func TestBooks(t *testing.T) {
	const adds = "ledger adds up"
	var long Entry
	tell(t, []tale{
		{name: "transfers and holds", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			h := b.hold(20, 11, 30, 1000)
			b.post(30, 12, h, 10)
			gone := b.hold(40, 13, 30, 100)
			b.expire(150, 14, gone)
		})},
		{name: "money out of nothing", check: adds, want: Fail, says: "balance of the credit account", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.records[len(b.records)-1].CreditBalance++
		})},
		{name: "below the floor", check: adds, want: Fail, says: "below its floor", tell: banked(func(b *bank) { b.pays(10, 10, 160) })},
		{name: "what is held was spent", check: adds, want: Fail, says: "below its floor", tell: banked(func(b *bank) {
			b.hold(10, 10, 80, 1000)
			b.pays(20, 11, 30)
		})},
		{name: "an id twice", check: adds, want: Fail, says: "moved money twice", tell: banked(func(b *bank) {
			op := b.pays(10, 10, 30)
			b.transfer(12, 12, op.Move.Entries[0].ID, "a", "b", 30)
		})},
		{name: "a hold posted after its end", check: adds, want: Fail, says: "ends a hold that lasts until", tell: banked(func(b *bank) {
			h := b.hold(10, 10, 30, 100)
			b.post(110, 11, h, 30)
		})},
		{name: "a hold posted at its last moment", tell: banked(func(b *bank) {
			h := b.hold(10, 10, 30, 100)
			b.post(109, 11, h, 30)
		})},
		{name: "a hold given back too early", check: adds, want: Fail, says: "ends a hold that lasts until", tell: banked(func(b *bank) {
			b.expire(109, 11, b.hold(10, 10, 30, 100))
		})},
		{name: "a hold posted twice", check: adds, want: Fail, says: "there is none of", tell: banked(func(b *bank) {
			long = b.hold(10, 10, 30, 1000)
			b.post(20, 11, long, 30)
			b.held["a"] += 30
			b.post(30, 12, long, 30)
		})},
		{name: "more posted than held", check: adds, want: Fail, says: "posts 31", tell: banked(func(b *bank) {
			b.post(20, 11, b.hold(10, 10, 30, 1000), 31)
		})},
		{name: "a balance that the records do not come to", check: adds, want: Fail, says: "its records come to", tell: banked(func(b *bank) {
			b.accounts = func(all []client.Account) []client.Account { all[2].Balance, all[3].Balance = 99, 101; return all }
		})},
		{name: "a sum that is not zero", check: adds, want: Fail, says: "the sum of all accounts is 1", tell: banked(func(b *bank) {
			b.accounts = func(all []client.Account) []client.Account { all[2].Balance++; return all }
		})},
		{name: "an account is missing", check: adds, want: Fail, says: "lists 4 accounts", tell: banked(func(b *bank) {
			b.accounts = func(all []client.Account) []client.Account { return all[:4] }
		})},
		{name: "the node finds a bad record", check: adds, want: Fail, says: "says of its own records", tell: banked(func(b *bank) { b.verdict = "record 3: linked to another" })},
		{name: "a gap", check: adds, want: Fail, says: "stands at", tell: banked(func(b *bank) { b.pays(10, 10, 1); b.records[6].Seq++ })},
		{name: "an index that runs back", check: adds, want: Fail, says: "of index 1", tell: banked(func(b *bank) { b.pays(10, 10, 1); b.transfer(1, 10, b.id(11), "c", "a", 1) })},
		{name: "changed bytes", check: adds, want: Fail, says: "it hashes to", tell: func(s *story) {
			banked(func(*bank) {})(s)
			f := s.run.Finals[0].Ledger
			raw, _ := base64.StdEncoding.DecodeString(f.Records[3])
			raw[len(raw)-35] ^= 1 // of the last balance
			f.Records[3] = base64.StdEncoding.EncodeToString(raw)
		}},
		{name: "nodes differ", check: adds, want: Fail, says: "record 7 differs", tell: func(s *story) {
			b := newBank(s)
			op := b.pays(10, 10, 5)
			b.close()
			first := s.run.Finals[0].Ledger
			b.records[6].ID[15]++
			op.Move.Entries[0].ID = b.records[6].ID.String()
			b.close()
			second := *s.run.Finals[0].Ledger
			s.run.Finals[0].Ledger, s.run.Finals[1].Ledger = first, &second
			s.run.Ops = nil
			s.lost(b, op)
		}},
		{name: "no last word", check: adds, want: Undecided, says: "no last word on its ledger", tell: func(s *story) {
			banked(func(*bank) {})(s)
			s.run.Finals[1].Ledger = &LedgerFinal{Error: "timeout"}
		}},
	})
}

// lost records the call again with both ids as unknown, so that nobody misses either.
func (s *story) lost(b *bank, op *Op) {
	for _, r := range b.records[6:] {
		for d := range byte(2) {
			id := r.ID
			id[15] -= d
			s.add(10, 15, Op{Kind: KindMove, Code: client.CodeUnknownOutcome, Move: &Move{Entries: []Entry{transferOf(id.String(), "a", "b", op.Move.Entries[0].Amount)}}})
		}
	}
}

func TestMoves(t *testing.T) {
	const once = "money moved once"
	again := func(b *bank, op *Op, start int64, m Moved) *Op { return b.move(start, op.Move.Entries[0], m) }
	linked := func(b *bank, done int) {
		var entries []Entry
		var results []Moved
		for i := range 3 {
			id := ledger.NewID(wall0+10, [10]byte{9: byte(i)}).String()
			if i < done {
				b.transfer(10, 10, id, "a", "b", 1)
			}
			entries = append(entries, transferOf(id, "a", "b", 1))
			results = append(results, Moved{Code: client.LedgerOK, Index: 10, ClockMs: wall0 + 10})
		}
		b.s.add(10, 15, Op{Kind: KindMove, Code: client.CodeUnknownOutcome, Move: &Move{Entries: entries, Linked: true}})
		if done == 3 {
			b.s.add(20, 25, Op{Kind: KindMove, Index: 10, Move: &Move{Entries: entries, Linked: true, Results: repeatedAll(results)}})
		}
	}
	tell(t, []tale{
		{name: "asked again", tell: banked(func(b *bank) {
			op := b.pays(10, 10, 5)
			again(b, op, 20, Moved{Code: client.LedgerOK, Index: 10, ClockMs: wall0 + 10, Repeated: true})
		})},
		{name: "unknown and done", tell: banked(func(b *bank) {
			op := b.lost(10, 5)
			b.transfer(10, 12, op.Move.Entries[0].ID, "a", "b", 5)
		})},
		{name: "unknown and never done", tell: banked(func(b *bank) { b.lost(10, 5) })},
		{name: "lost", check: once, want: Fail, says: "do not have it", tell: banked(func(b *bank) {
			b.move(10, transferOf(b.id(10), "a", "b", 5), Moved{Code: client.LedgerOK, Index: 10, ClockMs: wall0})
		})},
		{name: "lost, and a node is silent", check: once, want: Undecided, says: "not every node", tell: func(s *story) {
			banked(func(b *bank) {
				b.move(10, transferOf(b.id(10), "a", "b", 5), Moved{Code: client.LedgerOK, Index: 10, ClockMs: wall0})
			})(s)
			s.run.Finals[1].Ledger = &LedgerFinal{Error: "timeout"}
		}},
		{name: "refused, yet done", check: once, want: Fail, says: "was refused whenever it was asked for", tell: banked(func(b *bank) {
			op := b.refused(10, 9, 500, client.LedgerInsufficient)
			b.transfer(10, 12, op.Move.Entries[0].ID, "a", "b", 5)
			op.Move.Entries[0].Amount = 5
		})},
		{name: "unavailable, yet done", check: once, want: Fail, says: "was refused whenever", tell: banked(func(b *bank) {
			op := b.lost(10, 5)
			op.Outcome, op.Code = Refused, client.CodeUnavailable
			b.transfer(10, 12, op.Move.Entries[0].ID, "a", "b", 5)
		})},
		{name: "another amount than asked for", check: once, want: Fail, says: "is something else", tell: banked(func(b *bank) { b.pays(10, 10, 5).Move.Entries[0].Amount = 6 })},
		{name: "at another index than answered", check: once, want: Fail, says: "its record is of index 10", tell: banked(func(b *bank) { b.pays(10, 10, 5).Move.Results[0].Index = 11 })},
		{name: "done for the first time twice", check: once, want: Fail, says: "twice for the first time", tell: banked(func(b *bank) {
			op := b.pays(10, 10, 5)
			again(b, op, 20, Moved{Code: client.LedgerOK, Index: 10, ClockMs: wall0 + 10})
		})},
		{name: "asked for by nobody", check: once, want: Fail, says: "nobody asked for", tell: banked(func(b *bank) { b.transfer(10, 10, b.id(10), "a", "b", 5) })},
		{name: "linked, all", tell: banked(func(b *bank) { linked(b, 3) })},
		{name: "linked, none", tell: banked(func(b *bank) { linked(b, 0) })},
		{name: "linked, half", check: once, want: Fail, says: "2 of 3 linked entries", tell: banked(func(b *bank) { linked(b, 2) })},
		{name: "no records", check: once, want: Undecided, says: "no records", tell: func(s *story) {
			banked(func(b *bank) { b.lost(10, 5) })(s)
			for i := range s.run.Finals {
				s.run.Finals[i].Ledger = &LedgerFinal{Error: "timeout"}
			}
		}},
	})
}

func repeatedAll(results []Moved) []Moved {
	for i := range results {
		results[i].Repeated = true
	}
	return results
}

func TestLedgerAnswers(t *testing.T) {
	const match = "ledger answers match the log"
	tell(t, []tale{
		{name: "reads at their index", tell: banked(func(b *bank) {
			b.reads(5, 5, "a", 100, 0, false)
			b.pays(10, 10, 60)
			b.reads(20, 9, "a", 100, 0, false) // a replica that is behind
			b.reads(30, 10, "a", 40, 0, true)
			h := b.hold(40, 11, 30, 1000)
			b.reads(50, 12, "a", 40, 30, true)
			b.post(60, 13, h, 10)
			b.reads(70, 13, "b", 170, 0, true)
		})},
		{name: "a read of what never was", check: match, want: Fail, says: "the records come to 40", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.reads(20, 10, "a", 41, 0, false)
		})},
		{name: "too little", tell: banked(func(b *bank) { b.pays(10, 10, 60); b.refused(20, 11, 41, client.LedgerInsufficient) })},
		{name: "too little in the middle of an entry", tell: banked(func(b *bank) {
			b.transfer(10, 10, b.pays(10, 10, 60).Move.Entries[0].ID[:35]+"e", "b", "a", 60)
			b.s.add(11, 12, Op{Kind: KindMove, Code: client.CodeUnknownOutcome, Move: &Move{Entries: []Entry{transferOf(b.records[len(b.records)-1].ID.String(), "b", "a", 60)}}})
			b.refused(10, 10, 50, client.LedgerInsufficient)
		})},
		{name: "enough, and refused", check: match, want: Fail, says: "where there was enough", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.refused(20, 11, 40, client.LedgerInsufficient)
		})},
		{name: "a hold that is not over", check: match, want: Fail, says: "before the hold was over", tell: banked(func(b *bank) {
			h := b.hold(10, 10, 5, 1000)
			b.move(20, Entry{Op: client.OpVoid, ID: b.id(20), Hold: h.ID}, Moved{Code: client.LedgerHoldExpired, Index: 11, ClockMs: wall0 + 1009})
		})},
		{name: "a hold that is over", tell: banked(func(b *bank) {
			h := b.hold(10, 10, 5, 1000)
			b.move(20, Entry{Op: client.OpVoid, ID: b.id(20), Hold: h.ID}, Moved{Code: client.LedgerHoldExpired, Index: 11, ClockMs: wall0 + 1010})
		})},
		{name: "a hold that is there", check: match, want: Fail, says: "where it was", tell: banked(func(b *bank) {
			h := b.hold(10, 10, 5, 1000)
			b.move(20, Entry{Op: client.OpVoid, ID: b.id(20), Hold: h.ID}, Moved{Code: client.CodeNotFound, Index: 11, ClockMs: wall0 + 20})
		})},
		{name: "another content under a used id", tell: banked(func(b *bank) {
			op := b.pays(10, 10, 5)
			e := op.Move.Entries[0]
			e.Amount++
			b.move(20, e, Moved{Code: client.CodeConflict, Index: 11, ClockMs: wall0 + 20})
		})},
		{name: "the same under a used id", check: match, want: Fail, says: "although it was the same", tell: banked(func(b *bank) {
			op := b.pays(10, 10, 5)
			b.move(20, op.Move.Entries[0], Moved{Code: client.CodeConflict, Index: 11, ClockMs: wall0 + 20})
		})},
		{name: "an id that nothing used", check: match, want: Fail, says: "although nothing had used its id", tell: banked(func(b *bank) { b.refused(20, 11, 1, client.CodeConflict) })},
		{name: "an old id", tell: banked(func(b *bank) {
			b.move(20, transferOf(b.id(-600_000), "a", "b", 1), Moved{Code: client.LedgerIDExpired, Index: 11, ClockMs: wall0 + 20})
		})},
		{name: "an id that is not old", check: match, want: Fail, says: "within the window", tell: banked(func(b *bank) { b.refused(20, 11, 1, client.LedgerIDExpired) })},
		{name: "no reason at all", check: match, want: Fail, says: "no reason for what was asked", tell: banked(func(b *bank) { b.refused(20, 11, 1, client.CodeForbidden) })},
	})
}

func TestIslands(t *testing.T) {
	const linear = "balances linearizable"
	tell(t, []tale{
		{name: "one after the other", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.reads(20, 10, "a", 40, 0, true)
			b.reads(30, 10, "b", 160, 0, true)
		})},
		{name: "an unknown one takes effect late", tell: banked(func(b *bank) {
			op := b.lost(10, 60)
			b.reads(20, 9, "a", 100, 0, true)
			b.transfer(10, 25, op.Move.Entries[0].ID, "a", "b", 60)
			b.reads(30, 10, "a", 40, 0, true)
		})},
		{name: "seen and gone", check: linear, want: Fail, says: "no order of these transfers", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.reads(20, 10, "a", 40, 0, true)
			b.reads(30, 9, "a", 100, 0, true)
		})},
		{name: "on one side only", check: linear, want: Fail, says: "no order of these transfers", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.reads(20, 10, "a", 40, 0, true)
			b.reads(30, 9, "b", 100, 0, true)
		})},
		{name: "refused although there was enough", check: linear, want: Fail, says: "no order of these transfers", tell: banked(func(b *bank) {
			b.pays(10, 10, 60)
			b.refused(30, 0, 40, client.LedgerInsufficient)
		})},
	})
}

// TestMoveHistory holds that the judge refuses a history that no client can have.
func TestMoveHistory(t *testing.T) {
	for name, spoil := range map[string]func(*Op){
		"no results": func(op *Op) { op.Move.Results = nil },
		"no entries": func(op *Op) { op.Move.Entries = nil },
		"no id":      func(op *Op) { op.Move.Entries[0].ID = "x" },
		"no time":    func(op *Op) { op.Move.Entries[0].ID = strings.Repeat("z", 8) + op.Move.Entries[0].ID[8:] },
	} {
		s := newStory()
		op := newBank(s).pays(10, 10, 1)
		if err := op.check(); err != nil {
			t.Fatal(err)
		}
		if spoil(op); op.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzParseRecord: bytes of a stranger's run never break the judge, and no bytes
// but a record's own pass for it.
func FuzzParseRecord(f *testing.F) {
	b := newBank(newStory())
	b.pays(10, 10, 1)
	b.post(20, 11, b.hold(15, 11, 5, 100), 2)
	b.expire(500, 12, b.hold(16, 11, 5, 100))
	b.close()
	for _, text := range b.s.run.Finals[0].Ledger.Records {
		data, _ := base64.StdEncoding.DecodeString(text)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseRecord(base64.StdEncoding.EncodeToString(data))
		want, refused := ledger.ParseRecord(data)
		if refused != nil || err != nil {
			if refused == nil {
				t.Fatalf("the server's own record is refused: %v", err)
			}
			return // the judge is not asked to be as strict
		}
		if got.seq != want.Seq || got.index != want.Index || got.hash != want.Hash.String() || got.amount != want.Amount && want.Kind != ledger.KindShare ||
			got.debitBalance != want.DebitBalance {
			t.Fatalf("%s\n%+v\n%+v", fmt.Sprintf("%x", data), got, want)
		}
	})
}
