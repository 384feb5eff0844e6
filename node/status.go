package node

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// Status implements api.Cluster: this node's own view, from local knowledge.
func (n *Node) Status() client.Status {
	servers := n.servers()
	offsets := n.offsets(idsOf(servers))
	median := medianOffset(n.offsets(voters(servers)))
	st := client.Status{
		Node: client.NodeRef{ID: n.id.NodeID, Name: n.cfg.Name}, ClusterID: n.id.ClusterID,
		State: strings.ToLower(n.raft.State().String()), Term: n.raft.CurrentTerm(), CommitIndex: n.raft.CommitIndex(),
		ClockSkewMs: -median, Version: n.cfg.Version, Voters: []client.Server{}, NonVoters: []client.Server{},
		Disk: n.disk.status(), Backup: n.backupStatus(), Rivals: n.rivals.list(), Warnings: n.warnings(), Logs: n.logStatus(),
	}
	st.Manifest, _ = n.manifestStatus()
	names := map[string]fsm.Coordinator{}
	n.machine.Read(func(s *fsm.State) {
		meta := s.Meta()
		st.KeyAlarms = keyAlarms(s)
		st.AppliedIndex, st.Epoch, st.Recovery, st.ClockMs, st.FeatureLevel = meta.Index, meta.Epoch, meta.Recovery(), meta.ClockMs, meta.Level
		st.Digests = []client.Mark{}
		for _, m := range s.Marks() {
			st.Digests = append(st.Digests, client.Mark{Index: m.Index, Digest: m.Digest.String()})
		}
		for _, c := range s.Coordinators() {
			names[c.ID] = c
		}
	})
	if st.SupportedLevel = n.cfg.supports(); st.FeatureLevel < st.SupportedLevel {
		_, st.LevelWaits = n.commonLevel()
	}
	if k := len(st.Digests); k > 0 {
		st.Digest, st.DigestIndex = st.Digests[k-1].Digest, st.Digests[k-1].Index
	}
	for _, s := range servers {
		row := client.Server{ID: string(s.ID), Name: names[string(s.ID)].Name, Address: names[string(s.ID)].Raft}
		if o, known := offsets[string(s.ID)]; known {
			skew := o - median
			row.ClockSkewMs = &skew
		}
		if s.Suffrage == raft.Voter {
			st.Voters = append(st.Voters, row)
		} else {
			st.NonVoters = append(st.NonVoters, row)
		}
	}
	if _, id := n.raft.LeaderWithID(); id != "" {
		c := names[string(id)]
		st.Leader = &client.Leader{ID: string(id), Name: c.Name, API: apiURL(c.API)}
	}
	return st
}

func apiURL(addr string) string {
	if addr == "" {
		return ""
	}
	return "https://" + addr
}

// Identity implements api.Cluster (WIRE.md section 1).
func (n *Node) Identity() client.Identity {
	key := n.publicKey()
	return client.Identity{PeerID: key.CoordinatorID(), PublicKeyPEM: key.PEM(), CoordinatorURL: apiURL(n.cfg.APIAddr), NetworkMode: "public_mesh"}
}

// SignOrdering implements api.OrderingSigner.
func (n *Node) SignOrdering(r *ledger.OrderingRecord) string {
	key, err := n.signingKey()
	if err != nil {
		return "" // its keys were revoked: who reads on takes it for unsigned
	}
	defer clear(key)
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(r.Hash)))
}

// Members implements api.Cluster: what gossip sees.
func (n *Node) Members() []client.Member {
	var out []client.Member
	for _, m := range n.pool.Members() {
		row := client.Member{ID: m.Card.NodeID, Name: m.Card.Name, Role: m.Card.Role, API: apiURL(m.Card.API), Raft: m.Card.Raft,
			Gossip: m.Card.Gossip, State: m.State, SinceMs: m.ChangedMs}
		if h, err := parseHead(m.Head); err == nil {
			row.ChainSize, row.ChainHead = h.Size, h.Head
		}
		out = append(out, row)
	}
	return out
}

// maxSilence is how long a follower may hear nothing of its leader and still
// call itself ready.
const maxSilence = 5 * time.Second

const reasonCatchingUp = "catching_up"

// Ready implements api.Membership: leader known, genesis applied, caught up, and
// a disk that writes. Strangers hear the reason alone, so each case has one. A full disk is no reason: reads go on (disk.go).
func (n *Node) Ready() error {
	if err := n.Serving(); err != nil {
		return err
	}
	if e := n.readyDisk(); e != nil {
		return e
	}
	e := &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second}
	_, leader := n.raft.LeaderWithID()
	var cluster string
	n.machine.Read(func(s *fsm.State) { cluster = s.Meta().ClusterID })
	have, _ := n.machine.Index()
	switch l := n.lead.Load(); {
	case leader == "":
		e.Reason, e.Detail = reasonNoLeader, "no leader is known"
		if n.removal.unsure.Load() {
			e.Reason, e.Detail = reasonRemoved, "no leader is known, and "+onlyOtherSaysRemoved
		}
		if n.outsiders.removedSays() != "" {
			e.Reason, e.Detail = reasonRemoved, outsiderSaysRemoved
		}
	case cluster == "":
		e.Reason, e.Detail = reasonCatchingUp, "this replica has not caught up: it knows no cluster yet"
	case string(leader) == n.id.NodeID:
		if l != nil {
			select {
			case <-l.ready:
				return nil
			default:
			}
		}
		e.Reason, e.Detail = "leader_starting", "the new leader is not ready yet"
	case time.Since(n.raft.LastContact()) > maxSilence:
		e.Reason, e.Detail = "leader_silent", "the leader has been silent for too long"
	case n.raft.CommitIndex() > have+maxLag:
		e.Reason, e.Detail = reasonCatchingUp, "this replica is catching up"
	default:
		return nil
	}
	return e
}

func isVoter(servers []raft.Server, id string) bool {
	for _, v := range voters(servers) {
		if v == id {
			return true
		}
	}
	return false
}
