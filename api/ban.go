package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// reporterUnproven is the wire code (WIRE.md 9.4) of a report that its reporter
// did not sign, or not with its own key.
const reporterUnproven = "reporter_signature_invalid_for_reason_code"

// ban answers POST /v1/blacklist.
func (s *Server) ban(c *call) error {
	var req client.BanRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	event := crypto.BlacklistEvent{
		AgentID: req.AgentID, ReasonCode: req.ReasonCode, Reason: req.Reason, EvidenceHashSHA256: req.EvidenceSHA256,
		ReporterID: req.ReporterID, ReporterPublicKeyPEM: req.ReporterPublicKey, ReporterSignature: req.ReporterSignature,
		ReportedBy: actorName(c.token), TimestampMs: req.TimestampMs,
	}
	if req.ExpiresAtMs != 0 {
		event.ExpiresAtMs = &req.ExpiresAtMs
	}
	res, err := c.appendBan(event)
	if err != nil {
		return err
	}
	return c.replyChange(http.StatusCreated, res)
}

func (c *call) replyChange(status int, res fsm.Result) error {
	out := client.BlacklistChange{EventID: res.ID, Index: res.Index, Repeated: res.Repeated}
	if res.Chain != nil && !res.Repeated {
		out.Event, out.ChainHead, out.Size = res.Chain.Event, res.Chain.Head, res.Chain.Size
	}
	return c.reply(status, out)
}

// appendBan checks an event and has it appended. Link, source and, if absent,
// the time are the leader's.
func (c *call) appendBan(event crypto.BlacklistEvent) (fsm.Result, error) {
	var err error
	c.subject = event.AgentID
	if event.EventID, err = crypto.NewUUID(c.s.cfg.Rand); err != nil {
		return fsm.Result{}, err
	}
	if err := checkEvent(event); err != nil {
		return fsm.Result{}, err
	}
	if err := c.checkAttribution(&event); err != nil {
		return fsm.Result{}, err
	}
	key, err := c.reporterKey(&event)
	if err != nil {
		return fsm.Result{}, err
	}
	res, err := c.decideOnce(fsm.BlacklistAppend{Event: event, ReporterKey: key})
	if err != nil || res.OK() {
		return res, err
	}
	return res, withReason(refusal(res))
}

// checkEvent refuses at once what Apply would refuse anyway.
func checkEvent(event crypto.BlacklistEvent) error {
	if event.TimestampMs == 0 {
		event.TimestampMs = 1 // the leader stamps it
	}
	field, fault := fsm.EventFault(&event)
	switch {
	case fault != "":
		return invalid(field, fault)
	case event.ExpiresAtMs != nil && *event.ExpiresAtMs < 1:
		return invalid("expires_at_ms", "want positive Unix milliseconds, or leave it out for a permanent ban")
	case event.EndsBeforeItBegins(): // for whoever follows the chain that lifts a ban
		return invalid("expires_at_ms", fmt.Sprintf("%d is not after timestamp_ms %d", *event.ExpiresAtMs, event.TimestampMs))
	}
	return nil
}

// checkAttribution keeps callers from writing into the chain, for ever, that
// somebody else's token reported: names that begin like a token's are the
// server's to give.
func (c *call) checkAttribution(event *crypto.BlacklistEvent) error {
	for _, f := range []struct{ field, name string }{{"reporter_id", event.ReporterID}, {"reported_by", event.ReportedBy}} {
		if f.name != actorName(c.token) && claimsToken(f.name) {
			return invalid(f.field, fmt.Sprintf("%s names a token that is not yours: leave the prefix out, or give %s", quote(f.name), actorName(c.token)))
		}
	}
	return nil
}

const tokenActor = "token:"

// actorName is how the chain names the holder of a token.
func actorName(t fsm.Token) string { return tokenActor + t.ID }

func claimsToken(name string) bool {
	return len(name) >= len(tokenActor) && strings.EqualFold(name[:len(tokenActor)], tokenActor)
}

// withReason gives a refused reporter the code that WIRE.md has for it.
func withReason(err error) error {
	var e *client.Error
	if errors.As(err, &e) && e.Code == client.CodeInvalid && strings.HasPrefix(e.Field, "reporter_") {
		e.Reason = reporterUnproven
	}
	return err
}

func unproven(field, format string, args ...any) error {
	e := invalid(field, fmt.Sprintf(format, args...))
	e.Reason = reporterUnproven
	return e
}

// reporterKey verifies the reporter's signature, if there is one, with a key
// that is enrolled for the reporter: a key that the report brings along proves
// nothing by itself. Whether that key may act now is asked in Apply.
func (c *call) reporterKey(event *crypto.BlacklistEvent) (*fsm.KeyRef, error) {
	if event.ReporterSignature == "" {
		return nil, unsignedReport(event)
	}
	if event.TimestampMs == 0 {
		return nil, unproven("timestamp_ms", "the reporter signs its own timestamp: it is required with reporter_signature")
	}
	sig, err := decodeBase64(event.ReporterSignature, crypto.SignatureSize)
	if err != nil {
		return nil, unproven("reporter_signature", "%v", err)
	}
	keys, err := c.reporterKeys(event)
	if err != nil {
		return nil, err
	}
	evidence := event.Evidence()
	for _, key := range keys {
		if evidence.Verify(key, sig) {
			ref := key.Fingerprint()
			event.ReporterPublicKeyPEM, event.EvidenceSignatureVerified = key.PEM(), true
			return &ref, nil
		}
	}
	return nil, unproven("reporter_signature", "it does not verify with the key of agent %s over the evidence of this request", quote(event.ReporterID))
}

func unsignedReport(event *crypto.BlacklistEvent) error {
	switch {
	case event.ReporterPublicKeyPEM != "":
		return unproven("reporter_signature", "reporter_public_key is given without it")
	case event.ReasonCode != crypto.ReasonManualReview:
		return unproven("reporter_signature", "reason code %s needs the reporter's signature; only %s does not", event.ReasonCode, crypto.ReasonManualReview)
	}
	return nil
}

// reporterKeys returns the keys that may have signed: the one that was given
// if it is enrolled for the reporter, else all that are. A replica that does
// not know better asks once more with a strong read.
func (c *call) reporterKeys(event *crypto.BlacklistEvent) ([]crypto.PublicKey, error) {
	var given crypto.PublicKey
	if event.ReporterPublicKeyPEM != "" {
		var err error
		if given, err = crypto.ParsePublicKeyPEM(event.ReporterPublicKeyPEM); err != nil {
			return nil, unproven("reporter_public_key", "%v", err)
		}
	}
	for _, opts := range []ReadOptions{{}, {Strong: true}} {
		var enrolled []crypto.PublicKey
		if err := c.readAt(opts, func(state *fsm.State) { enrolled, _ = state.AgentKeys(event.ReporterID) }); err != nil {
			return nil, err
		}
		if given.IsZero() && len(enrolled) > 0 {
			return enrolled, nil
		}
		if slices.Contains(enrolled, given) {
			return []crypto.PublicKey{given}, nil
		}
	}
	if given.IsZero() {
		return nil, unproven("reporter_id", "there is no agent %s whose key could verify the signature", quote(event.ReporterID))
	}
	return nil, unproven("reporter_public_key", "it is not an enrolled key of agent %s", quote(event.ReporterID))
}
