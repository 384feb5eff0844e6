package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// NewLedgerID makes the id of an operation: a UUID of version 7 of now.
func NewLedgerID() string {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails
	return ledger.NewID(time.Now().UnixMilli(), random).String()
}

// SignContribution makes the report of work that an agent did, for one cluster. Which
// one is for the agent to know, as from its enrolment: whoever is asked might name
// another, in which the report then counts. Its id must be set.
func SignContribution(key crypto.PrivateKey, clusterID string, w Contribution) (Contribution, error) {
	report, err := w.Unsigned()
	if err != nil {
		return w, err
	}
	signed := report.Sign(key, clusterID)
	w.PublicKey, w.Signature = signed.Key.String(), base64.StdEncoding.EncodeToString(signed.Signature[:])
	return w, nil
}

// Unsigned returns what is signed of a contribution.
func (w Contribution) Unsigned() (ledger.Report, error) {
	id, err := ledger.ParseID(w.ID)
	if err != nil {
		return ledger.Report{}, fmt.Errorf("id: %w", err)
	}
	class, err := ledger.ParseClass(w.Class)
	if err != nil {
		return ledger.Report{}, fmt.Errorf("class: %w", err)
	}
	return ledger.Report{ID: id, AgentID: w.AgentID, Account: w.Account, Payer: w.Payer, Task: w.Task, Class: class, DurationMs: w.DurationMs, OK: w.OK}, nil
}

// LedgerPath is the path that an agent signs to ask the ledger of a cluster for a
// transfer, hold, end of a hold, or confirmation: the five headers name no cluster, and
// what an agent signed for one is not for another, also if that has a copy of the ledger.
func LedgerPath(clusterID, path string) string { return "/cluster/" + url.PathEscape(clusterID) + path }

// AsAgent has an agent ask instead of the client's token: each try is signed anew, for a
// signed request is decided once. What could not be decided is to be asked for again with
// the same id: then it happens once, whoever captured a try and sends it.
// The routes are those of Transfer, Hold, PostHold, VoidHold, Contributions and
// ConfirmContributions.
func AsAgent(agentID string, key crypto.PrivateKey, clusterID string) Option {
	return func(c *call) {
		c.sign = func(req *http.Request) error {
			nonce, err := crypto.NewUUID(rand.Reader)
			if err != nil {
				return err
			}
			signed, err := crypto.SignRequest(key, agentID, c.method, LedgerPath(clusterID, req.URL.EscapedPath()), c.body, time.Now().UnixMilli(), nonce)
			if err != nil {
				return err
			}
			for _, h := range signed.Headers() {
				req.Header.Set(h[0], h[1])
			}
			return nil
		}
	}
}

// Ledger returns what the ledger comes to.
func (c *Client) Ledger(ctx context.Context, opts ...Option) (out Ledger, err error) {
	err = c.get(ctx, "/v1/ledger", &out, opts)
	return out, err
}

// LedgerPolicy returns the policy of the ledger.
func (c *Client) LedgerPolicy(ctx context.Context, opts ...Option) (out LedgerPolicy, err error) {
	err = c.get(ctx, "/v1/ledger/policy", &out, opts)
	return out, err
}

// SetLedgerPolicy changes the policy of the ledger if it is still at ifVersion; 0
// opens the ledger.
func (c *Client) SetLedgerPolicy(ctx context.Context, ifVersion uint64, update LedgerPolicyUpdate, opts ...Option) (out LedgerPolicy, err error) {
	opts = append(opts, func(q *call) { q.header.Set("If-Match", strconv.Quote(strconv.FormatUint(ifVersion, 10))) })
	err = c.change(ctx, http.MethodPut, "/v1/ledger/policy", update, &out, opts)
	return out, err
}

// SetAccount makes an account, or changes its floor and whether it is frozen.
func (c *Client) SetAccount(ctx context.Context, req AccountRequest, opts ...Option) (out Account, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/ledger/accounts", req, &out, opts)
	return out, err
}

// Account returns an account; the error has CodeNotFound when there is none.
func (c *Client) Account(ctx context.Context, id string, opts ...Option) (out Account, err error) {
	err = c.get(ctx, "/v1/ledger/accounts/"+url.PathEscape(id), &out, opts)
	return out, err
}

// Accounts returns a page of accounts, see Page.
func (c *Client) Accounts(ctx context.Context, opts ...Option) (out Accounts, err error) {
	err = c.get(ctx, "/v1/ledger/accounts", &out, opts)
	return out, err
}

// Transfer moves an amount between accounts. Without an id and an IdempotencyKey it
// makes an id, so that its own tries move money once; a caller that gives up and
// wants to ask again chooses the id (NewLedgerID). With an IdempotencyKey it carries an
// id, or the TimestampMs of the first try: keys are forgotten.
func (c *Client) Transfer(ctx context.Context, req TransferRequest, opts ...Option) (out LedgerResult, err error) {
	q := newCall(http.MethodPost, "/v1/ledger/transfers", opts)
	q.operation(&req.ID)
	return out, c.send(ctx, q, req, &out)
}

