package node

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// revocation is one thing that is taken away from whoever has it.
type revocation struct {
	name   string
	revoke func(cl *client.Client) (index uint64, err error)
	// accepted tells whether a node that has the index still takes it.
	accepted func(i int, index uint64) (bool, error)
	// shown is what a strong read tells of it once it is gone.
	shown func(cl *client.Client) (string, error)
	want  string
	at    uint64 // log index of the revocation
}

// revocations are things to revoke that others under the same name do not touch.
func (c *trio) revocations(name string, verifier string, signer *Node) []*revocation {
	keyless, outlaw := c.enroll(0, name+"-keyless"), c.enroll(0, name+"-outlaw")
	token := c.token("viewer", -1)
	keys := func(subject, id string) func(cl *client.Client) (string, error) {
		return func(cl *client.Client) (string, error) {
			k, err := cl.Keys(c.t.Context(), subject, client.Strong())
			for _, key := range k.Keys {
				if key.KeyID == id {
					return key.State, err
				}
			}
			return "not shown", err
		}
	}
	revokeKey := func(subject string, key crypto.PublicKey) func(cl *client.Client) (uint64, error) {
		return func(cl *client.Client) (uint64, error) {
			out, err := cl.RevokeKey(c.t.Context(), subject, client.RevokeKeyRequest{KeyID: key.KeyID(), Reason: "test"})
			return out.Index, err
		}
	}
	admitted := func(a agent) func(int, uint64) (bool, error) {
		return func(i int, _ uint64) (bool, error) {
			got, err := c.client(i, verifier).Admit(c.t.Context(), a.request(c.t, rand.Text()))
			return got.Verdict == client.VerdictAdmitted, err
		}
	}
	own := "coordinator/" + signer.id.NodeID
	signs := signer.publicKey()
	text, err := crypto.ParseTokenText(token)
	if err != nil {
		c.t.Fatal(err)
	}
	tokenID := text.ID
	return []*revocation{
		{name: "an agent's key", revoke: revokeKey("agent/"+keyless.id, crypto.PublicOf(keyless.key)), accepted: admitted(keyless),
			shown: keys("agent/"+keyless.id, crypto.PublicOf(keyless.key).KeyID()), want: client.KeyRevoked},
		{name: "an agent", accepted: admitted(outlaw), want: string(fsm.AgentRevoked),
			revoke: func(cl *client.Client) (uint64, error) {
				out, err := cl.RevokeAgent(c.t.Context(), outlaw.id)
				return out.Index, err
			},
			shown: func(cl *client.Client) (string, error) {
				a, err := cl.Agent(c.t.Context(), outlaw.id, client.Strong())
				return a.State, err
			}},
		{name: "a token", want: "revoked",
			revoke: func(cl *client.Client) (uint64, error) {
				out, err := cl.RevokeToken(c.t.Context(), tokenID)
				return out.Index, err
			},
			accepted: func(i int, index uint64) (bool, error) {
				_, err := c.client(i, token).Policy(c.t.Context(), client.MinIndex(index))
				if code(err) == client.CodeUnauthorized {
					return false, nil
				}
				return err == nil, err
			},
			shown: func(cl *client.Client) (string, error) {
				all, err := cl.Tokens(c.t.Context(), client.Strong())
				for _, t := range all.Tokens {
					if t.ID == tokenID {
						return t.State, err
					}
				}
				return "not shown", err
			}},
		{name: "a coordinator's signing key", revoke: revokeKey(own, signs), shown: keys(own, signs.KeyID()), want: client.KeyRevoked,
			accepted: func(i int, index uint64) (yes bool, err error) {
				err = c.nodes[i].waitIndex(c.t.Context(), index)
				c.nodes[i].machine.Read(func(s *fsm.State) {
					row, known := s.SigningKey(signs.CoordinatorID())
					yes = known && s.Signs(row, s.ClockMs())
				})
				return yes, err
			}},
	}
}

// removal takes a coordinator out whose signing key was revoked before.
func (c *trio) removal(victim int) *revocation {
	out := c.nodes[victim]
	return &revocation{name: "a coordinator", want: "removed",
		revoke: func(cl *client.Client) (uint64, error) {
			done, err := cl.RemovePeer(c.t.Context(), out.id.NodeID, false)
			return done.Index, err
		},
		accepted: c.offered(out.book, out.creds),
		shown: func(cl *client.Client) (string, error) {
			peers, err := cl.Peers(c.t.Context(), client.Strong())
			for _, p := range peers.Peers {
				if p.ID == out.id.NodeID {
					return p.State, err
				}
			}
			return "not shown", err
		}}
}

