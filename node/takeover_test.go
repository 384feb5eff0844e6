package node

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// takeovers are the ways to another's identity, each tried on a real cluster, at
// one node after the other.
type takeovers struct {
	*trio
	t     *testing.T
	asked int
}

// try posts to the next node and wants this refusal, with nothing in it that an
// agent that is let in would get.
func (c *takeovers) try(what string, w *wireWorker, path, body string, headers map[string]string, status int, reason string) {
	c.t.Helper()
	c.asked++
	a := w.settle(c.cfgs[c.asked%3].APIAddr, path, body, headers)
	if a.status != status || a.body.Reason != reason && a.body.Error != reason || a.body.MeshToken != "" || a.body.Accepted {
		c.t.Errorf("%s: %d %s, want %d %s", what, a.status, a.text, status, reason)
	}
}

// good posts to every node and wants to be let in.
func (c *takeovers) good(what string, w *wireWorker, path, body string) {
	c.t.Helper()
	for i := range c.cfgs {
		if a := w.settle(c.cfgs[i].APIAddr, path, body, w.sign(path, body)); a.status != 200 {
			c.t.Errorf("%s at node %d: %d %s", what, i, a.status, a.text)
		}
	}
}

// tellAll has every agent told a mesh token, as legacy clients need it.
func (c *trio) tellAll() {
	c.t.Helper()
	admin, token := c.client(0, c.admin), c.token("mesh", -1)
	p, err := admin.Policy(c.t.Context())
	if err == nil {
		_, err = admin.SetPolicy(c.t.Context(), p.Version, client.PolicyUpdate{LegacyMeshToken: &token})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *takeovers) keyProof(next ed25519.PrivateKey, agentID string, current ed25519.PrivateKey) string {
	return b64(crypto.SignKeyChange(next, c.nodes[0].id.ClusterID, agentID, crypto.PublicOf(current)))
}

// TestC1C2C3TakeoversAndDowngrades tries each takeover and downgrade of WEAKNESSES
// C1, C2 and C3 on three real nodes.
func TestC1C2C3TakeoversAndDowngrades(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := &takeovers{trio: newTrio(t, 3), t: t}
	c.tellAll()
	cl := c.httpClient()
	victim, mallory := c.enrolled(cl, 0, "victim"), c.enrolled(cl, 1, "mallory")
	c.noTokenForStrangers(newWireWorker(t, cl, "stranger", ""))
	thief := newWireWorker(t, cl, "victim", c.token("agent", 5))
	c.noOtherKey(victim, thief)
	c.noForeignKey(mallory, newWireWorker(t, cl, "future", c.token("agent", 1)))
	c.noDowngrade(victim)
	c.good("the victim", victim, "/register", victim.registerBody())
	c.good("the victim", victim, "/heartbeat", victim.call())
	c.noWayBack(victim)
	c.noActionOfWhoIsOut(c.enrolled(cl, 2, "suspended"))
	c.noUseOfAnEndedKey(c.enrolled(cl, 2, "rotated"))
}

// noTokenForStrangers is C1: neither an address in a header nor anything else but
// an enrolment opens /register.
func (c *takeovers) noTokenForStrangers(w *wireWorker) {
	body := w.registerBody()
	for _, name := range []string{"X-Forwarded-For", "Fly-Client-Ip", "X-Real-Ip"} {
		headers := w.sign("/register", body)
		headers[name] = "127.0.0.1"
		c.try("an address in "+name, w, "/register", body, headers, 403, "registration_token_required")
	}
	c.try("an admin's token", w, "/register", w.registerBody("registrationToken", c.admin), w.sign("/register", w.registerBody("registrationToken", c.admin)), 403, "registration_token_invalid")
	c.try("no signature", w, "/register", body, nil, 403, "registration_token_required")
}

// noOtherKey is C2: an enrolled id stays with its key, whatever token is shown.
func (c *takeovers) noOtherKey(victim, thief *wireWorker) {
	for what, token := range map[string]string{"a good token": thief.token, "the victim's token": victim.token, "no token": ""} {
		body := thief.registerBody("registrationToken", token)
		c.try("another key with "+what, thief, "/register", body, thief.sign("/register", body), 403, "key_change_needs_current_key")
	}
	proved := thief.registerBody("publicKeyProof", c.keyProof(thief.key, "victim", victim.key))
	c.try("another key with its own proof", thief, "/register", proved, thief.sign("/register", proved), 403, "key_change_needs_current_key")
	c.try("another key without a signature", thief, "/register", proved, nil, 401, "missing_headers")
	captured := victim.sign("/register", victim.registerBody())
	c.try("another key under the victim's signature", thief, "/register", proved, captured, 401, "body_mismatch")
	c.try("the victim's heartbeat by the thief", thief, "/heartbeat", thief.call(), thief.sign("/heartbeat", thief.call()), 401, "invalid_signature")
}

// noForeignKey: nobody takes a key that it does not hold, nor one that is another's.
func (c *takeovers) noForeignKey(mallory, future *wireWorker) {
	take := func(what, proof string, status int, reason string) {
		c.t.Helper()
		body := mallory.registerBody("publicKeyPem", future.pem(future.key), "publicKeyProof", proof)
		c.try(what, mallory, "/register", body, mallory.sign("/register", body), status, reason)
	}
	take("a key of somebody else", "", 403, "key_proof_required")
	take("a key of somebody else, with a proof of one's own", c.keyProof(mallory.key, "mallory", mallory.key), 401, "key_proof_invalid")
	take("a key of somebody else, with its proof for itself", c.keyProof(future.key, "future", mallory.key), 401, "key_proof_invalid")
	body := future.registerBody()
	c.try("its holder enrols with it", future, "/register", body, future.sign("/register", body), 403, "node_pending_coordinator_approval")
	take("a key bound to another id, whose holder helps", c.keyProof(future.key, "mallory", mallory.key), 403, "binding_conflict")
	stolen := future.sign("/heartbeat", mallory.call())
	stolen["x-agent-id"] = "mallory"
	c.try("another's signature under mallory's id", mallory, "/heartbeat", mallory.call(), stolen, 401, "invalid_signature")
}

// noDowngrade is C3: what is signed binds the request, and who has a key signs.
func (c *takeovers) noDowngrade(w *wireWorker) {
	body := w.call()
	for name := range w.sign("/heartbeat", body) {
		for path, body := range map[string]string{"/heartbeat": body, "/register": w.registerBody()} {
			headers := w.sign(path, body)
			delete(headers, name)
			c.try(path+" without "+name, w, path, body, headers, 401, "missing_headers")
		}
	}
	c.try("unsigned after signed", w, "/heartbeat", body, nil, 401, "mesh_unauthorized")
	unsigned := *w
	unsigned.mesh = c.token("mesh", -1)
	c.try("unsigned with a mesh token", &unsigned, "/heartbeat", body, nil, 401, "missing_headers")
	c.try("unsigned registration with a mesh token", &unsigned, "/register", w.registerBody("publicKeyPem", "", "registrationToken", unsigned.mesh), nil, 401, "missing_headers")
	c.try("another body", w, "/heartbeat", strings.Replace(body, "docker", "none", 1), w.sign("/heartbeat", body), 401, "body_mismatch")
	c.try("no number as time", w, "/heartbeat", body, w.signWith(w.key, "NaN", "n1", "/heartbeat", body), 401, "malformed")
	late := fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())
	c.try("an hour late", w, "/heartbeat", body, w.signWith(w.key, late, "n2", "/heartbeat", body), 401, "timestamp_skew")
	headers := w.sign("/heartbeat", body)
	for i := range c.cfgs {
		if a := w.settle(c.cfgs[i].APIAddr, "/heartbeat", body, headers); a.status != 200 {
			c.t.Errorf("an identical retry at node %d: %d %s", i, a.status, a.text)
		}
	}
	c.try("its nonce for something else", w, "/pull", body, w.signWith(w.key, headers["x-timestamp-ms"], headers["x-nonce"], "/pull", body), 401, "replay")
	c.try("its signature for something else", w, "/pull", body, headers, 401, "invalid_signature")
}

