package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// openStore opens what the data directory holds below raft, after checking all
// of it. A node that finds damage must not run: its vote could lose what
// others count on.
func (n *Node) openStore() (err error) {
	if err := n.heedNotes(); err != nil {
		return repairable(n.cfg.DataDir, err)
	}
	n.store, err = store.Open(n.cfg.DataDir, store.Options{Log: n.log, HCLog: raftLogger(n.log), Keep: snapshotsKept, Guard: n.disk, Statfs: n.cfg.disk.statfs,
		OnDamage: func(err error) { n.fail(repairable(n.cfg.DataDir, err)) }})
	if err == nil {
		err = finishRecovery(n.store, n.id.NodeID)
	}
	return repairable(n.cfg.DataDir, err)
}

// repairable adds to a damage what to do about it.
func repairable(dir string, err error) error {
	if errors.Is(err, fsm.ErrLevel) {
		return newerHint(dir, err)
	}
	if d := (*store.Damage)(nil); err == nil || !errors.As(err, &d) {
		return err
	}
	return fmt.Errorf("%w\nthis node must not run with it. In %s:\n  mv %s %s.damaged\n"+
		"then make a join token at a healthy node with `edgecoder token create --role coordinator` and start this server again with --join and --join-token-file: "+
		"it fetches everything anew. Without a healthy node see `edgecoder recover --help`", err, dir, dir, dir)
}

// startRaft starts raft on its share of the listener.
func (n *Node) startRaft(run context.Context, listener net.Listener, dialer *peerDialer) error {
	logger := raftLogger(n.log)
	ports := raft.NetworkTransportConfig{
		Stream: newStreamLayer(n.id.NodeID, dialer), MaxPool: 4, Timeout: n.cfg.Timing.Peer, Logger: logger,
		MaxRPCsInFlight: 1, // the default of 2 was seen to wedge a follower for ever after a short disk error
	}
	transport := newTermGuard(raft.NewNetworkTransportWithConfig(&ports), n.isObserver(), n.observes, newReign(n.cfg.Timing))
	n.loops.Go(newInbound(listener, ports, transport.hear).serve)
	notices := make(chan bool, 16)
	conf := n.raftConfig(notices)
	conf.Logger = logger
	if err := n.bootstrapRaft(conf, transport); err != nil {
		return err
	}
	if !n.id.Started { // on disk before this id casts its first vote
		n.id.Started = true
		if err := n.id.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
			return err
		}
	}
	var err error
	r := &replica{Machine: n.machine, n: n, starting: true}
	log := &holeLog{LogStore: &vitalLog{LogStore: n.store.Logs, disk: n.disk, settle: n.settle, halt: n.halt}, newest: n.newestSnapshot, halt: n.halt, stored: n.disown, now: time.Now}
	n.raft, err = raft.NewRaft(conf, r, log, n.store.Stable, startSnapshots{n.store.Snapshots, r}, transport)
	if err != nil {
		return r.explain(err)
	}
	log.follow(n.raft)
	transport.follow(n.raft)
	leaders := make(chan raft.Observation, 64)
	n.raft.RegisterObserver(raft.NewObserver(leaders, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.loops.Go(func() { n.watchLeader(run, leaders) })
	n.loops.Go(func() { n.watchLeadership(run, notices) })
	n.transport = transport
	return nil
}

// endRaft stops raft, then closes what it used.
func (n *Node) endRaft() error {
	var errs []error
	if n.store != nil {
		n.store.Ending() // raft's apply loop may be waiting for a full disk
	}
	if n.raft != nil {
		over := n.raft.Shutdown()
		close(n.ending) // raft was told: its loop may go on to where it looks
		errs = append(errs, over.Error(), n.transport.Close())
	}
	n.endSockets()
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

const (
	// snapshotsKept: a restore that the cluster does not take falls back to an older one.
	snapshotsKept = 3
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
	if plantedBuild || n.cfg.oftenSnap { // short runs are to restore snapshots too
		conf.SnapshotThreshold, conf.TrailingLogs, conf.SnapshotInterval = 64, 128, time.Second
	}
	conf.NotifyCh, conf.ShutdownOnRemove = notices, false
	return conf
}

// bootstrapRaft gives a new cluster's first node its configuration of one.
func (n *Node) bootstrapRaft(conf *raft.Config, transport raft.Transport) error {
	if !n.id.Bootstrap {
		return nil
	}
	exists, err := n.store.HasState()
	if exists || err != nil || n.id.Started {
		return err
	}
	one := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: raft.ServerAddress(n.id.NodeID)}}}
	return raft.BootstrapCluster(conf, n.store.Logs, n.store.Stable, n.store.Snapshots, transport, one)
}
