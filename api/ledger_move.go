package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Mover has operations of the ledger decided.
type Mover interface {
	// MoveLedger decides the operations of one caller and returns one answer each,
	// in order. The error is a *client.Error, of all of them: unavailable and
	// overloaded mean certainly not done, unknown_outcome means maybe.
	MoveLedger(ctx context.Context, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error)
}

// ledgerDetails says what is behind a code of an operation and what to do.
var ledgerDetails = map[fsm.Code]string{
	fsm.CodeInsufficient:   "less than the amount is available: balance less what is held and the floor; GET /v1/ledger/accounts/{id} tells",
	fsm.CodeAccountFrozen:  "the account is frozen, nothing leaves it: an operator thaws it",
	fsm.CodeHoldExpired:    "the hold is over, what it held is free again: make another one",
	fsm.CodeOverflow:       "the credit account cannot take so much more",
	fsm.CodeIDExpired:      "the id is older than ids are remembered: if this was asked for before look it up in the records, else ask with an id of now",
	fsm.CodeIDAhead:        "the time of the id is too far ahead of the cluster clock: set this machine's clock",
	fsm.CodeLinkedFailed:   "an entry that it is linked with was refused, so nothing of the chain took effect",
	fsm.CodeConflict:       "the id was used for something else: choose another one",
	fsm.CodeInvalid:        "the value is out of bounds, or does not go with the others",
	fsm.CodeNotFound:       "there is none of this id",
	fsm.CodeForbidden:      "it is for the owner of the account that is debited, for operators, and with the cluster's own accounts for admins",
	fsm.CodeOverloaded:     "no room is left for one more: wait for holds to end or ids to leave the window, or ask for a narrower window",
	fsm.CodeUnauthorized:   "the token is unknown, expired, used up or revoked",
	fsm.CodeUnknownAgent:   "no agent of this id is enrolled",
	fsm.CodeAgentNotActive: "the agent is pending, suspended or revoked",
	fsm.CodeKeyExpired:     "the key is not the agent's, or outside its time",
	fsm.CodeBlacklisted:    "a ban is in force on the agent",
	fsm.CodeReplay:         "this very request was decided before and refused, or its nonce is another request's: sign a new one; what it asks for keeps its id",
	fsm.CodeTimestampSkew:  "the signature is too old, or ahead of the cluster clock: sign the request again; what it asks for keeps its id",
	fsm.CodeRateLimited:    "the agent asked for itself as often as it may: wait, and ask again with the same id",
	fsm.CodeProfileRefused: "policy does not take the five headers from this agent",
}

// ledgerErrors maps codes of operations to errors; others are those of refusals.
var ledgerErrors = map[fsm.Code]client.Error{
	fsm.CodeInsufficient:   {Code: client.CodeConflict, Reason: client.LedgerInsufficient},
	fsm.CodeAccountFrozen:  {Code: client.CodeConflict, Reason: client.LedgerFrozen},
	fsm.CodeHoldExpired:    {Code: client.CodeConflict, Reason: client.LedgerHoldExpired},
	fsm.CodeOverflow:       {Code: client.CodeConflict, Reason: client.LedgerOverflow},
	fsm.CodeIDExpired:      {Code: client.CodeConflict, Reason: client.LedgerIDExpired},
	fsm.CodeIDAhead:        {Code: client.CodeInvalid, Reason: client.LedgerIDAhead},
	fsm.CodeLinkedFailed:   {Code: client.CodeConflict, Reason: client.LedgerLinkedFailed},
	fsm.CodeUnknownAgent:   {Code: client.CodeForbidden, Reason: client.VerdictUnknownAgent},
	fsm.CodeAgentNotActive: {Code: client.CodeForbidden, Reason: client.VerdictAgentNotActive},
	fsm.CodeKeyExpired:     {Code: client.CodeForbidden, Reason: client.VerdictKeyExpired},
	fsm.CodeBlacklisted:    {Code: client.CodeForbidden, Reason: client.VerdictBlacklisted},
	fsm.CodeReplay:         {Code: client.CodeUnauthorized, Reason: client.VerdictReplay},
	fsm.CodeTimestampSkew:  {Code: client.CodeUnauthorized, Reason: client.VerdictTimestampSkew},
	fsm.CodeRateLimited:    {Code: client.CodeRateLimited, Reason: client.VerdictRateLimited},
	fsm.CodeProfileRefused: {Code: client.CodeUnauthorized, Reason: client.VerdictInvalidSignature},
}

// reasonUnknownAccount is that of an operation that names an account which is not there.
const reasonUnknownAccount = "unknown_account"

// ledgerRefusal is the error of a single operation that was refused.
func ledgerRefusal(r fsm.LedgerResult) *client.Error {
	e, ok := ledgerErrors[r.Code]
	if !ok {
		e, ok = refusals[r.Code]
	}
	if !ok {
		e = client.Error{Code: client.CodeInternal, Detail: "no rule for the decision " + string(r.Code)}
	}
	if r.Code == fsm.CodeNotFound && r.Field != "hold" { // the path is there, what the body names is not
		e = client.Error{Code: client.CodeInvalid, Reason: reasonUnknownAccount}
	}
	e.Field, e.Detail = r.Field, cmp.Or(ledgerDetails[r.Code], e.Detail)
	return &e
}

func wireLedgerResult(id string, r fsm.LedgerResult) client.LedgerResult {
	out := client.LedgerResult{ID: id, Code: string(r.Code), Field: r.Field, Index: r.Index, ClockMs: r.ClockMs, Repeated: r.Repeated}
	if r.Code == fsm.CodeOK {
		out.Finality = client.FinalityCommitted
	} else {
		out.Detail = ledgerDetails[r.Code]
	}
	return out
}

