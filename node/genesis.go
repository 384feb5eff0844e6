package node

import (
	"context"
	"crypto/rand"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// ensureGenesis starts the cluster if this node was told to and has not yet.
func (n *Node) ensureGenesis(ctx context.Context, l *leadership) bool {
	var exists bool
	n.machine.Read(func(s *fsm.State) { exists = s.Meta().ClusterID != "" })
	if exists {
		return true
	}
	if !n.id.Bootstrap {
		n.log.Error("this node leads a cluster without genesis but did not bootstrap it")
		return false
	}
	// Entries of an earlier run may be committed and not yet applied here.
	if err := n.raft.Barrier(n.cfg.Timing.Request).Error(); err != nil {
		return false
	}
	n.machine.Read(func(s *fsm.State) { exists = s.Meta().ClusterID != "" })
	if exists {
		return true
	}
	return n.genesis(ctx, l)
}

func (n *Node) genesis(ctx context.Context, l *leadership) bool {
	token, err := crypto.NewTokenText(rand.Reader, n.id.ClusterID, string(fsm.RoleAdmin), "")
	if err != nil {
		n.log.Error("cannot make the admin token", "error", err)
		return false
	}
	tlsKey, err := tlsPublic(n.id.TLSKey)
	if err != nil {
		n.log.Error("cannot read own keys", "error", err)
		return false
	}
	encryption, err := n.id.encryptionPublic()
	if err != nil {
		n.log.Error("cannot read own keys", "error", err)
		return false
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.Genesis{
		ClusterID: n.id.ClusterID, CACert: n.id.CACert, Level: featureLevel,
		AdminToken: fsm.TokenCreate{ID: token.ID, Hash: token.Hash(), Role: fsm.RoleAdmin, Uses: -1, Label: "bootstrap"},
		Coordinator: fsm.Coordinator{ID: n.id.NodeID, Name: n.cfg.Name, Role: fsm.RoleCoordinator, SigningKey: n.id.publicKey(),
			EncryptionKey: encryption, API: n.cfg.APIAddr, Raft: n.cfg.raftAddr(), Gossip: n.cfg.GossipAddr, Level: featureLevel, Version: n.cfg.Version, TLSKey: crypto.Sum(tlsKey)},
	})
	if err != nil {
		n.log.Error("cannot make the genesis", "error", err)
		return false
	}
	n.firstToken.Store(&token)
	future, err := n.enqueue(l, cmd)
	if err != nil {
		return false
	}
	res, err := n.await(ctx, future)
	if err != nil || !res.OK() {
		n.log.Error("genesis was refused", "error", err, "code", res.Code, "detail", res.Detail)
		return false
	}
	return true
}

// FirstAdminToken returns the text of the admin token, in the one process that
// bootstrapped the cluster; the cluster itself keeps only its hash.
func (n *Node) FirstAdminToken() string {
	t := n.firstToken.Load()
	if t == nil {
		return ""
	}
	var stands bool
	n.machine.Read(func(s *fsm.State) {
		stored, ok := s.Token(t.ID)
		stands = ok && stored.Hash.Equal(t.Hash())
	})
	if !stands {
		return ""
	}
	return t.String()
}
