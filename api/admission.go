package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// verdictCodes maps codes of claims to verdicts; what is neither here nor in
// claimErrors would be a new code without a home.
var verdictCodes = map[fsm.Code]string{
	fsm.CodeOK:               client.VerdictOK,
	fsm.CodeTimestampSkew:    client.VerdictTimestampSkew,
	fsm.CodeUnknownAgent:     client.VerdictUnknownAgent,
	fsm.CodeAgentNotActive:   client.VerdictAgentNotActive,
	fsm.CodeInvalidSignature: client.VerdictInvalidSignature,
	fsm.CodeKeyExpired:       client.VerdictKeyExpired,
	fsm.CodeBlacklisted:      client.VerdictBlacklisted,
	fsm.CodeReplay:           client.VerdictReplay,
	fsm.CodeRateLimited:      client.VerdictRateLimited,
	fsm.CodeProfileRefused:   client.VerdictInvalidSignature,
}

// denials says what is behind a verdict and what to do, for those that have no
// numbers to tell.
var denials = map[fsm.Code]string{
	fsm.CodeUnknownAgent:     "no agent of this id is enrolled in this cluster: enrol it, or look at the id that the request names (x-agent-id or keyid)",
	fsm.CodeAgentNotActive:   "the agent is enrolled but not active: it is pending, suspended or revoked; an operator approves it",
	fsm.CodeInvalidSignature: "the signature does not verify with any enrolled key of this agent: another key, or other bytes than were signed (timestamp, nonce, method, path, body hash)",
	fsm.CodeKeyExpired:       "the key that signed is outside its time: sign with the agent's current key",
	fsm.CodeBlacklisted:      "a ban is in force on this agent: GET /v1/blacklist/agents/{agent_id} tells why",
	fsm.CodeProfileRefused: "policy takes from this agent HTTP message signatures (RFC 9421) alone, and this request has the five headers: " +
		"sign it with `edgecoder sign --profile rfc9421`; an operator changes the rule with `edgecoder policy set signature_profiles=any` or agent_profiles.AGENT=any",
	fsm.CodeReplay: "the nonce was used by an earlier request of this key: sign again with a fresh one",
}

// claimErrors maps codes of claims that are no verdict on the agent's request.
var claimErrors = map[fsm.Code]client.Error{
	fsm.CodeConflict:     {Code: client.CodeConflict, Field: "claim_id", Detail: "this claim id was used for another request: choose a random one for each"},
	fsm.CodeUnauthorized: {Code: client.CodeUnauthorized, Detail: "the token is unknown, expired, used up or revoked"},
	fsm.CodeForbidden:    {Code: client.CodeForbidden, Detail: "the token may not ask for admissions"},
	fsm.CodeUnavailable: {Code: client.CodeUnavailable, Reason: "recovery",
		Detail: "the cluster was restored or recovered: until its time has passed what was signed before cannot be told from what was used; nothing was admitted"},
	fsm.CodeOverloaded: {Code: client.CodeOverloaded, Detail: "the window of used nonces is full: try again later"},
	fsm.CodeClockAhead: {Code: client.CodeUnavailable, Reason: "clock", Detail: "the leader's clock is off: the cluster could not decide"},
}

// admit answers POST /v1/admissions.
func (s *Server) admit(c *call) error {
	body, err := decodeAdmission(c.body)
	if err != nil {
		return err
	}
	req, out, err := c.claim(&body)
	if err != nil {
		return err
	}
	if out.Code != "" {
		return c.deny(out)
	}
	outcomes := s.node.Admit(c.ctx, []AdmitRequest{req})
	if len(outcomes) != 1 {
		return fmt.Errorf("the node answered one admission with %d outcomes", len(outcomes))
	}
	out, failure := admission(&req, &outcomes[0])
	s.tellClocks(&out)
	c.s.meter.decided(&out, failure)
	if failure != nil {
		failure.ClaimID = req.ClaimID
		return failure
	}
	c.keepVerdict(&out)
	c.index = out.Index
	c.replyText(http.StatusOK, append(appendAdmission(make([]byte, 0, 256), &out), '\n'))
	return nil
}