// transfer answers POST /v1/ledger/transfers.
func (s *Server) transfer(c *call) error {
	var req client.TransferRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	return c.moveOne(client.LedgerEntry{Op: client.OpTransfer, ID: req.ID, TimestampMs: req.TimestampMs, Debit: req.Debit, Credit: req.Credit, Amount: req.Amount, Ref: req.Ref})
}

// hold answers POST /v1/ledger/holds.
func (s *Server) hold(c *call) error {
	var req client.HoldRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	return c.moveOne(client.LedgerEntry{Op: client.OpHold, ID: req.ID, TimestampMs: req.TimestampMs, Debit: req.Debit, Credit: req.Credit, Amount: req.Amount,
		ExpiresAtMs: req.ExpiresAtMs, TTLMs: req.TTLMs, Ref: req.Ref})
}

// endHold answers POST /v1/ledger/holds/{id}/post and void.
func (s *Server) endHold(op string) func(*call) error {
	return func(c *call) error {
		var req client.HoldEnd
		if strings.TrimSpace(c.body) != "" {
			if err := c.decode(&req); err != nil {
				return err
			}
		}
		return c.moveOne(client.LedgerEntry{Op: op, ID: req.ID, TimestampMs: req.TimestampMs, Hold: c.args[0], Amount: req.Amount, Ref: req.Ref})
	}
}

// moveOne has one operation decided: by its id, or under an idempotency key in an
// entry of the log of its own.
func (c *call) moveOne(e client.LedgerEntry) error {
	caller, err := c.ledgerCaller()
	if err != nil {
		return err
	}
	m := newMoves(caller, 1)
	if err := m.add(c, &e); err != nil {
		return err
	}
	id := m.Entries[0].ID.String()
	if err := c.watchIssue(m); err != nil {
		return err
	}
	if c.hasKey() {
		return c.moveKeyed(m, id)
	}
	results, err := c.move(m)
	if err != nil {
		if e := (*client.Error)(nil); errors.As(err, &e) {
			named := *e
			named.ClaimID = id
			return &named
		}
		return err
	}
	return c.replyMove(id, results[0])
}

func (c *call) replyMove(id string, r fsm.LedgerResult) error {
	if r.Code != fsm.CodeOK {
		c.index = max(c.index, r.Index)
		return ledgerRefusal(r)
	}
	return c.reply(http.StatusOK, c.wireResults([]fsm.LedgerResult{r}, func(int) string { return id })[0])
}

// moveKeyed has an operation decided under the call's idempotency key, which refuses
// another body and gives the first answer. That it moves money once is for the id: keys
// are forgotten, and a restore knows none of them. A repeated answer has the id that
// the first call had.
func (c *call) moveKeyed(m *moves, id string) error {
	res, err := c.decideOnce(m.LedgerBatch)
	switch {
	case err != nil:
		return err
	case len(res.Ledger) == 1:
		m.issued.tell(c, res.Ledger)
		return c.replyMove(id, res.Ledger[0])
	case !res.OK():
		return refusal(res)
	}
	first := fsm.LedgerResult{Code: fsm.CodeOK, Index: res.Index, Repeated: res.Repeated}
	m.issued.tell(c, []fsm.LedgerResult{first})
	return c.replyMove(res.ID, first)
}

// move has the node decide a batch.
func (c *call) move(m *moves) ([]fsm.LedgerResult, error) {
	results, err := c.s.node.MoveLedger(c.ctx, m.LedgerBatch)
	if err == nil && len(results) != len(m.Entries) {
		err = fmt.Errorf("the node answered %d operations with %d results", len(m.Entries), len(results))
	}
	if err != nil {
		return nil, err
	}
	for i := range results {
		c.s.meter.operated(results[i].Code)
	}
	c.proposed = m.issued.tell(c, results)
	return results, nil
}

// moveBatch answers POST /v1/ledger/transfers/batch.
func (s *Server) moveBatch(c *call) error {
	var req client.LedgerBatch
	if err := c.decode(&req); err != nil {
		return err
	}
	if n := len(req.Entries); n == 0 || n > client.MaxLedgerBatch {
		return &client.Error{Code: client.CodeTooLarge, Field: "entries", Detail: fmt.Sprintf("%d entries, a batch has 1 to %d", n, client.MaxLedgerBatch)}
	}
	caller, err := c.ledgerCaller()
	if err != nil {
		return err
	}
	m := newMoves(caller, len(req.Entries))
	for i := range req.Entries {
		e := &req.Entries[i]
		if e.ID == "" {
			return invalid(fmt.Sprintf("entries[%d].id", i), "an entry of a batch carries an id, so that the batch can be asked again")
		}
		if req.Linked {
			e.Linked = i+1 < len(req.Entries)
		} else if e.Linked && i+1 == len(req.Entries) {
			return invalid(fmt.Sprintf("entries[%d].linked", i), "the last entry is linked to nothing: leave linked out there")
		}
		if err := m.add(c, e); err != nil {
			if f := (*client.Error)(nil); errors.As(err, &f) {
				f.Field = fmt.Sprintf("entries[%d].%s", i, f.Field)
			}
			return err
		}
	}
	if err := c.watchIssue(m); err != nil {
		return err
	}
	results, err := c.move(m)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.LedgerResults{Results: c.wireResults(results, func(i int) string { return m.Entries[i].ID.String() })})
}
