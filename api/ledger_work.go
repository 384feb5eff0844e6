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

// reportsPerSecond is how many reports an agent may hand in, on average, at each node and
// from each address; at once it may as many as a call has. Each is a record for ever.
const reportsPerSecond = 10

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
	body := fsm.LedgerReports{Reports: make([]ledger.SignedReport, 0, len(req.Reports))}
	ids := make([]string, 0, len(req.Reports))
	seen := make(map[reportName]bool, len(req.Reports))
	for i := range req.Reports {
		signed, field, err := signedReport(&req.Reports[i], s.cfg.ClusterID)
		if err != nil {
			return invalid(fmt.Sprintf("reports[%d].%s", i, field), err.Error())
		}
		name := reportName{signed.Report.AgentID, signed.Report.ID}
		if seen[name] {
			return invalid(fmt.Sprintf("reports[%d].id", i), "the agent has another report of this id in the call: each report stands in it once")
		}
		seen[name] = true
		body.Reports, ids = append(body.Reports, signed), append(ids, req.Reports[i].ID)
	}
	known, err := c.askReports(body.Reports)
	if err != nil {
		return err
	}
	for i := range body.Reports { // of keys that are enrolled: a stranger costs none of this
		if !body.Reports[i].Verify() {
			return &client.Error{Code: client.CodeUnauthorized, Field: fmt.Sprintf("reports[%d].signature", i), Reason: client.VerdictInvalidSignature,
				Detail: "the report is not signed by the key it names, for cluster " + s.cfg.ClusterID}
		}
	}
	return c.takeReports(body, known, ids)
}

// reportName is what tells reports apart.
type reportName struct {
	agentID string
	id      ledger.ID
}

// takeReports proposes the reports that could take effect, and pays for them. The
// others have their answers: what is refused, and what was taken in before, writes
// nothing into the log.
func (c *call) takeReports(body fsm.LedgerReports, known []fsm.LedgerResult, ids []string) error {
	var fresh fsm.LedgerReports
	var places []int
	refused := false
	for i, r := range known {
		if r.Code == fsm.CodeOK && !r.Repeated {
			fresh.Reports, places = append(fresh.Reports, body.Reports[i]), append(places, i)
		}
		refused = refused || r.Code != fsm.CodeOK
	}
	if refused { // whose signatures verify pays like a stranger
		if err := c.s.refuse(c, nil); err != nil {
			return err
		}
	}
	if len(fresh.Reports) == 0 {
		return c.replyResults(known, ids)
	}
	if err := c.spendReports(fresh.Reports); err != nil {
		return err
	}
	cmd, err := fsm.New(fsm.Actor{}, fresh)
	if err != nil {
		return err
	}
	results, err := c.decideEach(cmd, len(fresh.Reports))
	if err != nil {
		return err
	}
	for i, r := range results {
		known[places[i]] = r
	}
	return c.replyResults(known, ids)
}

// spendReports takes a call from the budget of each agent that reports in it, and each
// report.
func (c *call) spendReports(reports []ledger.SignedReport) error {
	of := map[string]int{}
	for i := range reports {
		of[reports[i].Report.AgentID]++
	}
	for id, n := range of {
		if err := c.spend(id); err != nil {
			return err
		}
		if wait := c.s.reported.TakeN(named{id, guardKey(c.address())}, n); wait > 0 {
			return &client.Error{Code: client.CodeRateLimited, RetryAfter: wait, Detail: fmt.Sprintf("an agent hands in at most %d reports a second here", reportsPerSecond)}
		}
	}
	return nil
}

// askReports asks this replica what would become of reports, and with a strong read
// before it refuses any: what was acknowledged at one node holds at the next. Reports
// whose key is none of their agent's fail the call, before a signature is looked at.
func (c *call) askReports(reports []ledger.SignedReport) (known []fsm.LedgerResult, err error) {
	stranger, refused, open := -1, false, false
	known = make([]fsm.LedgerResult, len(reports))
	look := func(state *fsm.State) {
		stranger, refused = -1, false
		_, open = state.LedgerBook()
		for i := range reports {
			if keys, _ := state.AgentKeys(reports[i].Report.AgentID); stranger < 0 && !slices.Contains(keys, reports[i].Key) {
				stranger = i
			}
			known[i] = state.AskReport(&reports[i], state.ClockMs())
			refused = refused || known[i].Code != fsm.CodeOK
		}
	}
	if err := c.readAt(ReadOptions{}, look); err != nil {
		return nil, err
	}
	if refused {
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
	switch {
	case stranger >= 0:
		return nil, &client.Error{Code: client.CodeUnauthorized, Field: fmt.Sprintf("reports[%d].public_key", stranger), Reason: client.VerdictUnknownAgent,
			Detail: "it is no key of the agent that the report names: enrol the agent, or sign with its key"}
	case !open:
		return nil, &client.Error{Code: client.CodeConflict, Reason: "not_open", Detail: "the ledger is not open: its first account opens it (POST /v1/ledger/accounts)"}
	}
	return known, nil
}

func signedReport(w *client.Contribution, clusterID string) (out ledger.SignedReport, field string, err error) {
	out.ClusterID = clusterID
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

// decideEach proposes a command that has an answer for each of n ids.
func (c *call) decideEach(cmd fsm.Command, n int) ([]fsm.LedgerResult, error) {
	res, err := c.decide(cmd)
	c.proposed = false // the records are the trace
	switch {
	case err != nil:
		return nil, err
	case !res.OK():
		if _, known := ledgerErrors[res.Code]; known { // of the agent that asks
			return nil, ledgerRefusal(fsm.LedgerResult{Code: res.Code, Field: res.Field})
		}
		return nil, refusal(res)
	case len(res.Ledger) != n:
		return nil, fmt.Errorf("%d answers to %d reports", len(res.Ledger), n)
	}
	return res.Ledger, nil
}

func (c *call) replyResults(results []fsm.LedgerResult, ids []string) error {
	return c.reply(http.StatusOK, client.LedgerResults{Results: c.wireResults(results, func(i int) string { return ids[i] })})
}