// claim turns a decoded body into a request for the node, or into a denial
// that needs no state (out.Code is set).
func (c *call) claim(body *admissionBody) (req AdmitRequest, out client.Admission, err error) {
	req = AdmitRequest{TokenID: c.token.ID, ClaimID: body.claimID, ClaimChosen: body.given&gaveClaimID != 0}
	if !req.ClaimChosen {
		if req.ClaimID, err = crypto.NewUUID(c.s.cfg.Rand); err != nil {
			return req, out, err
		}
	}
	signed, code, detail := body.signed()
	if code != "" {
		return req, client.Admission{Verdict: client.VerdictDenied, Code: code, Detail: detail, ClaimID: req.ClaimID}, nil
	}
	req.Signed = signed
	return req, out, nil
}

// deny answers with a denial that needed no decision of the cluster.
func (c *call) deny(out client.Admission) error {
	c.s.meter.decided(&out, nil)
	c.keepVerdict(&out)
	if err := c.readAt(ReadOptions{}, func(s *fsm.State) { out.ClockMs = s.ClockMs() }); err != nil {
		return err
	}
	out.Index = c.index
	c.replyText(http.StatusOK, append(appendAdmission(nil, &out), '\n'))
	return nil
}

// admission turns an outcome into the answer, or into the error that it is.
func admission(req *AdmitRequest, o *AdmitOutcome) (client.Admission, *client.Error) {
	if o.Err != nil {
		failure := *o.Err
		return client.Admission{}, &failure
	}
	res := &o.Result
	code, ok := verdictCodes[res.Code]
	if !ok {
		failure, known := claimErrors[res.Code]
		if !known {
			failure = client.Error{Code: client.CodeInternal, Detail: "no rule for the decision " + string(res.Code)}
		}
		failure.RetryAfter = time.Duration(res.RetryAfterMs) * time.Millisecond
		return client.Admission{}, &failure
	}
	out := client.Admission{
		Verdict: client.VerdictDenied, Code: code, AgentID: req.Signed.AgentID,
		Index: res.Index, ClockMs: res.ClockMs, ClaimID: req.ClaimID, Repeated: res.Repeated,
	}
	switch res.Code {
	case fsm.CodeOK:
		out.Verdict = client.VerdictAdmitted
	case fsm.CodeRateLimited:
		out.RetryAfterMs = res.RetryAfterMs
		out.Detail = fmt.Sprintf("the agent has used up its rate limit; the next request fits in %d ms, and this one may be sent again then", res.RetryAfterMs)
	case fsm.CodeTimestampSkew:
		out.MaxSkewMs, out.Detail = timeDenial(&req.Signed, res.ClockMs, o.MaxSkewMs)
	case fsm.CodeInvalidSignature:
		out.Detail = denials[res.Code]
		if req.Signed.Message != nil {
			out.Detail = denialOfMessage
		}
	default:
		out.Detail = denials[res.Code]
	}
	return out, nil
}

// denialOfMessage is what is behind invalid_signature for an HTTP message signature.
const denialOfMessage = "the signature does not verify with the key of this agent that keyid names: another key, or another method, host, path, query, " +
	"content-digest or parameter than was signed"

// timeDenial tells which time is wrong: that the signature has ended, which the
// width of the window has no part in, or how far its time is off.
func timeDenial(s *crypto.SignedRequest, clockMs, maxSkewMs int64) (window int64, detail string) {
	if end := s.ExpiresMs(); end != 0 && clockMs > end {
		return 0, fmt.Sprintf("the signature expired at %d, %d ms before the cluster clock %d: sign again, with a later end or closer to when it is sent", end, clockMs-end, clockMs)
	}
	return maxSkewMs, skewDetail(s.TimestampMs, clockMs, maxSkewMs)
}

