package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// ledger answers GET /v1/ledger.
func (s *Server) ledger(c *call) error {
	out := client.Ledger{Finality: client.FinalityCommitted}
	err := c.read(func(state *fsm.State) {
		book, open := state.LedgerBook()
		out.Open, out.Policy = open, wireLedgerPolicy(book.Policy, open)
		if !open {
			return
		}
		out.Origin, out.Size, out.Head, out.IDFloorMs = book.Origin, book.Size, book.Head.String(), book.IDFloorMs
		issuance, _ := state.LedgerAccount(ledger.Issuance)
		out.Circulation = -issuance.Balance
		sizes := state.LedgerSizes()
		out.Accounts, out.Holds, out.Reports = uint64(sizes.Accounts), uint64(sizes.Holds), uint64(sizes.Reports)
	})
	if err != nil {
		return err
	}
	out.Index = c.index
	return c.reply(http.StatusOK, out)
}

func wireLedgerPolicy(p ledger.Policy, open bool) client.LedgerPolicy {
	if !open {
		p = ledger.DefaultPolicy()
		p.Version = 0
	}
	return client.LedgerPolicy{Version: p.Version, IDWindowMs: p.IDWindowMs, HoldMaxMs: p.HoldMaxMs, ReportKeepMs: p.ReportKeepMs, Confirm: p.Confirm.String(),
		BaseDailyMicro: p.BaseDaily, MinDailyMicro: p.MinDaily, MaxDailyMicro: p.MaxDaily, LoadSlopeMicro: p.SlopeMicro, SmoothingMicro: p.AlphaMicro}
}

// ledgerPolicy answers GET /v1/ledger/policy.
func (s *Server) ledgerPolicy(c *call) error {
	var out client.LedgerPolicy
	err := c.read(func(state *fsm.State) {
		book, open := state.LedgerBook()
		out = wireLedgerPolicy(book.Policy, open)
	})
	if err != nil {
		return err
	}
	return c.replyLedgerPolicy(out)
}

func (c *call) replyLedgerPolicy(out client.LedgerPolicy) error {
	out.Index = c.index
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(out.Version, 10)))
	return c.reply(http.StatusOK, out)
}

// setLedgerPolicy answers PUT /v1/ledger/policy.
func (s *Server) setLedgerPolicy(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	var req client.LedgerPolicyUpdate
	if err := c.decode(&req); err != nil {
		return err
	}
	var was ledger.Policy
	get := func(state *fsm.State) {
		if book, open := state.LedgerBook(); open {
			was = book.Policy
		} else {
			was = ledger.DefaultPolicy()
			was.Version = 0
		}
	}
	err = c.readAt(ReadOptions{}, get)
	if err == nil && was.Version < version { // a replica that is behind asks again
		err = c.readAt(ReadOptions{Strong: true}, get)
	}
	if err != nil {
		return err
	}
	next, err := updatedLedgerPolicy(was, &req)
	if err != nil {
		return err
	}
	res, err := c.propose(fsm.LedgerPolicySet{IfVersion: version, Policy: next})
	if err != nil {
		return err
	}
	next.Version = version + 1
	out := wireLedgerPolicy(next, true)
	out.Repeated = res.Repeated
	return c.replyLedgerPolicy(out)
}

func updatedLedgerPolicy(p ledger.Policy, req *client.LedgerPolicyUpdate) (ledger.Policy, error) {
	for _, m := range []struct {
		to   *int64
		from *int64
	}{{&p.IDWindowMs, req.IDWindowMs}, {&p.HoldMaxMs, req.HoldMaxMs}, {&p.ReportKeepMs, req.ReportKeepMs}, {&p.BaseDaily, req.BaseDailyMicro},
		{&p.MinDaily, req.MinDailyMicro}, {&p.MaxDaily, req.MaxDailyMicro}, {&p.SlopeMicro, req.LoadSlopeMicro}, {&p.AlphaMicro, req.SmoothingMicro}} {
		if m.from != nil {
			*m.to = *m.from
		}
	}
	if req.Confirm != nil {
		rule, err := ledger.ParseConfirm(*req.Confirm)
		if err != nil {
			return p, invalid("confirm", err.Error())
		}
		p.Confirm = rule
	}
	if field, fault := p.Fault(); fault != "" {
		return p, invalid(field, fault)
	}
	return p, nil
}

func wireAccount(a fsm.LedgerAccount, index uint64) client.Account {
	return client.Account{ID: a.ID, Kind: a.Kind.String(), Owner: a.Owner, Floor: a.Floor, Frozen: a.Frozen, Balance: a.Balance, Held: a.Held,
		Available: a.Available(), Index: index, Finality: client.FinalityCommitted}
}

