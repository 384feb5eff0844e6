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
	if !n.appliedAll(ctx) {
		return false
	}
	n.machine.Read(func(s *fsm.State) { exists = s.Meta().ClusterID != "" })
	if exists {
		return true
	}
	return n.genesis(ctx, l)
}

// appliedAll waits until this leader has applied all that is in its log. raft
// leaves the barrier unanswered if it ends before the barrier is reached.
func (n *Node) appliedAll(ctx context.Context) bool {
	reached := make(chan error, 1)
	go func() { reached <- n.raft.Barrier(n.cfg.Timing.Request).Error() }()
	select {
	case err := <-reached:
		return err == nil
	case <-ctx.Done():
		return false
	}
}

func (n *Node) genesis(ctx context.Context, l *leadership) bool {
	token, err := n.firstAdminToken()
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
		ClusterID: n.id.ClusterID, CACert: n.id.CACert, Level: n.cfg.supports(),
		AdminToken: fsm.TokenCreate{ID: token.ID, Hash: token.Hash(), Role: fsm.RoleAdmin, Uses: -1, Label: "bootstrap"},
		Coordinator: fsm.Coordinator{ID: n.id.NodeID, Name: n.cfg.Name, Role: fsm.RoleCoordinator, SigningKey: n.id.publicKey(),
			EncryptionKey: encryption, API: n.cfg.APIAddr, Raft: n.cfg.raftAddr(), Gossip: n.cfg.GossipAddr, Level: n.cfg.supports(), Version: n.cfg.Version, TLSKey: crypto.Sum(tlsKey)},
	})
	if err != nil {
		n.log.Error("cannot make the genesis", "error", err)
		return false
	}
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

// firstAdminToken returns the token that genesis will make. It is in the key
// file before, so that a crash between genesis and its showing loses nothing.
func (n *Node) firstAdminToken() (crypto.TokenText, error) {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	if n.id.AdminToken != "" {
		return crypto.ParseTokenText(n.id.AdminToken)
	}
	token, err := crypto.NewTokenText(rand.Reader, n.id.ClusterID, string(fsm.RoleAdmin), "")
	if err != nil {
		return token, err
	}
	n.id.AdminToken = token.String()
	return token, n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

// FirstAdminToken returns the text of the first admin token until
// ForgetAdminToken is called, on the node that founded the cluster; the cluster
// itself keeps only its hash.
func (n *Node) FirstAdminToken() string {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	t, err := crypto.ParseTokenText(n.id.AdminToken)
	if err != nil {
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
	return n.id.AdminToken
}

// ForgetAdminToken erases the first admin token here, once it was shown.
func (n *Node) ForgetAdminToken() error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	if n.id.AdminToken == "" {
		return nil
	}
	n.id.AdminToken = ""
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}