func skewDetail(timestampMs, clockMs, maxSkewMs int64) string {
	d := timestampMs - clockMs
	switch {
	case d > maxSkewMs:
		return fmt.Sprintf("signed at %d, %d ms ahead of the cluster clock %d, at most %d ms: set the agent's clock", timestampMs, d, clockMs, maxSkewMs)
	case d < -maxSkewMs:
		return fmt.Sprintf("signed at %d, %d ms behind the cluster clock %d, at most %d ms: sign again, or set the agent's clock", timestampMs, -d, clockMs, maxSkewMs)
	}
	return fmt.Sprintf("signed at %d, a time whose used nonces are no longer known (cluster clock %d, skew %d ms): sign again", timestampMs, clockMs, maxSkewMs)
}

// admitBatch answers POST /v1/admissions/batch.
func (s *Server) admitBatch(c *call) error {
	bodies, err := decodeAdmissions(c.body)
	if err != nil {
		return err
	}
	results := make([]client.Admission, len(bodies))
	requests, places := make([]AdmitRequest, 0, len(bodies)), make([]int, 0, len(bodies))
	for i := range bodies {
		req, out, err := c.claim(&bodies[i])
		if err != nil {
			return err
		}
		results[i] = out
		if out.Code == "" {
			requests, places = append(requests, req), append(places, i)
		} else {
			s.meter.decided(&out, nil)
			c.keepVerdict(&out)
		}
	}
	if err := c.decideBatch(requests, places, results); err != nil {
		return err
	}
	return c.replyBatch(results)
}

// decideBatch has the node decide requests and puts the answers in their
// places. When not one was decided, and certainly not one took effect, the
// whole batch is the error.
func (c *call) decideBatch(requests []AdmitRequest, places []int, results []client.Admission) error {
	if len(requests) == 0 {
		return nil
	}
	outcomes := c.s.node.Admit(c.ctx, requests)
	if len(outcomes) != len(requests) {
		return fmt.Errorf("the node answered %d admissions with %d outcomes", len(requests), len(outcomes))
	}
	var last *client.Error
	undone := 0
	for i := range outcomes {
		out, failure := admission(&requests[i], &outcomes[i])
		c.s.tellClocks(&out)
		c.s.meter.decided(&out, failure)
		if failure != nil {
			out = client.Admission{Code: failure.Code, Detail: failure.Detail, AgentID: requests[i].Signed.AgentID,
				ClaimID: requests[i].ClaimID, RetryAfterMs: failure.RetryAfter.Milliseconds()}
			if failure.Code == client.CodeConflict {
				out.Verdict = client.VerdictDenied
			} else if failure.Code != client.CodeUnknownOutcome {
				last, undone = failure, undone+1
			}
		}
		if failure == nil {
			c.keepVerdict(&out)
		}
		results[places[i]] = out
	}
	if undone == len(results) {
		return last
	}
	return nil
}

func (c *call) replyBatch(results []client.Admission) error {
	var clock int64
	if err := c.readAt(ReadOptions{}, func(s *fsm.State) { clock = s.ClockMs() }); err != nil {
		// Decisions were taken: they are the answer, whatever this read says.
		if e := (*client.Error)(nil); !errors.As(err, &e) {
			c.s.cfg.Log.Error("read after a batch", "request_id", c.requestID, "error", err)
		}
	}
	local := c.index
	text := append(make([]byte, 0, 256*len(results)), `{"results":[`...)
	for i := range results {
		if results[i].Index == 0 {
			results[i].Index, results[i].ClockMs = local, clock
		}
		c.index = max(c.index, results[i].Index)
		if i > 0 {
			text = append(text, ',')
		}
		text = appendAdmission(text, &results[i])
	}
	c.replyText(http.StatusOK, append(text, "]}\n"...))
	return nil
}