// setAccount answers POST /v1/ledger/accounts.
func (s *Server) setAccount(c *call) error {
	var req client.AccountRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	kind, err := ledger.ParseAccountKind(req.Kind)
	if err != nil {
		return invalid("kind", err.Error())
	}
	want := ledger.Account{ID: req.ID, Kind: kind, Owner: req.Owner, Floor: req.Floor, Frozen: req.Frozen}
	if field, fault := want.Fault(); fault != "" {
		return invalid(field, fault)
	}
	c.subject = want.ID
	res, err := c.propose(fsm.LedgerAccountSet(want))
	if err != nil {
		return err
	}
	a, found := fsm.LedgerAccount{}, false
	err = c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) { a, found = state.LedgerAccount(want.ID) })
	if err != nil || !found { // it was made, and that is the news
		a = fsm.LedgerAccount{Account: want}
	}
	out := wireAccount(a, res.Index)
	out.Repeated = res.Repeated
	return c.reply(http.StatusCreated, out)
}

// account answers GET /v1/ledger/accounts/{id}.
func (s *Server) account(c *call) error {
	var a fsm.LedgerAccount
	found := false
	if err := c.read(func(state *fsm.State) { a, found = state.LedgerAccount(c.args[0]) }); err != nil {
		return err
	}
	if !found {
		return &client.Error{Code: client.CodeNotFound, Detail: "there is no account " + quote(c.args[0])}
	}
	return c.reply(http.StatusOK, wireAccount(a, c.index))
}

// accounts answers GET /v1/ledger/accounts.
func (s *Server) accounts(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	var page []fsm.LedgerAccount
	after := c.r.URL.Query().Get("after")
	if err := c.read(func(state *fsm.State) { page = state.LedgerAccounts(after, limit+1) }); err != nil {
		return err
	}
	out := client.Accounts{Accounts: make([]client.Account, 0, len(page)), Index: c.index, Finality: client.FinalityCommitted}
	if len(page) > limit {
		page = page[:limit]
		out.Next = page[limit-1].ID
	}
	for _, a := range page {
		out.Accounts = append(out.Accounts, wireAccount(a, c.index))
	}
	return c.reply(http.StatusOK, out)
}

// ledgerEpochs answers GET /v1/ledger/epochs.
func (s *Server) ledgerEpochs(c *call) error {
	out := client.Epochs{Open: []client.OpenEpoch{}, Closed: []client.Epoch{}}
	err := c.read(func(state *fsm.State) {
		for _, e := range state.OpenEpochs() {
			out.Open = append(out.Open, client.OpenEpoch{WindowMs: e.WindowMs, Weight: e.Weight, Accounts: e.Accounts})
		}
		book, _ := state.LedgerBook()
		for _, e := range slices.Backward(book.Recent) {
			out.Closed = append(out.Closed, client.Epoch{WindowMs: e.WindowMs, Weight: e.Weight, Accounts: e.Accounts, LoadMicro: e.Smoothed, Pool: e.Pool,
				ClosedMs: e.AtMs, Seq: e.Seq, Index: e.Index, Finality: client.FinalityCommitted})
		}
	})
	if err != nil {
		return err
	}
	out.Index = c.index
	return c.reply(http.StatusOK, out)
}

// contribute answers POST /v1/ledger/contributions. Signatures are verified here,
// once; whose keys they are, is asked in Apply.
func (s *Server) contribute(c *call) error {
	var req client.ContributionReports
	if err := c.decode(&req); err != nil {
		return err
	}
	if n := len(req.Reports); n == 0 || n > client.MaxLedgerBatch {
		return &client.Error{Code: client.CodeTooLarge, Field: "reports", Detail: fmt.Sprintf("%d reports, a call has 1 to %d", n, client.MaxLedgerBatch)}
	}
	var origin string
	if err := c.readAt(ReadOptions{}, func(state *fsm.State) { origin = s.bookOf(state).Origin }); err != nil {
		return err
	}
	body := fsm.LedgerReports{Reports: make([]ledger.SignedReport, 0, len(req.Reports))}
	ids := make([]string, 0, len(req.Reports))
	for i := range req.Reports {
		signed, field, err := signedReport(&req.Reports[i])
		if err != nil {
			return invalid(fmt.Sprintf("reports[%d].%s", i, field), err.Error())
		}
		body.Reports, ids = append(body.Reports, signed), append(ids, req.Reports[i].ID)
	}
	first, err := c.knownReports(body.Reports)
	if err != nil {
		return err
	}
	for i := range body.Reports { // of keys that are enrolled: a stranger costs none of this
		if !body.Reports[i].Verify(origin) {
			return &client.Error{Code: client.CodeUnauthorized, Field: fmt.Sprintf("reports[%d].signature", i), Reason: client.VerdictInvalidSignature,
				Detail: "the report is not signed by the key it names, for the ledger of cluster " + origin}
		}
	}
	if first != nil {
		return c.replyResults(first, ids)
	}
	cmd, err := fsm.New(fsm.Actor{}, body)
	if err != nil {
		return err
	}
	return c.replyEach(cmd, ids)
}

