package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// obtainIdentity reads who this node is, or makes it by bootstrap or join.
func (n *Node) obtainIdentity(ctx context.Context) (*identity, error) {
	id, err := loadIdentity(n.cfg.DataDir, n.cfg.Passphrase)
	_, noLog := os.Stat(filepath.Join(n.cfg.DataDir, fileRaft))
	if id != nil && id.Started && noLog != nil {
		return nil, fmt.Errorf("%s holds the keys of node %s but its raft log %s is gone (%w): a node that forgot its votes must not come back under its old id; move the directory away and join with a new token",
			n.cfg.DataDir, id.NodeID, fileRaft, noLog)
	}
	if err != nil || (id != nil && id.ClusterID != "") {
		return id, err
	}
	if noLog == nil {
		return nil, fmt.Errorf("%s holds a raft log but no %s: restore the key file, or move the directory away and join again with a new token", n.cfg.DataDir, fileKeys)
	}
	switch {
	case n.cfg.Bootstrap:
		id, err = n.bootstrapIdentity(ctx)
	case len(n.cfg.Join) > 0 && n.cfg.JoinToken == "":
		return nil, fmt.Errorf("%s is empty and --join comes without a join token: give --join-token-file or EDGECODER_JOIN_TOKEN (make one with `edgecoder token create --role coordinator`)", n.cfg.DataDir)
	case len(n.cfg.Join) > 0:
		id, err = n.joinIdentity(ctx, id)
	default:
		return nil, fmt.Errorf("%s is empty: give --bootstrap to start a new cluster, or --join and a token to join one", n.cfg.DataDir)
	}
	if err != nil {
		return nil, err
	}
	return id, id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

func (n *Node) bootstrapIdentity(ctx context.Context) (*identity, error) {
	if n.cfg.RequireManifest != "" {
		return nil, fmt.Errorf("--require-manifest %s: a new cluster has accepted nothing yet: start it without, have the manifest of this binary accepted, and give the flag from then on", n.cfg.RequireManifest)
	}
	if err := answersAlready(ctx, n.cfg); err != nil {
		return nil, err
	}
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	if id.ClusterID, err = crypto.NewClusterID(rand.Reader); err != nil {
		return nil, err
	}
	id.Bootstrap, id.Role, id.iterations = true, fsm.RoleCoordinator, n.cfg.iterations
	if id.CACert, id.CAKey, err = newCA(id.ClusterID); err != nil {
		return nil, err
	}
	pool, err := newPoolKey()
	if err != nil {
		return nil, err
	}
	id.PoolKeys = [][]byte{pool}
	signer, err := parseSigner(id.TLSKey)
	if err != nil {
		return nil, err
	}
	id.TLSCert, err = id.shared().active().issueLeaf(id.ClusterID, id.NodeID, id.Role, signer.Public(), hostsOf(n.cfg.APIAddr, n.cfg.raftAddr()), time.Now())
	return id, err
}

// joinIdentity joins under a fresh identity, or under the one that an earlier
// try left: it is on disk before the join is asked for, so that a crash in
// between costs neither the token nor the name.
func (n *Node) joinIdentity(ctx context.Context, id *identity) (_ *identity, err error) {
	if id == nil {
		if id, err = newIdentity(); err != nil {
			return nil, err
		}
		id.iterations = n.cfg.iterations
		if err := id.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
			return nil, err
		}
	}
	token, err := crypto.ParseTokenText(n.cfg.JoinToken)
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	reply, err := join(ctx, n.cfg, id)
	if err != nil {
		return nil, err
	}
	id.ClusterID, id.Role = reply.ClusterID, fsm.Role(token.Role)
	id.TLSCert = reply.TLSCert
	id.take(reply.set)
	n.book.record(introduced(reply.Members, reply.seed))
	return id, nil
}
