package api

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
	"github.com/edgecoder/edgecoder/ledger/walk"
)

// Any token that may read the ledger may have it verified, and the records of a big one
// take minutes. So it is done once at a time, what was verified is not walked again for
// a while, one processor is left to everything else, and each token has a budget.

const (
	// verifiesPerSecond and verifiesBurst are the budget of one token: comparing
	// balances takes a copy of all accounts, half a second of a million.
	verifiesPerSecond = 0.2
	verifiesBurst     = 12
	verifiesEntries   = 4096
	// verifiedFor is how long what was walked is believed: what the disk lost since
	// is found no later.
	verifiedFor = time.Hour
)

// walked is what the newest walk came to, for the next one to go on from. It belongs to
// whoever holds the slot, and is about as large as the ledger's part of the state.
type walked struct {
	v      *ledger.Verifier // nil: nothing
	origin string
	began  time.Time
}

// verifyLedger answers GET /v1/ledger/verify.
func (s *Server) verifyLedger(c *call) error {
	out, err := s.verified(c)
	if err != nil {
		return err
	}
	return c.answerLate(out)
}

// verified verifies the ledger of this node.
func (s *Server) verified(c *call) (out client.LedgerVerified, err error) {
	if wait := s.verifies.Take(c.token.ID); wait > 0 {
		return out, &client.Error{Code: client.CodeRateLimited, RetryAfter: wait,
			Detail: fmt.Sprintf("one token has the ledger verified once in %g s: wait, or export it and verify the file (edgecoder ledger verify FILE)", 1/verifiesPerSecond)}
	}
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	default:
		return out, overloaded("this node is verifying its ledger for somebody else: wait for that, or ask another node")
	}
	began := s.cfg.Now()
	var book fsm.LedgerBook
	var live ledger.Live
	if err := c.readAt(c.fresh, func(state *fsm.State) {
		book = s.bookOf(state)
		live = state.LedgerLive()
	}); err != nil {
		return out, err
	}
	if out, err = s.walkLedger(c.r.Context(), book, live); err != nil {
		return out, err
	}
	out.Index, out.TookMs = c.index, s.cfg.Now().Sub(began).Milliseconds()
	return out, nil
}

// walkLedger verifies the records of a book, and holds what is live against them.
func (s *Server) walkLedger(ctx context.Context, book fsm.LedgerBook, live ledger.Live) (out client.LedgerVerified, err error) {
	v, err := s.walkOn(book)
	if err != nil {
		return out, err
	}
	out.From = v.Seq() + 1
	err = walk.More(ctx, v, max(1, runtime.GOMAXPROCS(0)-1), s.ledgerData(ctx, v.Seq()+1, book.Size), nil)
	if err == nil {
		err = v.Finish(book.Size, book.Head)
	}
	out.Records, out.Head, out.Accounts = v.Seq(), v.Head().String(), uint64(v.Accounts())
	if err == nil {
		err = v.Compare(live)
	}
	fault := (*ledger.RecordError)(nil)
	switch {
	case errors.As(err, &fault):
		s.walked = walked{} // whoever asks again is told of all records
		out.Fault = &client.LedgerFault{Seq: fault.Seq, Code: fault.Code, Detail: fault.Detail}
		if fault.Kind != 0 {
			out.Fault.Kind = fault.Kind.String()
		}
		return out, nil
	case err != nil: // it goes on from there
		return out, err
	}
	out.OK = true
	return out, nil
}

// walkOn returns the verifier of the newest walk, if it is of this very ledger and not
// too old, else one of no records.
func (s *Server) walkOn(book fsm.LedgerBook) (*ledger.Verifier, error) {
	was, now := s.walked, s.cfg.Now()
	if was.v != nil && was.origin == book.Origin && was.v.Seq() <= book.Size && now.Sub(was.began) < verifiedFor {
		same, err := s.endsLike(was.v)
		if err != nil || same {
			return was.v, err
		}
	}
	s.walked = walked{v: ledger.NewVerifier(book.Origin), origin: book.Origin, began: now}
	return s.walked.v, nil
}

// endsLike tells whether the history here has the record with which a walk ended:
// after a restore it may have another.
func (s *Server) endsLike(v *ledger.Verifier) (bool, error) {
	if v.Seq() == 0 {
		return true, nil
	}
	records, err := s.node.Records(fsm.StreamLedger, v.Seq(), 1)
	if err != nil || len(records) != 1 {
		return false, err
	}
	last, err := ledger.ParseRecord(records[0].Data)
	return err == nil && last.Hash == v.Head(), nil
}
