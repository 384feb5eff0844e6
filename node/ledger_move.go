package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// The path of operations of the ledger, which is that of admissions without
// signatures to verify:
//
//	MoveLedger → ready → moveLoop → leader's ledgerLoop → log
//
// Nothing waits for a timer: each loop takes whatever came while it was busy.

// maxMoving bounds the operations between MoveLedger and their answers on one node:
// four entries of the log, more would only answer too late.
const maxMoving = 4 * fsm.MaxLedgerEntries

// movers is the ledger's path through one node.
type movers struct {
	ready   *intake[*moving]
	waiting atomic.Int64 // operations without an answer
}

func newMovers() *movers { return &movers{ready: newIntake[*moving]()} }

// reserve makes room for n operations, or says that there is none.
func (m *movers) reserve(n int) bool {
	if m.waiting.Add(int64(n)) > maxMoving {
		m.waiting.Add(-int64(n))
		return false
	}
	return true
}

// moving is one MoveLedger.
type moving struct {
	batch fsm.LedgerBatch
	// maybe is set once a leader may have acted on it: from then on its outcome is
	// known or unknown, never "certainly not done". Owned by moveLoop.
	maybe bool
	reply chan unitReply[[]fsm.LedgerResult] // buffered

	mu         sync.Mutex
	sent, gone bool // a leader may act on it; its caller went away
}

// markSent notes that a leader may act on it from now on; false means that its
// caller is gone and it must not be sent.
func (m *moving) markSent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = m.sent || !m.gone
	return !m.gone
}

// left tells whether the caller is gone.
func (m *moving) left() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

// leave has the caller go, and tells whether a leader may have acted.
func (m *moving) leave() (sent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	return m.sent
}

func errUnknownMove() *client.Error {
	return &client.Error{Code: client.CodeUnknownOutcome, RetryAfter: time.Second,
		Detail: "no majority confirmed in time: it may or may not have taken effect, ask again with the same ids"}
}

// MoveLedger implements api.Mover.
func (n *Node) MoveLedger(ctx context.Context, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error) {
	if n.isObserver() {
		return nil, errObserver()
	}
	if e := n.disk.full(); e != nil {
		return nil, e
	}
	if err := n.Serving(); err != nil {
		return nil, err
	}
	if e := n.levelAllows(fsm.Command{Kind: fsm.KindLedgerBatch}); e != nil {
		return nil, e
	}
	if e := unfitMove(&batch); e != nil {
		return nil, e
	}
	size := len(batch.Entries)
	if !n.movers.reserve(size) {
		return nil, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second,
			Detail: fmt.Sprintf("%d operations of the ledger are waiting on this node: try another one", maxMoving)}
	}
	defer n.movers.waiting.Add(-int64(size))
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	m := &moving{batch: batch, reply: make(chan unitReply[[]fsm.LedgerResult], 1)}
	n.movers.ready.put(m)
	select {
	case r := <-m.reply:
		return r.reply, r.err
	case <-ctx.Done():
	}
	if m.leave() {
		return nil, errUnknownMove()
	}
	return nil, &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "no leader with a majority in time; nothing was moved"}
}

// moveLoop has the leader decide in one batch whatever waits; what arrives meanwhile
// is the next batch.
func (n *Node) moveLoop(ctx context.Context) {
	for {
		items := n.movers.ready.take(ctx, fsm.MaxCallers)
		if items == nil {
			return
		}
		for len(items) > 0 {
			items = n.moveSome(ctx, items)
		}
	}
}

// moveSome has the leader decide what fits one entry and returns the rest, which is
// less: what comes first is sent, or nobody waits for it.
func (n *Node) moveSome(ctx context.Context, items []*moving) (rest []*moving) {
	batch, sent, rest := joinMoves(items)
	if len(sent) == 0 {
		return rest
	}
	results, err := n.decideMoves(ctx, batch)
	if err == nil && len(results) != len(batch.Entries) {
		err = &client.Error{Code: client.CodeUnknownOutcome, Detail: "the leader answered another number of operations"}
	}
	if err != nil {
		n.undecidedMoves(ctx, sent, asAPIError(err))
		return rest
	}
	for _, m := range sent {
		m.decided(results[:len(m.batch.Entries)])
		results = results[len(m.batch.Entries):]
	}
	return rest
}

