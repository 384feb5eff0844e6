package node

import (
	"context"
	"errors"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

func someMove(accounts int, ops ...fsm.LedgerOp) *moving {
	b := fsm.LedgerBatch{Callers: []fsm.LedgerCaller{{TokenID: "t"}}, Accounts: make([]string, accounts)}
	for i, op := range ops {
		e := fsm.LedgerEntry{Op: op, ID: ledger.NewID(1, [10]byte{9: byte(i)})}
		if op == fsm.LedgerTransfer {
			e.Credit = uint16(accounts - 1)
		}
		b.Entries = append(b.Entries, e)
	}
	return &moving{batch: b, reply: make(chan unitReply[[]fsm.LedgerResult], 1)}
}

// TestMovesAreJoined: each keeps its caller and its accounts, who is gone is left out,
// and what does not fit waits.
func TestMovesAreJoined(t *testing.T) {
	a, gone, b := someMove(2, fsm.LedgerTransfer, fsm.LedgerVoid), someMove(2, fsm.LedgerTransfer), someMove(3, fsm.LedgerTransfer)
	if gone.leave() {
		t.Error("nobody had acted on it")
	}
	batch, sent, rest := joinMoves([]*moving{a, gone, b})
	if len(sent) != 2 || len(rest) != 0 || len(batch.Callers) != 2 || len(batch.Accounts) != 5 || len(batch.Entries) != 3 {
		t.Fatalf("%+v", batch)
	}
	last := batch.Entries[2]
	if last.Caller != 1 || last.Debit != 2 || last.Credit != 4 || batch.Entries[1].Debit != 0 || a.batch.Entries[0].Credit != 1 {
		t.Errorf("%+v", batch.Entries)
	}
	if !b.leave() || gone.leave() {
		t.Error("whether a leader may have acted is told wrongly")
	}
	full := make([]fsm.LedgerOp, fsm.MaxLedgerEntries)
	for i := range full {
		full[i] = fsm.LedgerVoid
	}
	_, sent, rest = joinMoves([]*moving{someMove(0, full...), a})
	if len(sent) != 1 || len(rest) != 1 || rest[0] != a {
		t.Errorf("%d sent, %d wait", len(sent), len(rest))
	}
}

// P9: once a try may have taken effect, a refusal is told only if that try would have
// been found.
func TestP9HonestMovesAfterAnUnknownTry(t *testing.T) {
	ok := fsm.LedgerResult{Code: fsm.CodeOK}
	code := func(c fsm.Code) fsm.LedgerResult { return fsm.LedgerResult{Code: c} }
	for name, tt := range map[string]struct {
		results []fsm.LedgerResult
		known   bool
	}{
		"done":            {[]fsm.LedgerResult{ok}, true},
		"poor":            {[]fsm.LedgerResult{ok, code(fsm.CodeInsufficient)}, true},
		"a chain, poor":   {[]fsm.LedgerResult{code(fsm.CodeLinkedFailed), code(fsm.CodeInsufficient)}, true},
		"too old":         {[]fsm.LedgerResult{ok, code(fsm.CodeIDExpired)}, false},
		"a chain, old":    {[]fsm.LedgerResult{code(fsm.CodeLinkedFailed), code(fsm.CodeIDExpired)}, false},
		"of another's":    {[]fsm.LedgerResult{code(fsm.CodeLinkedFailed)}, false},
		"of two chains":   {[]fsm.LedgerResult{code(fsm.CodeInsufficient), code(fsm.CodeLinkedFailed)}, false},
		"token gone":      {[]fsm.LedgerResult{code(fsm.CodeUnauthorized)}, false},
		"agent banned":    {[]fsm.LedgerResult{code(fsm.CodeBlacklisted)}, false},
		"used otherwise":  {[]fsm.LedgerResult{code(fsm.CodeConflict)}, true},
		"account is gone": {[]fsm.LedgerResult{code(fsm.CodeNotFound)}, true},
	} {
		for _, maybe := range []bool{false, true} {
			m := someMove(1, make([]fsm.LedgerOp, len(tt.results))...)
			for i, r := range tt.results { // what failed for another stands right before it
				m.batch.Entries[i].Linked = r.Code == fsm.CodeLinkedFailed && i+1 < len(tt.results)
			}
			m.maybe = maybe
			m.decided(tt.results)
			r := <-m.reply
			e := (*client.Error)(nil)
			if known := !errors.As(r.err, &e); known != (tt.known || !maybe) || !known && e.Code != client.CodeUnknownOutcome {
				t.Errorf("%s, tried before %t: %+v, %v", name, maybe, r.reply, r.err)
			}
		}
	}
	m := someMove(1)
	m.maybe = true
	m.fail(&client.Error{Code: client.CodeConflict})
	if r := <-m.reply; r.err.(*client.Error).Code != client.CodeUnknownOutcome {
		t.Errorf("%v", r.err)
	}
}

// TestMovesBehindGoneOnesAreSent: callers that went away take no room, and who stands
// behind them is sent at once.
func TestMovesBehindGoneOnesAreSent(t *testing.T) {
	var items []*moving
	for range 8 {
		m := someMove(0, make([]fsm.LedgerOp, fsm.MaxLedgerEntries)...)
		m.leave()
		items = append(items, m)
	}
	live := someMove(2, fsm.LedgerTransfer)
	_, sent, rest := joinMoves(append(items, live))
	if len(sent) != 1 || sent[0] != live || len(rest) != 0 {
		t.Errorf("%d sent, %d wait", len(sent), len(rest))
	}
	if rest := (&Node{}).moveSome(t.Context(), items); len(rest) != 0 { // a round that sends nothing loses nobody
		t.Errorf("%d wait for callers that are gone", len(rest))
	}
}

// TestUnfitMoves: what would be linked to somebody else's entry, or fits no entry of
// the log, is refused before it is joined with others'.
func TestUnfitMoves(t *testing.T) {
	m := someMove(2, fsm.LedgerTransfer, fsm.LedgerTransfer)
	if e := unfitMove(&m.batch); e != nil {
		t.Fatal(e)
	}
	m.batch.Entries[1].Linked = true
	if e := unfitMove(&m.batch); e == nil || e.Code != client.CodeInvalid || e.Field != "entries[1].linked" {
		t.Errorf("a link to nothing: %+v", e)
	}
	for _, m := range []*moving{someMove(0), someMove(0, make([]fsm.LedgerOp, fsm.MaxLedgerEntries+1)...)} {
		if e := unfitMove(&m.batch); e == nil || e.Code != client.CodeTooLarge {
			t.Errorf("%d entries: %+v", len(m.batch.Entries), e)
		}
	}
}

// TestMovesAreBounded: what is above is refused at once, and room comes back.
func TestMovesAreBounded(t *testing.T) {
	m := newMovers()
	if !m.reserve(maxMoving) || m.reserve(1) {
		t.Fatal("the bound does not hold")
	}
	m.waiting.Add(-maxMoving)
	if !m.reserve(1) {
		t.Error("room did not come back")
	}
}

// TestUnitAwaits: an answer that is there counts, even if the term is over.
func TestUnitAwaits(t *testing.T) {
	over := make(chan struct{})
	close(over)
	l := &leadership{over: over}
	u := newUnit[fsm.LedgerBatch, []fsm.LedgerResult](context.Background(), fsm.LedgerBatch{})
	if _, err := u.await(l, errUnknownMove()); err == nil || err.(*client.Error).Code != client.CodeUnknownOutcome {
		t.Errorf("%v", err)
	}
	u.reply <- unitReply[[]fsm.LedgerResult]{reply: []fsm.LedgerResult{{Code: fsm.CodeOK}}}
	for range 20 {
		if out, err := u.await(l, errUnknownMove()); err != nil || len(out) != 1 {
			t.Fatalf("%v, %v", out, err)
		}
		u.reply <- unitReply[[]fsm.LedgerResult]{reply: []fsm.LedgerResult{{Code: fsm.CodeOK}}}
	}
}
