package api

import (
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// contributions answers GET /v1/ledger/contributions: what an account is asked to pay for.
func (s *Server) contributions(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	payer := query.Get("payer")
	if err := crypto.CheckID(payer); err != nil {
		return invalid("payer", "name in the query the account that pays: "+err.Error())
	}
	var after *fsm.ReportName
	if text := query.Get("after"); text != "" {
		name, err := client.ParseContributionName(text)
		if err != nil {
			return invalid("after", err.Error())
		}
		from, _ := reportNamed(&name)
		after = &from
	}
	caller, err := c.ledgerCaller()
	if err != nil {
		return err
	}
	var account fsm.LedgerAccount
	var page []fsm.PendingReport
	if err := c.read(func(state *fsm.State) {
		account, _ = state.LedgerAccount(payer)
		page = state.ReportsOwed(payer, after, limit+1)
	}); err != nil {
		return err
	}
	owner := account.Kind == ledger.KindAgent && caller.AgentID != "" && caller.AgentID == account.Owner ||
		account.Kind == ledger.KindService && caller.TokenID != "" && caller.TokenID == account.Owner
	if !owner && !c.token.Role.Can(fsm.CapOperate) { // nor does it tell which accounts there are
		return &client.Error{Code: client.CodeForbidden, Field: "payer", Detail: "name in the query an account of your own: what others are asked to pay for is for them and for operators"}
	}
	out := client.PendingContributions{Contributions: make([]client.PendingContribution, 0, len(page)), Index: c.index}
	more := len(page) > limit
	for i := range page[:min(limit, len(page))] {
		out.Contributions = append(out.Contributions, wirePending(&page[i]))
	}
	if more {
		out.Next = out.Contributions[limit-1].String()
	}
	return c.reply(http.StatusOK, out)
}

func wirePending(r *fsm.PendingReport) client.PendingContribution {
	return client.PendingContribution{ContributionName: client.ContributionName{AgentID: r.AgentID, ID: r.ID.String(), Sum: r.Sum().String()},
		Account: r.Account, Payer: r.Payer, Task: r.Task, Class: r.Class.String(), DurationMs: r.DurationMs, OK: r.OK, Weight: r.Weight(), ExpiresMs: r.ExpiresMs}
}

func reportNamed(n *client.ContributionName) (fsm.ReportName, error) {
	id, sum, err := n.Parts()
	return fsm.ReportName{AgentID: n.AgentID, ID: id, Sum: sum}, err
}

// confirmContributions answers POST /v1/ledger/contributions/confirm.
func (s *Server) confirmContributions(c *call) error {
	var req client.ContributionVerdict
	if err := c.decode(&req); err != nil {
		return err
	}
	if n := len(req.Reports); n == 0 || n > client.MaxLedgerBatch {
		return &client.Error{Code: client.CodeTooLarge, Field: "reports", Detail: fmt.Sprintf("%d reports, a call has 1 to %d", n, client.MaxLedgerBatch)}
	}
	body := fsm.LedgerConfirm{Reject: req.Reject}
	ids := make([]string, 0, len(req.Reports))
	for i := range req.Reports {
		name, err := reportNamed(&req.Reports[i])
		if err != nil {
			return invalid(fmt.Sprintf("reports[%d]", i), err.Error())
		}
		body.Reports, ids = append(body.Reports, name), append(ids, req.Reports[i].ID)
	}
	by, err := c.ledgerCaller()
	if err != nil {
		return err
	}
	if by.AgentID != "" {
		body.By = by
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: c.token.ID}, body)
	if err != nil {
		return err
	}
	results, err := c.decideEach(cmd, len(ids))
	if err != nil {
		return err
	}
	return c.replyResults(results, ids)
}
