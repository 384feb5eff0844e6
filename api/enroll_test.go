package api

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func enrolment(id, token string, key crypto.PrivateKey) client.EnrollRequest {
	proof := crypto.EnrollProofText(clusterID, id, token)
	return client.EnrollRequest{AgentID: id, PublicKey: crypto.PublicOf(key).PEM(), Token: token,
		EncryptionKey: b64(must(crypto.GenerateEncryptionKey(rand.Reader)).PublicKey().Bytes()), Proof: b64(must(key.Sign(nil, proof, cryptoHash0{})))}
}

func (f *fixture) enroll(req client.EnrollRequest) ask {
	return ask{method: "POST", path: "/v1/agents", body: req}
}

func TestEnrolmentAndItsRepetition(t *testing.T) {
	f := newFixture(t)
	token, key := f.makeToken(fsm.RoleAgent, 1), must(crypto.GenerateKey(rand.Reader))
	req := enrolment("worker-1", token, key)
	a := decodeReply[client.Agent](t, f.do(f.enroll(req)), 201)
	if a.AgentID != "worker-1" || a.State != "pending" || a.KeyID != crypto.PublicOf(key).KeyID() || a.PublicKey != req.PublicKey ||
		a.EncryptionKey != req.EncryptionKey || a.Index == 0 || a.Repeated {
		t.Fatalf("%+v", a)
	}
	for _, held := range []bool{false, true} { // the token is used up: only the same enrolment gets its answer again
		f.node.held = held
		if again := decodeReply[client.Agent](t, f.do(f.enroll(req)), 201); !again.Repeated || again.KeyID != a.KeyID {
			t.Errorf("%+v", again)
		}
	}
	wantProblem(t, f.do(f.enroll(enrolment("worker-2", token, must(crypto.GenerateKey(rand.Reader))))), client.CodeUnauthorized, "")
	wantProblem(t, f.do(f.enroll(enrolment("worker-1", token, must(crypto.GenerateKey(rand.Reader))))), client.CodeUnauthorized, "")
}

// proven adds the agent's signature on its encryption key.
func proven(req client.EnrollRequest, key crypto.PrivateKey) client.EnrollRequest {
	raw := must(decodeBase64(req.EncryptionKey, 32))
	req.EncryptionProof = b64(crypto.SignEncryptionKey(key, clusterID, req.AgentID, raw))
	return req
}

// TestEnrolmentOfAForeignEncryptionKey: who saw an enrolment cannot put in
// another encryption key with a proof, and without one the agent is told.
func TestEnrolmentOfAForeignEncryptionKey(t *testing.T) {
	for name, uses := range map[string]int64{"token used up": 1, "token in force": 5} {
		f := newFixture(t)
		key := must(crypto.GenerateKey(rand.Reader))
		own := proven(enrolment("worker-1", f.makeToken(fsm.RoleAgent, uses), key), key)
		stolen := own
		stolen.EncryptionKey = b64(must(crypto.GenerateEncryptionKey(rand.Reader)).PublicKey().Bytes())
		wantProblem(t, f.do(f.enroll(stolen)), client.CodeInvalid, "encryption_proof")
		stolen.EncryptionProof = ""
		if a := decodeReply[client.Agent](t, f.do(f.enroll(stolen)), 201); a.EncryptionProof != "" {
			t.Errorf("%s: a proof of nothing: %+v", name, a)
		}
		wantProblem(t, f.do(f.enroll(own)), client.CodeConflict, "encryption_key")
	}
}

func TestEnrolmentWithAProof(t *testing.T) {
	key := must(crypto.GenerateKey(rand.Reader))
	f := newFixture(t)
	req := proven(enrolment("worker-1", f.makeToken(fsm.RoleAgent, 1), key), key)
	decodeReply[client.Agent](t, f.do(f.enroll(req)), 201)
	got := decodeReply[client.Agent](t, f.do(ask{method: "GET", path: "/v1/agents/worker-1", token: f.tokens[fsm.RoleViewer]}), 200)
	if got.EncryptionProof != req.EncryptionProof || got.EncryptionKey != req.EncryptionKey {
		t.Errorf("%+v", got)
	}
	if again := decodeReply[client.Agent](t, f.do(f.enroll(req)), 201); !again.Repeated {
		t.Errorf("%+v", again)
	}
	alone := req
	alone.AgentID, alone.EncryptionKey = "worker-2", ""
	alone.Token = f.makeToken(fsm.RoleAgent, 1)
	alone.Proof = enrolment("worker-2", alone.Token, key).Proof
	wantProblem(t, f.do(f.enroll(alone)), client.CodeInvalid, "encryption_proof")

	old := newFixtureAt(t, fsm.LevelRecovery) // its servers could not read a proof in the log
	req = proven(enrolment("worker-1", old.makeToken(fsm.RoleAgent, 1), key), key)
	if a := decodeReply[client.Agent](t, old.do(old.enroll(req)), 201); a.EncryptionProof != "" || a.EncryptionKey != req.EncryptionKey {
		t.Errorf("%+v", a)
	}
}

