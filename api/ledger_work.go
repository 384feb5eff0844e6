package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

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
