package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// issuance pays for what the traffic's accounts begin with.
const issuance = "@issuance"

const (
	defaultAccounts = 100
	defaultIslands  = 16
	islandAccounts  = 3
	// islandVisits bounds the operations of one island, so that an order of them is
	// found in time; after so many the traffic goes to the next.
	islandVisits = 100
	// startMoney is so little that accounts run dry: what is refused is judged, too.
	startMoney = 1_000
	// owing is the floor of every fifth account.
	owing = -500
	// holds live long enough that no clock that is off makes them end at once.
	holdLeast, holdMost = 15 * time.Second, 40 * time.Second
	// keepHolds and keepMoves bound what is remembered to be ended or asked again.
	keepHolds, keepMoves = 200, 200
)

// money is what the traffic knows of the ledger.
type money struct {
	accounts []string
	islands  [][]string
	window   time.Duration // in which an id may be used
	size     uint64        // records before the first operation

	mu      sync.Mutex // guards what follows
	visits  int        // of islands
	holds   []hold     // that may be pending
	unknown []judge.Move
	asked   []judge.Move // a ring of the last ones, whatever came of them
	next    int
}

// hold is one that the traffic made.
type hold struct {
	id     string
	amount int64
}

// prepareMoney opens accounts and pays them in, before anything is recorded.
func prepareMoney(ctx context.Context, f *field, mix Traffic) (*money, error) {
	m := &money{}
	if mix.Weights.Move == 0 && mix.Weights.AccountRead == 0 {
		return m, nil
	}
	api, err := f.patient()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	for i := range cmp.Or(mix.Accounts, defaultAccounts) {
		m.accounts = append(m.accounts, fmt.Sprintf("account-%03d", i))
	}
	for i := range cmp.Or(mix.Islands, defaultIslands) {
		var shore []string
		for k := range islandAccounts {
			shore = append(shore, fmt.Sprintf("island-%02d-%c", i, 'a'+k))
		}
		m.islands = append(m.islands, shore)
	}
	var pay []client.LedgerEntry
	for i, id := range slices.Concat(m.accounts, slices.Concat(m.islands...)) {
		req := client.AccountRequest{ID: id, Kind: "agent", Owner: "agent-0"}
		if i%5 == 4 && i < len(m.accounts) {
			req.Floor = owing
		}
		if _, err := api.SetAccount(ctx, req); err != nil {
			return nil, fmt.Errorf("open an account: %w", err)
		}
		pay = append(pay, client.LedgerEntry{Debit: issuance, Credit: id, Amount: startMoney})
	}
	for batch := range slices.Chunk(pay, client.MaxLedgerBatch) {
		if err := payIn(ctx, api, batch); err != nil {
			return nil, err
		}
	}
	l, err := api.Ledger(ctx, client.Strong())
	if err != nil {
		return nil, err
	}
	m.size, m.window = l.Size, time.Duration(l.Policy.IDWindowMs)*time.Millisecond
	return m, nil
}

func payIn(ctx context.Context, api *client.Client, batch []client.LedgerEntry) error {
	out, err := api.MoveLedger(ctx, client.LedgerBatch{Entries: batch})
	if err != nil {
		return fmt.Errorf("pay accounts in: %w", err)
	}
	for _, r := range out.Results {
		if !r.OK() {
			return fmt.Errorf("pay accounts in: %s %s", r.Code, r.Detail)
		}
	}
	return nil
}

// island returns the accounts of the island whose turn it is, nil when all had it.
func (m *money) island() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.visits / islandVisits
	if at >= len(m.islands) {
		return nil
	}
	m.visits++
	return m.islands[at]
}

// remember keeps what may be asked again.
func (m *money) remember(op judge.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	move := judge.Move{Entries: op.Move.Entries, Linked: op.Move.Linked}
	if len(m.asked) < keepMoves {
		m.asked = append(m.asked, move)
	} else {
		m.asked[m.next] = move
		m.next = (m.next + 1) % keepMoves
	}
	if undecided(op) {
		m.unknown = append(m.unknown, move)
		m.unknown = m.unknown[max(0, len(m.unknown)-keepMoves):]
	}
	for i, e := range op.Move.Entries {
		done := op.Outcome != judge.OK || op.Move.Results[i].Code == client.LedgerOK
		if e.Op == client.OpHold && done && len(m.holds) < keepHolds {
			m.holds = append(m.holds, hold{e.ID, e.Amount})
		}
	}
}

