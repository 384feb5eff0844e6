package fsm

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// edgeJoiner acts with the join token of role edge.
var edgeJoiner = Actor{TokenID: string(RoleEdge)}

func edgeOf(id string) EdgeJoin {
	return EdgeJoin{ID: "cred-" + id, Hash: crypto.Sum([]byte("cred-" + id)), Edge: Edge{NodeID: id, Name: "name-" + id,
		SigningKey: publicKey("edge " + id), TLSKey: crypto.Sum([]byte("tls " + id)), Version: "v7"}}
}

func goldenEdges() map[string]any {
	join := edgeOf("e1")
	join.Edge.JoinToken = "edge"
	return map[string]any{"edge_join": join}
}

// withEdges has edges join, and one end.
func (w *world) withEdges() *world {
	w.must(w.do(admin, TokenCreate{ID: string(RoleEdge), Role: RoleEdge, Uses: 3})) // the recovery took both
	w.must(w.do(admin, TokenCreate{ID: string(RoleCoordinator), Role: RoleCoordinator, Uses: -1}))
	w.must(w.do(edgeJoiner, edgeOf("e1")))
	w.must(w.do(edgeJoiner, edgeOf("e1"))) // told twice
	w.must(w.do(edgeJoiner, edgeOf("e2")))
	w.want(w.do(operator, edgeOf("e3")), CodeForbidden)
	w.must(w.do(admin, TokenRevoke{ID: "cred-e2"}))
	w.admitAs(RoleEdgeMember, "cred-e1")
	w.must(w.do(Actor{TokenID: string(RoleEdge), Via: "n5"}, edgeOf("e3")))
	w.want(w.do(joiner, newNode("e3", "name-e1")), CodeConflict)
	w.must(w.do(Actor{TokenID: "coordinator", Via: "n5"}, newNode("n9", "name-e2")))
	w.must(w.do(Actor{TokenID: "admin", Via: "n0"}, CoordinatorRemove{ID: "n5", Compromised: true})) // e3 goes, n9 is told
	w.mark()
	return w
}

// admitAs asks for an admission with a token.
func (w *world) admitAs(_ Role, token string) {
	w.must(w.do(Actor{}, AdmitBatch{Callers: []string{token}, Claims: []Claim{claimOf("q", "edge-nonce", w.wallMs, "")}}))
}

// edgeWorld is a state at LevelCheckpoints with a join token for two edges.
func edgeWorld(t *testing.T) *world {
	w := levelWorld(t, LevelCheckpoints)
	w.must(w.do(admin, TokenCreate{ID: "two", Role: RoleEdge, Uses: 2}))
	return w
}

var two = Actor{TokenID: "two"}

func TestEdgeJoin(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("e1")))
	e, ok := w.s.Edge("e1")
	cred, _ := w.s.Token("cred-e1")
	if !ok || e.JoinToken != "two" || cred.Role != RoleEdgeMember || cred.State(w.s.ClockMs()) != "active" || !cred.Role.Can(CapAdmit|CapReadTrust|CapReadStatus) || cred.Role.Can(CapOperate) {
		t.Fatalf("%+v, %+v", e, cred)
	}
	if res := w.must(w.do(two, edgeOf("e1"))); !res.Repeated {
		t.Error("the same join counts twice")
	}
	if join, _ := w.s.Token("two"); join.UsesLeft != 1 {
		t.Errorf("%d uses left", join.UsesLeft)
	}
	if id, ok := w.s.EdgeCredential("name-e1"); !ok || id != "cred-e1" {
		t.Errorf("credential %q", id)
	}
}