// noWayBack changes the agent's keys and tries to undo it with what was signed
// before, by the new key and by the old one.
func (c *takeovers) noWayBack(w *wireWorker) {
	next := newWireWorker(c.t, w.http, w.id, "")
	oldBody, olderKey := w.registerBody(), next.registerBody("x25519PublicKey", w.x25519)
	captured, capturedNext := w.sign("/register", oldBody), next.sign("/register", olderKey)
	pause(c.t.Context(), 2*time.Millisecond) // the change is signed later than both
	body := next.registerBody("publicKeyProof", c.keyProof(next.key, w.id, w.key))
	change := w.sign("/register", body)
	for i := range c.cfgs { // asked again after its answer was lost
		if a := w.settle(c.cfgs[i].APIAddr, "/register", body, change); a.status != 200 {
			c.t.Fatalf("the change by the current key at node %d: %d %s", i, a.status, a.text)
		}
	}
	c.try("a captured registration of the new key", next, "/register", olderKey, capturedNext, 401, "replay")
	c.try("a captured registration of the old key", w, "/register", oldBody, captured, 401, "key_not_current")
	back := w.registerBody("publicKeyProof", c.keyProof(w.key, w.id, next.key))
	c.try("back to the old key", next, "/register", back, next.sign("/register", back), 403, "binding_conflict")
	if a, err := c.client(1, c.admin).Agent(c.t.Context(), w.id, client.Strong()); err != nil || a.PublicKey != crypto.PublicOf(next.key).PEM() || a.EncryptionKey != next.x25519 {
		c.t.Errorf("the agent has %+v, %v", a, err)
	}
	c.good("the new key", next, "/heartbeat", next.call())
}

