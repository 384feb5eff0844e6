package api

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// ledger answers GET /v1/ledger.
func (s *Server) ledger(c *call) error {
	out := client.Ledger{ClusterID: s.cfg.ClusterID, Checkpointed: s.checkpointed(), CheckpointedIndex: s.sealedIndex()}
	err := c.read(func(state *fsm.State) {
		book, open := state.LedgerBook()
		out.Open, out.Policy = open, wireLedgerPolicy(book.Policy, open)
		if !open {
			return
		}
		out.Origin, out.Size, out.Head, out.IDFloorMs = book.Origin, book.Size, book.Head.String(), book.IDFloorMs
		issuance, _ := state.LedgerAccount(ledger.Issuance)
		out.Owed = state.LedgerOwed()
		out.Circulation = out.Owed - issuance.Balance
		sizes := state.LedgerSizes()
		out.Accounts, out.Holds, out.Reports = uint64(sizes.Accounts), uint64(sizes.Holds), uint64(sizes.Reports)
	})
	if err != nil {
		return err
	}
	out.Index, out.Finality = c.index, finality(out.Size, out.Checkpointed)
	return c.reply(http.StatusOK, out)
}

func wireLedgerPolicy(p ledger.Policy, open bool) client.LedgerPolicy {
	if !open {
		p = ledger.DefaultPolicy()
		p.Version = 0
	}
	return client.LedgerPolicy{Version: p.Version, IDWindowMs: p.IDWindowMs, HoldMaxMs: p.HoldMaxMs, ReportKeepMs: p.ReportKeepMs, Confirm: p.Confirm.String(),
		BaseDailyMicro: p.BaseDaily, MinDailyMicro: p.MinDaily, MaxDailyMicro: p.MaxDaily, LoadSlopeMicro: p.SlopeMicro, SmoothingMicro: p.AlphaMicro, MaxWeightMicro: p.MaxWeight}
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
		{&p.MinDaily, req.MinDailyMicro}, {&p.MaxDaily, req.MaxDailyMicro}, {&p.SlopeMicro, req.LoadSlopeMicro}, {&p.AlphaMicro, req.SmoothingMicro}, {&p.MaxWeight, req.MaxWeightMicro}} {
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

// wireAccount tells of an account. What is on it rests on all records.
func wireAccount(a fsm.LedgerAccount, index uint64, finality string) client.Account {
	return client.Account{ID: a.ID, Kind: a.Kind.String(), Owner: a.Owner, Floor: a.Floor, Frozen: a.Frozen, Balance: a.Balance, Held: a.Held,
		Available: a.Available(), Index: index, Finality: finality}
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
	if err := c.watchFloor(want); err != nil {
		return err
	}
	res, err := c.propose(fsm.LedgerAccountSet(want))
	if err != nil {
		return err
	}
	a, found := fsm.LedgerAccount{}, false
	err = c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) { a, found = state.LedgerAccount(want.ID) })
	if err != nil || !found { // it was made, and that is the news
		a = fsm.LedgerAccount{Account: want}
	}
	out := wireAccount(a, res.Index, client.FinalityCommitted)
	out.Repeated = res.Repeated
	return c.reply(http.StatusCreated, out)
}

// account answers GET /v1/ledger/accounts/{id}.
func (s *Server) account(c *call) error {
	var a fsm.LedgerAccount
	found := false
	var book fsm.LedgerBook
	if err := c.read(func(state *fsm.State) {
		a, found = state.LedgerAccount(c.args[0])
		book, _ = state.LedgerBook()
	}); err != nil {
		return err
	}
	if !found {
		return &client.Error{Code: client.CodeNotFound, Detail: "there is no account " + quote(c.args[0])}
	}
	return c.reply(http.StatusOK, wireAccount(a, c.index, finality(book.Size, s.checkpointed())))
}

// accounts answers GET /v1/ledger/accounts.
func (s *Server) accounts(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	var page []fsm.LedgerAccount
	var book fsm.LedgerBook
	after := c.r.URL.Query().Get("after")
	if err := c.read(func(state *fsm.State) {
		page = state.LedgerAccounts(after, limit+1)
		book, _ = state.LedgerBook()
	}); err != nil {
		return err
	}
	out := client.Accounts{Accounts: make([]client.Account, 0, len(page)), Index: c.index, Finality: finality(book.Size, s.checkpointed())}
	if len(page) > limit {
		page = page[:limit]
		out.Next = page[limit-1].ID
	}
	for _, a := range page {
		out.Accounts = append(out.Accounts, wireAccount(a, c.index, out.Finality))
	}
	return c.reply(http.StatusOK, out)
}

// ledgerEpochs answers GET /v1/ledger/epochs.
func (s *Server) ledgerEpochs(c *call) error {
	out := client.Epochs{Open: []client.OpenEpoch{}, Closed: []client.Epoch{}}
	sealed := s.checkpointed()
	err := c.read(func(state *fsm.State) {
		for _, e := range state.OpenEpochs() {
			out.Open = append(out.Open, client.OpenEpoch{WindowMs: e.WindowMs, Weight: e.Weight, Accounts: e.Accounts})
		}
		book, _ := state.LedgerBook()
		for _, e := range slices.Backward(book.Recent) {
			last := min(book.Size, e.Seq+e.Accounts+1) // of its shares, and of the reserve's if there is one
			out.Closed = append(out.Closed, client.Epoch{WindowMs: e.WindowMs, Weight: e.Weight, Accounts: e.Accounts, LoadMicro: e.Smoothed, Pool: e.Pool,
				ClosedMs: e.AtMs, Seq: e.Seq, Index: e.Index, Finality: finality(last, sealed)})
		}
	})
	if err != nil {
		return err
	}
	out.Index = c.index
	return c.reply(http.StatusOK, out)
}