func TestEdgeJoinRefused(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("e1")))
	for name, c := range map[string]struct {
		actor  Actor
		change func(*EdgeJoin)
		want   Code
	}{
		"coordinator token": {joiner, func(*EdgeJoin) {}, CodeForbidden},
		"admin token":       {admin, func(*EdgeJoin) {}, CodeForbidden},
		"name taken":        {two, func(b *EdgeJoin) { b.Edge.Name = "name-e1" }, CodeConflict},
		"name is an id":     {two, func(b *EdgeJoin) { b.Edge.Name = "e1" }, CodeConflict},
		"coordinator's":     {two, func(b *EdgeJoin) { b.Edge.Name = "name-n0" }, CodeConflict},
		"id taken":          {two, func(b *EdgeJoin) { b.Edge.NodeID = "e1" }, CodeConflict},
		"key taken":         {two, func(b *EdgeJoin) { b.Edge.SigningKey = publicKey("edge e1") }, CodeConflict},
		"coordinator's key": {two, func(b *EdgeJoin) { b.Edge.SigningKey = publicKey("node n0") }, CodeConflict},
		"weak key":          {two, func(b *EdgeJoin) { b.Edge.SigningKey = crypto.PublicKey{} }, CodeInvalid},
		"no tls key":        {two, func(b *EdgeJoin) { b.Edge.TLSKey = crypto.Hash{} }, CodeInvalid},
		"token taken":       {two, func(b *EdgeJoin) { b.ID = "admin" }, CodeConflict},
		"other credential":  {two, func(b *EdgeJoin) { b.ID = "cred-e1" }, CodeConflict},
		"no hash":           {two, func(b *EdgeJoin) { b.Hash = crypto.Hash{} }, CodeConflict},
		"long version":      {two, func(b *EdgeJoin) { b.Edge.Version = strings.Repeat("v", MaxLabelBytes+1) }, CodeInvalid},
	} {
		join := edgeOf("e2")
		c.change(&join)
		if res := w.do(c.actor, join); res.Code != c.want {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if join, _ := w.s.Token("two"); join.UsesLeft != 1 {
		t.Errorf("a refusal cost a use: %d left", join.UsesLeft)
	}
	w.must(w.do(two, edgeOf("e2")))
	w.want(w.do(two, edgeOf("e3")), CodeUnauthorized)
}

func TestEdgeNeedsTheLevel(t *testing.T) {
	w := levelWorld(t, LevelUpgrades)
	w.must(w.do(admin, TokenCreate{ID: "two", Role: RoleEdge, Uses: 2}))
	w.want(w.do(two, edgeOf("e1")), CodeConflict)
	w.want(w.do(admin, TokenCreate{ID: "x", Role: RoleEdgeMember, Uses: -1}), CodeInvalid)
	if edgeWorld(t).s.NeedsLevel() > LevelCheckpoints {
		t.Error("a state without edges needs their level")
	}
}

// Whoever revokes the credential ends the edge, at one index.
func TestEdgeEndsWithItsCredential(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("e1")))
	w.must(w.do(admin, TokenRevoke{ID: "cred-e1"}))
	if _, ok := w.s.Edge("e1"); ok {
		t.Error("still a member")
	}
	if _, ok := w.s.EdgeCredential("e1"); ok {
		t.Error("still listed")
	}
	w.want(w.do(two, edgeOf("e1")), CodeConflict) // the id is used up
	w.pass(tokenKeepMs + 10_000)
	w.mark()
	if len(w.s.edges) != 0 {
		t.Error("the index outlives the token")
	}
}

func TestEdgeSurvivesASnapshot(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("e1")))
	s, _ := restored(t, snapshotOf(t, w.s, w.history))
	if e, ok := s.Edge("e1"); !ok || e.Name != "name-e1" || s.Digest() != w.s.Digest() {
		t.Errorf("%+v", e)
	}
	if err := s.Validate(0); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Token){
		"role without edge": func(k *Token) { k.Edge = nil },
		"edge of an admin":  func(k *Token) { k.Role = RoleAdmin },
		"it ends by itself": func(k *Token) { k.ExpiresMs = MaxTimeMs },
		"no name":           func(k *Token) { e := *k.Edge; e.Name = ""; k.Edge = &e },
		"no key":            func(k *Token) { e := *k.Edge; e.SigningKey = crypto.PublicKey{}; k.Edge = &e },
	} {
		s, _ := restored(t, snapshotOf(t, w.s, w.history))
		k, _ := s.Token("cred-e1")
		spoil(&k)
		s.tokens.put(k.ID, k)
		if err := s.Validate(0); err == nil || !strings.Contains(err.Error(), "cred-e1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
