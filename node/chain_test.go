package node

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// forgery is a report that some coordinator says it verified.
func (c *trio) forgery(a agent, operator fsm.Actor, change func(*crypto.BlacklistEvent)) fsm.BlacklistAppend {
	pub := crypto.PublicOf(a.key)
	ref := pub.Fingerprint()
	e := crypto.BlacklistEvent{EventID: "chosen", AgentID: "victim", ReasonCode: "forged_results", Reason: "says the liar",
		EvidenceHashSHA256: strings.Repeat("ab", 32), ReporterID: a.id, ReportedBy: "token:" + operator.TokenID,
		ReporterPublicKeyPEM: pub.PEM(), EvidenceSignatureVerified: true, TimestampMs: c.nodes[0].clockMs()}
	e.ReporterSignature = base64.StdEncoding.EncodeToString(e.Evidence().Sign(a.key))
	change(&e)
	return fsm.BlacklistAppend{Event: e, ReporterKey: &ref}
}

// One coordinator that lies and does not lead must not end all backups: nothing
// enters the chain by the leader that our own verifier refuses.
func TestLeaderHoldsForwardedEventsToTheVerifier(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n, a := c.nodes[0], c.enroll(0, "reporter")
	text, err := crypto.ParseTokenText(c.token("operator", -1))
	if err != nil {
		t.Fatal(err)
	}
	operator := fsm.Actor{TokenID: text.ID}
	propose := func(b fsm.BlacklistAppend) (fsm.Result, error) {
		cmd, err := fsm.New(operator, b)
		if err != nil {
			t.Fatal(err)
		}
		return n.proposeHere(t.Context(), n.lead.Load(), cmd)
	}
	for name, k := range map[string]struct {
		change func(*crypto.BlacklistEvent)
		field  string
	}{
		"not signed": {func(e *crypto.BlacklistEvent) {
			e.ReporterSignature = base64.StdEncoding.EncodeToString(make([]byte, 64))
		}, "reporter_signature"},
		"no key":     {func(e *crypto.BlacklistEvent) { e.ReporterPublicKeyPEM = "" }, "reporter_signature"},
		"other text": {func(e *crypto.BlacklistEvent) { e.Reason += "!" }, "reporter_signature"},
		"signed for no time": {func(e *crypto.BlacklistEvent) { // the leader would stamp another
			e.TimestampMs = 0
			e.ReporterSignature = base64.StdEncoding.EncodeToString(e.Evidence().Sign(a.key))
		}, "reporter_signature"},
		"a ban like a lift": {func(e *crypto.BlacklistEvent) { e.ExpiresAtMs = new(e.TimestampMs) }, "expires_at_ms"},
	} {
		res, err := propose(c.forgery(a, operator, k.change))
		if code(err) != client.CodeInvalid || asAPIError(err).Field != k.field {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	ids := map[string]bool{}
	for range 3 { // an id that is used again is none of the caller's choice
		res, err := propose(c.forgery(a, operator, func(*crypto.BlacklistEvent) {}))
		if err != nil || !res.OK() || res.ID == "chosen" || ids[res.ID] {
			t.Fatalf("%+v, %v", res, err)
		}
		ids[res.ID] = true
	}
	if r, err := VerifyBackup(c.save(0), nil); err != nil || r.Events != 3 || r.Unproven != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A cluster whose chain has such an event already is backed up and restored all
// the same: what it claims counts as unproven.
func TestBackupOfAChainWithAWrongReporter(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n, a := c.nodes[0], c.enroll(0, "reporter")
	text, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	b := c.forgery(a, fsm.Actor{TokenID: text.ID}, func(e *crypto.BlacklistEvent) {
		e.ReporterSignature = base64.StdEncoding.EncodeToString(make([]byte, 64))
	})
	b.Event.Link(crypto.BlacklistGenesis, n.id.signingKey())
	cmd, err := fsm.New(fsm.Actor{TokenID: text.ID}, b)
	if err != nil {
		t.Fatal(err)
	}
	future, err := n.enqueue(n.lead.Load(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := n.await(t.Context(), future); err != nil || !res.OK() {
		t.Fatalf("%+v, %v", res, err)
	}
	path := c.save(0)
	if r, err := VerifyBackup(path, nil); err != nil || r.Events != 1 || r.Unproven != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.client(0, c.admin).RestorePlan(t.Context(), c.open(path)); err != nil {
		t.Error(err)
	}
}