// undecided tells whether some entry may or may not have taken effect.
func undecided(op judge.Op) bool {
	if op.Outcome != judge.OK {
		return op.Outcome == judge.Unknown
	}
	return slices.ContainsFunc(op.Move.Results, func(r judge.Moved) bool {
		return r.Code == client.CodeUnknownOutcome
	})
}

// again returns something that was asked before: rather what is unknown, as its
// caller would.
func (m *money) again(rng *rand.Rand) (judge.Move, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.asked
	if len(m.unknown) > 0 && rng.IntN(2) == 0 {
		from = m.unknown
	}
	if len(from) == 0 {
		return judge.Move{}, false
	}
	return from[rng.IntN(len(from))], true
}

// open returns the last ones whose outcome was unknown when it was first asked.
func (m *money) open() []judge.Move {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.unknown)
}

// hold returns one that may be pending; most are asked for once.
func (m *money) hold(rng *rand.Rand) (hold, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.holds) == 0 {
		return hold{}, false
	}
	at := rng.IntN(len(m.holds))
	h := m.holds[at]
	if rng.IntN(8) > 0 { // a few are ended twice
		m.holds = slices.Delete(m.holds, at, at+1)
	}
	return h, true
}

// sendMove records one attempt of a Move at a node.
func (w *worker) sendMove(ctx context.Context, m judge.Move, node string) judge.Op {
	asked := judge.Move{Entries: m.Entries, Linked: m.Linked}
	done := w.ask(ctx, judge.Op{Kind: judge.KindMove, Node: node, Move: &asked}, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		var err error
		op.Move.Results, err = moveMoney(ctx, c, op.Move, &op.Index)
		return err
	})
	w.money.remember(done)
	return done
}

// moveMoney asks as whoever has one thing to do would, or several. What is decided
// is an answer, also when it is a refusal.
func moveMoney(ctx context.Context, c *client.Client, m *judge.Move, index *uint64) ([]judge.Moved, error) {
	if len(m.Entries) > 1 {
		body := client.LedgerBatch{Linked: m.Linked}
		for _, e := range m.Entries {
			body.Entries = append(body.Entries, client.LedgerEntry{Op: e.Op, ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount, Hold: e.Hold, ExpiresAtMs: e.ExpiresMs})
		}
		out, err := c.MoveLedger(ctx, body, client.Index(index))
		var results []judge.Moved
		for _, r := range out.Results {
			results = append(results, movedOf(r))
		}
		return results, err
	}
	out, err := moveOne(ctx, c, &m.Entries[0], client.Index(index))
	if err == nil {
		return []judge.Moved{movedOf(out)}, nil
	}
	if code := decided(err); code != "" {
		return []judge.Moved{{Code: code, Index: *index}}, nil
	}
	return nil, err
}

func movedOf(r client.LedgerResult) judge.Moved {
	return judge.Moved{Code: r.Code, Index: r.Index, ClockMs: r.ClockMs, Repeated: r.Repeated}
}

func moveOne(ctx context.Context, c *client.Client, e *judge.Entry, opts ...client.Option) (client.LedgerResult, error) {
	switch e.Op {
	case client.OpHold:
		return c.Hold(ctx, client.HoldRequest{ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount, ExpiresAtMs: e.ExpiresMs}, opts...)
	case client.OpPost:
		return c.PostHold(ctx, e.Hold, client.HoldEnd{ID: e.ID, Amount: e.Amount}, opts...)
	case client.OpVoid:
		return c.VoidHold(ctx, e.Hold, client.HoldEnd{ID: e.ID}, opts...)
	}
	return c.Transfer(ctx, client.TransferRequest{ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount}, opts...)
}

// decided returns the code of a refusal that the log decided, else "".
func decided(err error) string {
	e := (*client.Error)(nil)
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code {
	case client.CodeConflict:
		return cmp.Or(e.Reason, e.Code)
	case client.CodeNotFound:
		return e.Code
	case client.CodeInvalid:
		return cmp.Or(e.Reason, e.Code)
	}
	return ""
}