// knownReports refuses reports whose key is none of their agent's, so that strangers
// write nothing into the log: this replica is asked, and once more with a strong read,
// since what was enrolled at one node reports at the next. It returns the first
// answers if all of them were taken in before.
func (c *call) knownReports(reports []ledger.SignedReport) (first []fsm.LedgerResult, err error) {
	stranger := 0
	look := func(state *fsm.State) {
		first, stranger = nil, -1
		for i := range reports {
			r := &reports[i]
			if keys, _ := state.AgentKeys(r.Report.AgentID); !slices.Contains(keys, r.Key) {
				stranger = i
				return
			}
			if answer, taken := state.ReportTaken(&r.Report); taken {
				first = append(first, answer)
			}
		}
	}
	if err := c.readAt(ReadOptions{}, look); err != nil {
		return nil, err
	}
	if stranger >= 0 {
		if err := c.s.refuse(c, nil); err != nil {
			return nil, err
		}
		free, err := c.s.takeLookup(c)
		if err != nil {
			return nil, err
		}
		defer free()
		if err := c.readAt(ReadOptions{Strong: true}, look); err != nil {
			return nil, err
		}
	}
	if stranger >= 0 {
		return nil, &client.Error{Code: client.CodeUnauthorized, Field: fmt.Sprintf("reports[%d].public_key", stranger), Reason: client.VerdictUnknownAgent,
			Detail: "it is no key of the agent that the report names: enrol the agent, or sign with its key"}
	}
	if len(first) < len(reports) {
		return nil, nil
	}
	return first, nil
}

func signedReport(w *client.Contribution) (out ledger.SignedReport, field string, err error) {
	if out.Report, err = w.Unsigned(); err != nil {
		return out, "id", err
	}
	if field, fault := out.Report.Fault(); fault != "" {
		return out, field, fmt.Errorf("%s", fault)
	}
	if out.Key, err = crypto.ParsePublicKey(w.PublicKey); err != nil {
		return out, "public_key", err
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(w.Signature)
	if err != nil || len(signature) != len(out.Signature) {
		return out, "signature", fmt.Errorf("want the base64 of %d bytes", len(out.Signature))
	}
	copy(out.Signature[:], signature)
	return out, "", nil
}

// confirmContributions answers POST /v1/ledger/contributions/confirm.
func (s *Server) confirmContributions(c *call) error {
	var req client.ContributionVerdict
	if err := c.decode(&req); err != nil {
		return err
	}
	if n := len(req.IDs); n == 0 || n > client.MaxLedgerBatch {
		return &client.Error{Code: client.CodeTooLarge, Field: "ids", Detail: fmt.Sprintf("%d ids, a call has 1 to %d", n, client.MaxLedgerBatch)}
	}
	body := fsm.LedgerConfirm{Reject: req.Reject}
	for i, text := range req.IDs {
		id, err := ledger.ParseID(text)
		if err != nil {
			return invalid(fmt.Sprintf("ids[%d]", i), err.Error())
		}
		body.IDs = append(body.IDs, id)
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: c.token.ID}, body)
	if err != nil {
		return err
	}
	return c.replyEach(cmd, req.IDs)
}

// replyEach proposes a command that has an answer for each id.
func (c *call) replyEach(cmd fsm.Command, ids []string) error {
	res, err := c.decide(cmd)
	c.proposed = false // the records are the trace
	switch {
	case err != nil:
		return err
	case !res.OK():
		return refusal(res)
	case len(res.Ledger) != len(ids):
		return fmt.Errorf("%d answers to %d reports", len(res.Ledger), len(ids))
	}
	return c.replyResults(res.Ledger, ids)
}

func (c *call) replyResults(results []fsm.LedgerResult, ids []string) error {
	out := client.LedgerResults{Results: make([]client.LedgerResult, len(ids))}
	for i, r := range results {
		c.index = max(c.index, r.Index)
		out.Results[i] = wireLedgerResult(ids[i], r)
	}
	return c.reply(http.StatusOK, out)
}