// unfitMove refuses a batch that could not be decided for itself: one that fits no
// entry of the log, or whose last entry would be linked to somebody else's.
func unfitMove(b *fsm.LedgerBatch) *client.Error {
	n := len(b.Entries)
	switch {
	case n == 0 || !roomForEntries()(b):
		return &client.Error{Code: client.CodeTooLarge, Field: "entries",
			Detail: fmt.Sprintf("%d entries of %d callers on %d accounts: a batch has 1 to %d of %d on %d", n, len(b.Callers), len(b.Accounts), fsm.MaxLedgerEntries, fsm.MaxCallers, 2*fsm.MaxLedgerEntries)}
	case b.Entries[n-1].Linked:
		return &client.Error{Code: client.CodeInvalid, Field: fmt.Sprintf("entries[%d].linked", n-1), Detail: "the last entry is linked to nothing: leave linked out there"}
	}
	return nil
}

// joinMoves joins what fits one entry; rest is for the next.
func joinMoves(items []*moving) (batch fsm.LedgerBatch, sent, rest []*moving) {
	room := roomForEntries()
	for i, m := range items {
		if m.left() {
			continue // who is gone takes no room
		}
		if !room(&m.batch) {
			return batch, sent, items[i:]
		}
		if m.markSent() {
			appendMoves(&batch, &m.batch)
			sent = append(sent, m)
		}
	}
	return batch, sent, nil
}

// roomForEntries tells which batches fit one entry together.
func roomForEntries() func(*fsm.LedgerBatch) bool {
	entries, callers, accounts := 0, 0, 0
	return func(b *fsm.LedgerBatch) bool {
		entries, callers, accounts = entries+len(b.Entries), callers+len(b.Callers), accounts+len(b.Accounts)
		return entries <= fsm.MaxLedgerEntries && callers <= fsm.MaxCallers && accounts <= 2*fsm.MaxLedgerEntries
	}
}

// appendMoves adds a batch to another, with its places moved behind.
func appendMoves(to, more *fsm.LedgerBatch) {
	callers, accounts := uint16(len(to.Callers)), uint16(len(to.Accounts))
	to.Callers = append(to.Callers, more.Callers...)
	to.Accounts = append(to.Accounts, more.Accounts...)
	for _, e := range more.Entries {
		e.Caller += callers
		if e.Op == fsm.LedgerTransfer || e.Op == fsm.LedgerHold {
			e.Debit, e.Credit = e.Debit+accounts, e.Credit+accounts
		}
		to.Entries = append(to.Entries, e)
	}
}

// decided answers what a leader decided. When an earlier try may have taken effect,
// a refusal tells of it only if that one would have been found.
func (m *moving) decided(results []fsm.LedgerResult) {
	if m.maybe && !m.certain(results) {
		m.fail(errUnknownMove())
		return
	}
	m.reply <- unitReply[[]fsm.LedgerResult]{reply: results}
}

// certain tells whether results say for each chain that no try of it took effect, or
// that one did.
func (m *moving) certain(results []fsm.LedgerResult) bool {
	for from, to := 0, 0; from < len(results); from = to {
		for to = from + 1; to < len(results) && m.batch.Entries[to-1].Linked; {
			to++
		}
		if !certainChain(results[from:to]) {
			return false
		}
	}
	return true
}

// certainChain: that something was refused for being linked says nothing without the
// refusal that it was linked with.
func certainChain(results []fsm.LedgerResult) bool {
	refused, never := false, false
	for _, r := range results {
		switch {
		case r.Code == fsm.CodeOK:
			continue
		case r.Code == fsm.CodeLinkedFailed:
		case !r.Code.NeverMoved():
			return false
		default:
			never = true
		}
		refused = true
	}
	return never || !refused
}

func (m *moving) fail(e *client.Error) {
	if m.maybe { // whatever the last try ended with says nothing of the first
		e = errUnknownMove()
	}
	m.reply <- unitReply[[]fsm.LedgerResult]{err: e}
}

// undecidedMoves deals with a batch that got no answer. Once its outcome is unknown
// it goes round while its callers wait: the ids make asking again safe.
func (n *Node) undecidedMoves(ctx context.Context, sent []*moving, e *client.Error) {
	var again []*moving
	for _, m := range sent {
		m.maybe = m.maybe || e.Code == client.CodeUnknownOutcome
		if m.maybe && client.RetryOf(e.Code) != client.RetryNo {
			again = append(again, m)
		} else {
			m.fail(e)
		}
	}
	if len(again) > 0 && pause(ctx, retryPause) {
		n.movers.ready.put(again...)
	}
}

// decideMoves has a batch decided by whoever leads.
func (n *Node) decideMoves(ctx context.Context, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error) {
	var results []fsm.LedgerResult
	err := n.onLeader(ctx, func(ctx context.Context, l *leadership) (err error) {
		results, err = n.decideMovesHere(ctx, l, batch)
		return err
	}, func(ctx context.Context, leader string) error {
		results = nil
		return n.call(ctx, leader, rpcLedger, batch, &results)
	})
	return results, err
}