// noUseOfAnEndedKey: what replaced a key ends it one window later, at every node.
func (c *takeovers) noUseOfAnEndedKey(w *wireWorker) {
	next := newWireWorker(c.t, w.http, w.id, "")
	body := next.registerBody("publicKeyProof", c.keyProof(next.key, w.id, w.key))
	admin := c.client(0, c.admin)
	c.setSkew(admin, 3_000)
	c.eventually("its key is changed", func() bool { // signed anew each time, for the window is short
		return w.post(c.t.Context(), c.cfgs[0].APIAddr, "/register", body, w.sign("/register", body)).status == 200
	})
	c.setSkew(admin, 120_000)
	idle := next.registerBody() // what changes nothing is let in by the old key until it ends
	for i := range c.cfgs {
		c.eventually("the old key ends", func() bool {
			return w.settle(c.cfgs[i].APIAddr, "/register", idle, w.sign("/register", idle)).body.Reason == "key_expired"
		})
	}
	c.try("the key that was rotated out", w, "/heartbeat", w.call(), w.sign("/heartbeat", w.call()), 401, "key_expired")
	c.good("the key that came", next, "/heartbeat", next.call())
}

// noActionOfWhoIsOut: what was acknowledged at one node holds at the others.
func (c *takeovers) noActionOfWhoIsOut(w *wireWorker) {
	body := w.registerBody()
	c.good("before", w, "/register", body)
	if _, err := c.client(0, c.admin).SuspendAgent(c.t.Context(), w.id); err != nil {
		c.t.Fatal(err)
	}
	for range c.cfgs {
		c.try("a suspended agent", w, "/register", body, w.sign("/register", body), 403, "node_inactive")
		c.try("a suspended agent", w, "/heartbeat", w.call(), w.sign("/heartbeat", w.call()), 403, "node_inactive")
	}
}

// TestP2RegistrationAtANodeThatHeardNothing: a node whose log stands still, and
// then is cut off too, lets nobody in whom the others put out.
func TestP2RegistrationAtANodeThatHeardNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, disks := newTrioOnBadDisks(t, 3, time.Minute)
	c.tellAll()
	cl := c.httpClient()
	lead := c.leader()
	deaf := (lead + 1) % 3
	banned, suspended, fine := c.enrolled(cl, lead, "banned"), c.enrolled(cl, lead, "suspended"), c.enrolled(cl, lead, "fine")
	addr := c.cfgs[deaf].APIAddr
	ask := func(w *wireWorker) wireAnswer {
		body := w.registerBody()
		return w.post(t.Context(), addr, "/register", body, w.sign("/register", body))
	}
	for _, w := range []*wireWorker{banned, suspended, fine} {
		c.eventually(w.id+" is let in", func() bool { a := ask(w); return a.status == 200 && a.body.MeshToken != "" })
	}
	disks[deaf].hang()
	c.ban(lead, "banned")
	if _, err := c.client(lead, c.admin).SuspendAgent(t.Context(), "suspended"); err != nil {
		t.Fatal(err)
	}
	nobody := func(what string) {
		t.Helper()
		var all sync.WaitGroup
		for _, w := range []*wireWorker{banned, suspended, fine} {
			all.Go(func() {
				if a := ask(w); a.status != 503 || a.body.MeshToken != "" {
					t.Errorf("%s, %s: %d %s", what, w.id, a.status, a.text)
				}
			})
		}
		all.Wait()
	}
	nobody("it does not hear of the log")
	c.nodes[deaf].dialer.shut.Store(true)
	nobody("it reaches nobody")
	c.nodes[deaf].dialer.shut.Store(false)
	disks[deaf].goOn()
	c.eventually("it serves again", func() bool { return ask(fine).status == 200 })
	for w, want := range map[*wireWorker]string{banned: "agent_blacklisted", suspended: "node_inactive"} {
		body := w.registerBody()
		if a := w.settle(addr, "/register", body, w.sign("/register", body)); a.status != 403 || a.body.Error != want && a.body.Reason != want {
			t.Errorf("%+v", a)
		}
	}
}
