package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// Name returns what a verdict on the report names. A payer makes it of what it knows of
// the work, and compares nothing else.
func (w Contribution) Name() (ContributionName, error) {
	r, err := w.Unsigned()
	if err != nil {
		return ContributionName{}, err
	}
	return ContributionName{AgentID: r.AgentID, ID: r.ID.String(), Sum: r.Sum().String()}, nil
}

// String returns the name as one word: agent, id and sum with slashes between them.
func (n ContributionName) String() string { return n.AgentID + "/" + n.ID + "/" + n.Sum }

// ParseContributionName reads what String prints. Agent ids may have slashes.
func ParseContributionName(text string) (n ContributionName, err error) {
	sum := strings.LastIndexByte(text, '/')
	id := strings.LastIndexByte(text[:max(0, sum)], '/')
	if id < 0 {
		return n, fmt.Errorf("%.200q: want AGENT/ID/SUM of a report", text)
	}
	n = ContributionName{AgentID: text[:id], ID: text[id+1 : sum], Sum: text[sum+1:]}
	_, _, err = n.Parts()
	return n, err
}

// Parts checks the name and returns its id and sum.
func (n ContributionName) Parts() (id ledger.ID, sum crypto.Hash, err error) {
	if err := crypto.CheckID(n.AgentID); err != nil {
		return id, sum, fmt.Errorf("agent_id: %w", err)
	}
	if id, err = ledger.ParseID(n.ID); err != nil {
		return id, sum, fmt.Errorf("id: %w", err)
	}
	if sum, err = crypto.ParseHash(n.Sum); err != nil {
		return id, sum, fmt.Errorf("sum: %w", err)
	}
	return id, sum, nil
}

// Contributions returns a page of the reports that wait for the verdict of whoever
// speaks for an account, see Page.
func (c *Client) Contributions(ctx context.Context, payer string, opts ...Option) (out PendingContributions, err error) {
	opts = append(opts, func(q *call) { q.query.Set("payer", payer) })
	err = c.get(ctx, "/v1/ledger/contributions", &out, opts)
	return out, err
}

// ConfirmContributions has reports count, or rejects them.
func (c *Client) ConfirmContributions(ctx context.Context, req ContributionVerdict, opts ...Option) (out LedgerResults, err error) {
	return out, c.send(ctx, newCall(http.MethodPost, "/v1/ledger/contributions/confirm", opts), req, &out)
}