func TestEnrolmentConflicts(t *testing.T) {
	f := newFixture(t)
	key := must(crypto.GenerateKey(rand.Reader))
	multi := f.tokens[fsm.RoleAgent]
	decodeReply[client.Agent](t, f.do(f.enroll(enrolment("worker-1", multi, key))), 201)
	other := f.makeToken(fsm.RoleAgent, 5)
	wantProblem(t, f.do(f.enroll(enrolment("worker-1", other, must(crypto.GenerateKey(rand.Reader))))), client.CodeConflict, "agent_id")
	wantProblem(t, f.do(f.enroll(enrolment("worker-2", other, key))), client.CodeConflict, "public_key")
}

func TestEnrolmentRefusals(t *testing.T) {
	f := newFixture(t)
	f.agent("taken", fsm.AgentActive)
	key := must(crypto.GenerateKey(rand.Reader))
	good := f.tokens[fsm.RoleAgent]
	foreign := must(crypto.NewTokenText(rand.Reader, strings.Repeat("f", 32), "agent", "")).String()
	unknown := must(crypto.NewTokenText(rand.Reader, clusterID, "agent", "")).String()
	change := func(f func(*client.EnrollRequest)) client.EnrollRequest {
		req := enrolment("worker-1", good, key)
		f(&req)
		return req
	}
	for name, c := range map[string]struct {
		req         client.EnrollRequest
		code, field string
	}{
		"no token":           {change(func(r *client.EnrollRequest) { r.Token = "" }), client.CodeUnauthorized, ""},
		"other cluster":      {enrolment("worker-1", foreign, key), client.CodeUnauthorized, ""},
		"unknown token":      {enrolment("worker-1", unknown, key), client.CodeUnauthorized, ""},
		"unknown, taken id":  {enrolment("taken", unknown, key), client.CodeUnauthorized, ""},
		"admin token":        {enrolment("worker-1", f.tokens[fsm.RoleAdmin], key), client.CodeForbidden, ""},
		"join token":         {enrolment("worker-1", f.tokens[fsm.RoleCoordinator], key), client.CodeForbidden, ""},
		"proof of other id":  {change(func(r *client.EnrollRequest) { r.AgentID = "worker-2" }), client.CodeInvalid, "proof"},
		"no proof, taken id": {change(func(r *client.EnrollRequest) { r.AgentID = "taken" }), client.CodeInvalid, "proof"},
		"other key":          {change(func(r *client.EnrollRequest) { r.PublicKey = crypto.PublicOf(f.node.key).PEM() }), client.CodeInvalid, "proof"},
		"no proof":           {change(func(r *client.EnrollRequest) { r.Proof = "" }), client.CodeInvalid, "proof"},
		"bad id":             {enrolment("a\nb", good, key), client.CodeInvalid, "agent_id"},
		"no key":             {change(func(r *client.EnrollRequest) { r.PublicKey = "x" }), client.CodeInvalid, "public_key"},
		"zero x25519":        {change(func(r *client.EnrollRequest) { r.EncryptionKey = b64(make([]byte, 32)) }), client.CodeInvalid, "encryption_key"},
		"low-order x25519":   {change(func(r *client.EnrollRequest) { r.EncryptionKey = b64(append([]byte{1}, make([]byte, 31)...)) }), client.CodeInvalid, "encryption_key"},
		"short x25519":       {change(func(r *client.EnrollRequest) { r.EncryptionKey = "AAAA" }), client.CodeInvalid, "encryption_key"},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, f.do(f.enroll(c.req)), c.code, c.field) })
	}
	if _, ok := f.node.leader.Agent("worker-1"); ok {
		t.Error("a refused enrolment took effect")
	}
	wantProblem(t, f.do(ask{method: "POST", path: "/v1/agents", body: `{"agent":"x"}`}), client.CodeInvalid, "agent")
}

func TestEnrolmentUnknownOutcome(t *testing.T) {
	f := newFixture(t)
	req := enrolment("worker-1", f.makeToken(fsm.RoleAgent, 1), must(crypto.GenerateKey(rand.Reader)))
	f.node.loseAnswer = true
	wantProblem(t, f.do(f.enroll(req)), client.CodeUnknownOutcome, "")
	f.node.loseAnswer = false
	if a := decodeReply[client.Agent](t, f.do(f.enroll(req)), 201); !a.Repeated {
		t.Errorf("%+v", a)
	}
}

func TestEnrolmentTokenUnknownHere(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	token := f.makeToken(fsm.RoleAgent, 1)
	decodeReply[client.Agent](t, f.do(f.enroll(enrolment("worker-1", token, must(crypto.GenerateKey(rand.Reader))))), 201)
}