// certificate is what a member has of the CA that is revoked.
func (c *trio) certificate(of *Node) *revocation {
	stale := &credentials{clusterID: of.id.ClusterID}
	stale.cert.Store(of.creds.cert.Load())
	ca := c.activeKey(caSubject)
	id := crypto.PublicKey(ca).KeyID()
	return &revocation{name: "a certificate", want: client.KeyRevoked, accepted: c.offered(of.book, stale),
		revoke: func(cl *client.Client) (uint64, error) {
			out, err := cl.RevokeKey(c.t.Context(), "ca", client.RevokeKeyRequest{KeyID: id, Reason: "test"})
			return out.Index, err
		},
		shown: func(cl *client.Client) (string, error) {
			k, err := cl.Keys(c.t.Context(), "ca", client.Strong())
			for _, key := range k.Keys {
				if key.KeyID == id {
					return key.State, err
				}
			}
			return "not shown", err
		}}
}

// offered tells whether nodes take a certificate for raft, or answer a call. One that
// was removed gets as far as to hear that it was.
func (c *trio) offered(from *addressBook, creds *credentials) func(int, uint64) (bool, error) {
	return func(i int, index uint64) (bool, error) {
		to := c.nodes[i]
		if err := to.waitIndex(c.t.Context(), index); err != nil {
			return false, err
		}
		d := &peerDialer{book: from, creds: creds, net: machineNetwork{}}
		if offers(c.t, d, protoRaft, to) == nil {
			return true, nil
		}
		shows := &credentials{clusterID: creds.clusterID, check: func(peerName) error { return nil }, now: time.Now}
		shows.cert.Store(creds.cert.Load())
		shows.trusted.Store(to.creds.trusted.Load())
		over := newRPCClient(&peerDialer{book: from, creds: shows, net: machineNetwork{}}, 5*time.Second)
		defer over.CloseIdleConnections()
		return to.callOver(c.t.Context(), over, to.id.NodeID, rpcPing, pingRequest{}, &pingReply{}) == nil, nil
	}
}

// isHeld fails unless all nodes that run take what is to be revoked.
func (r *revocation) isHeld(c *trio) {
	c.t.Helper()
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		if yes, err := r.accepted(i, 0); err != nil || !yes {
			c.t.Fatalf("node %d, %s before it is revoked: %t, %v", i, r.name, yes, err)
		}
	}
}

func (r *revocation) take(c *trio, at int) {
	c.t.Helper()
	c.eventually(r.name+" is revoked", func() (done bool) {
		var err error
		r.at, err = r.revoke(c.client(at, c.admin))
		return err == nil && r.at != 0
	})
}

// heldBy checks a revocation at one node: it refuses, and a strong read there says why.
func (r *revocation) heldBy(c *trio, i int) {
	c.t.Helper()
	if yes, err := r.accepted(i, r.at); err != nil || yes {
		c.t.Errorf("node %d takes %s, which was revoked at %d: %t, %v", i, r.name, r.at, yes, err)
	}
	if got, err := r.shown(c.client(i, c.admin)); err != nil || got != r.want {
		c.t.Errorf("a strong read at node %d shows %s as %q (%v), want %q", i, r.name, got, err, r.want)
	}
}

// TestP5RevocationsHoldAtEveryNode: a key, an agent, a token, a coordinator and a
// certificate are refused at each of three nodes from the answer of the revocation on,
// and strong reads agree; also while the leader is stopped right after the answer.
func TestP5RevocationsHoldAtEveryNode(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 4)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	verifier := c.token("verifier", -1)
	victim := (c.leader() + 1) % 4
	for k, r := range c.revocations("first", verifier, c.nodes[victim]) {
		r.isHeld(c)
		r.take(c, k)
		for i := range c.nodes {
			r.heldBy(c, i)
		}
	}
	gone := c.removal(victim)
	gone.isHeld(c)
	gone.take(c, c.leader())
	_ = c.nodes[victim].shutdown()
	c.nodes[victim] = nil
	live := func(do func(i int)) {
		for i, n := range c.nodes {
			if n != nil {
				do(i)
			}
		}
	}
	live(func(i int) { gone.heldBy(c, i) })

	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	all := append(c.revocations("second", verifier, c.nodes[lead]), c.certificate(c.nodes[lead]))
	for _, r := range all {
		r.isHeld(c)
	}
	for _, r := range all {
		r.take(c, lead)
	}
	_ = c.nodes[lead].shutdown()
	c.nodes[lead] = nil
	c.eventually("another leader", func() bool { return c.leader() >= 0 && c.allReady() })
	live(func(i int) {
		for _, r := range append(all, gone) {
			r.heldBy(c, i)
		}
	})
	c.start(lead)
	c.within(2*time.Minute, "all serve", c.allReady)
	for _, r := range append(all, gone) {
		r.heldBy(c, lead)
	}
}
