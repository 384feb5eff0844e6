package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// startRaft opens the stores and starts raft on its share of the listener.
func (n *Node) startRaft(run context.Context, listener net.Listener, dialer *peerDialer) error {
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(n.cfg.DataDir, fileRaft), MsgpackUseNewTimeFormat: true,
		// The list of free pages is rebuilt at start instead of written with every entry.
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: time.Second}})
	if err != nil {
		return fmt.Errorf("raft log %s: %w", filepath.Join(n.cfg.DataDir, fileRaft), err)
	}
	logger := raftLogger(n.log)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(n.cfg.DataDir, snapshotsKept, logger)
	if err != nil {
		_ = store.Close()
		return err
	}
	cached, err := raft.NewLogCache(logCache, store)
	if err != nil {
		_ = store.Close()
		return err
	}
	layer := &streamLayer{Listener: listener, self: n.id.NodeID, dialer: dialer}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 4, Timeout: peerTimeout, Logger: logger,
		MaxRPCsInFlight: 1, // the default of 2 was seen to wedge a follower for ever after a short disk error
	})
	notices := make(chan bool, 16)
	conf := n.raftConfig(notices)
	conf.Logger = logger
	if err := n.bootstrapRaft(conf, store, snapshots, transport); err != nil {
		_ = store.Close()
		return err
	}
	if !n.id.Started { // on disk before this id casts its first vote
		n.id.Started = true
		if err := n.id.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
			_ = store.Close()
			return err
		}
	}
	n.raft, err = raft.NewRaft(conf, n.machine, cached, store, snapshots, transport)
	if err != nil {
		_ = store.Close()
		return fmt.Errorf("raft: %w", err)
	}
	leaders := make(chan raft.Observation, 64)
	n.raft.RegisterObserver(raft.NewObserver(leaders, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.loops.Go(func() { n.watchLeader(run, leaders) })
	n.loops.Go(func() { n.watchLeadership(run, notices) })
	n.engine = engine{store: store, transport: transport}
	return nil
}

// engine is what runs under raft, kept for the shutdown.
type engine struct {
	store     *raftboltdb.BoltStore
	transport *raft.NetworkTransport
}

// endRaft stops raft, then closes what it used.
func (n *Node) endRaft() error {
	if n.raft == nil {
		n.endSockets()
		return nil
	}
	stopped := n.raft.Shutdown().Error()
	closed := n.engine.transport.Close()
	n.endSockets()
	return errors.Join(stopped, closed, n.engine.store.Close())
}

const (
	// peerTimeout bounds one exchange with a peer; a leadership transfer to one
	// that hangs blocks every write for so long. Snapshots get more by their size.
	peerTimeout = 3 * time.Second
	// snapshotsKept: raft falls back to an older snapshot if the newest is bad.
	snapshotsKept = 3
	// logCache keeps the newest entries in memory for followers.
	logCache = 512
	// snapshotThreshold entries make a snapshot worth it; trailingLogs, at
	// least twice as many, stay so that an older snapshot still meets the log.
	snapshotThreshold = 8192
	trailingLogs      = 2 * snapshotThreshold
)

func (n *Node) raftConfig(notices chan<- bool) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.id.NodeID)
	conf.HeartbeatTimeout, conf.ElectionTimeout = n.cfg.Timing.Heartbeat, n.cfg.Timing.Election
	conf.LeaderLeaseTimeout, conf.CommitTimeout = n.cfg.Timing.LeaderLease, n.cfg.Timing.Commit
	conf.SnapshotThreshold, conf.TrailingLogs, conf.SnapshotInterval = snapshotThreshold, trailingLogs, 30*time.Second
	if plantedBuild { // short runs are to restore snapshots too
		conf.SnapshotThreshold, conf.TrailingLogs, conf.SnapshotInterval = 64, 128, time.Second
	}
	conf.NotifyCh, conf.ShutdownOnRemove = notices, false
	return conf
}

// bootstrapRaft gives a new cluster's first node its configuration of one.
func (n *Node) bootstrapRaft(conf *raft.Config, store *raftboltdb.BoltStore, snapshots raft.SnapshotStore, transport raft.Transport) error {
	if !n.id.Bootstrap {
		return nil
	}
	exists, err := raft.HasExistingState(store, store, snapshots)
	if exists || err != nil || n.id.Started {
		return err
	}
	one := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: raft.ServerAddress(n.id.NodeID)}}}
	return raft.BootstrapCluster(conf, store, store, snapshots, transport, one)
}