// Hold sets an amount aside, see Transfer. The id of the answer is the hold's.
func (c *Client) Hold(ctx context.Context, req HoldRequest, opts ...Option) (out LedgerResult, err error) {
	q := newCall(http.MethodPost, "/v1/ledger/holds", opts)
	q.operation(&req.ID)
	return out, c.send(ctx, q, req, &out)
}

// PostHold moves what a hold set aside, or a part of it, and gives the rest back.
func (c *Client) PostHold(ctx context.Context, hold string, end HoldEnd, opts ...Option) (out LedgerResult, err error) {
	return c.endHold(ctx, hold, "/post", end, opts)
}

// VoidHold gives back what a hold set aside.
func (c *Client) VoidHold(ctx context.Context, hold string, end HoldEnd, opts ...Option) (out LedgerResult, err error) {
	return c.endHold(ctx, hold, "/void", end, opts)
}

func (c *Client) endHold(ctx context.Context, hold, how string, end HoldEnd, opts []Option) (out LedgerResult, err error) {
	q := newCall(http.MethodPost, "/v1/ledger/holds/"+url.PathEscape(hold)+how, opts)
	q.operation(&end.ID)
	return out, c.send(ctx, q, end, &out)
}

// MoveLedger has a batch of operations decided; each has its result. Entries without
// an id are given one, in place.
func (c *Client) MoveLedger(ctx context.Context, batch LedgerBatch, opts ...Option) (out LedgerResults, err error) {
	for i := range batch.Entries {
		if batch.Entries[i].ID == "" {
			batch.Entries[i].ID = NewLedgerID()
		}
	}
	return out, c.send(ctx, newCall(http.MethodPost, "/v1/ledger/transfers/batch", opts), batch, &out)
}

// ReportContributions hands in signed reports; each has its result.
func (c *Client) ReportContributions(ctx context.Context, req ContributionReports, opts ...Option) (out LedgerResults, err error) {
	return out, c.send(ctx, newCall(http.MethodPost, "/v1/ledger/contributions", opts), req, &out)
}

// operation gives an operation the id that every try carries. One of now would be
// another in each call under an idempotency key: there the caller says which.
func (q *call) operation(id *string) {
	if *id == "" && q.key == "" {
		*id = NewLedgerID()
	}
	q.claim = *id
}

// Epochs returns the epochs that are open and those that were closed last.
func (c *Client) Epochs(ctx context.Context, opts ...Option) (out Epochs, err error) {
	err = c.get(ctx, "/v1/ledger/epochs", &out, opts)
	return out, err
}

// LedgerRecords returns a page of the records from one on, see Limit. With an
// account only those that name it: a page may then be empty and still go on.
func (c *Client) LedgerRecords(ctx context.Context, from uint64, account string, opts ...Option) (out LedgerRecords, err error) {
	opts = append(opts, func(q *call) {
		q.query.Set("from", strconv.FormatUint(from, 10))
		if account != "" {
			q.query.Set("account", account)
		}
	})
	err = c.get(ctx, "/v1/ledger/records", &out, opts)
	return out, err
}

// VerifyLedger has the node that answers walk all its records. It takes as long as
// they do: a minute for some millions.
func (c *Client) VerifyLedger(ctx context.Context, opts ...Option) (out LedgerVerified, err error) {
	opts = append(opts, func(q *call) { q.untimed = true })
	err = c.get(ctx, "/v1/ledger/verify", &out, opts)
	return out, err
}

// ExportLedger writes all records to out as an export file, which
// ledger.VerifyExport verifies. After an error out may hold part of one.
func (c *Client) ExportLedger(ctx context.Context, out io.Writer, opts ...Option) error {
	q := newCall(http.MethodGet, "/v1/ledger/export", opts)
	q.untimed = true
	var broke error
	q.read = func(in io.Reader) error {
		// A second try would append to the first, so this ends the call.
		if _, err := io.Copy(out, in); err != nil {
			broke = fmt.Errorf("the export broke off: %w", err)
		}
		return nil
	}
	if err := c.do(ctx, q); err != nil {
		return err
	}
	return broke
}

// OrderingSnapshot returns a page of the ordering chain from one record on.
func (c *Client) OrderingSnapshot(ctx context.Context, from uint64, opts ...Option) (out OrderingSnapshot, err error) {
	opts = append(opts, func(q *call) {
		q.mesh = true
		q.query.Set("from", strconv.FormatUint(from, 10))
	})
	err = c.get(ctx, "/ledger/snapshot", &out, opts)
	return out, err
}

// OrderingVerify asks a node whether its ledger verifies, as existing clients do.
func (c *Client) OrderingVerify(ctx context.Context, opts ...Option) (out OrderingVerified, err error) {
	opts = append(opts, func(q *call) { q.mesh, q.untimed = true, true })
	err = c.get(ctx, "/ledger/verify", &out, opts)
	return out, err
}
