// Package api is the HTTP face of a coordinator: it turns requests into
// commands or questions for a node, and answers into JSON. It knows nothing of
// raft or gossip; the small interfaces below are all it needs.
package api

import (
	"context"
	"io"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Log is the replicated log and what it led to.
type Log interface {
	// Propose has a command decided by the cluster. A refusal by the state is
	// data in the result; an error is a *client.Error: unavailable and
	// overloaded mean certainly not done, unknown_outcome means maybe.
	Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error)
	// Read calls f with this replica's state once it satisfies opts, and
	// returns the index it reflects. f must neither change nor keep the state.
	Read(ctx context.Context, opts ReadOptions, f func(*fsm.State)) (uint64, error)
	// Records returns up to limit history records of a stream from seq on.
	Records(stream fsm.Stream, from uint64, limit int) ([]fsm.Record, error)
	// Applied returns the log index that this replica reflects, and a channel
	// that is closed once it has moved on.
	Applied() (uint64, <-chan struct{})
}

// ReadOptions says how fresh a read must be.
type ReadOptions struct {
	Strong   bool   // reflects every write acknowledged before the call
	MinIndex uint64 // wait until this replica has it
	Always   bool   // also from a state that this node must not serve
}

// Admitter decides signed requests.
type Admitter interface {
	// Admit decides each request and returns one outcome each, in order.
	Admit(ctx context.Context, requests []AdmitRequest) []AdmitOutcome
}

// AdmitRequest is a well-formed signed request whose signature nobody has
// verified yet.
type AdmitRequest struct {
	Signed  crypto.SignedRequest
	TokenID string // the API token that asks
	ClaimID string
	// ClaimChosen is true when the caller chose ClaimID; one that the server
	// made is random and needs no protection against reuse.
	ClaimChosen bool
}

// AdmitOutcome is a decision, or in Err why there is none.
type AdmitOutcome struct {
	Result    fsm.ClaimResult
	MaxSkewMs int64 // of the policy it was judged by
	Err       *client.Error
}

// Cluster tells about this node and its cluster.
type Cluster interface {
	Status() client.Status
	Members() []client.Member
	Identity() client.Identity
	// Clocks returns the cluster clock beside the voters' wall clocks.
	Clocks() client.Clocks
}

// Membership is what an operator may do to the cluster's shape.
type Membership interface {
	// Servers returns what this node knows of each server of the raft
	// configuration, by node id.
	Servers() map[string]ServerView
	// TransferLeadership hands leadership to the named node, or to the most
	// caught-up voter when id is empty, and returns once this node sees it lead.
	TransferLeadership(ctx context.Context, id string) error
	// Serving returns an error while this node must not answer: its state
	// differs from the others'.
	Serving() error
	// Ready returns nil when this node can serve: leader known, caught up.
	Ready() error
}

// ServerView is a server as the node that answers sees it.
type ServerView struct {
	Suffrage string // "voter" or "nonvoter" of the raft configuration
	Health   string // see client.Peer
	Heard    bool   // it has answered since this node started, or is this node
	SilentMs int64  // since its last answer
	Lag      uint64 // entries that it was behind this node then
}

// Backups copies the whole truth out, and takes it back.
type Backups interface {
	// Backup freezes what this replica has.
	Backup() (Backup, error)
	// PlanRestore tells what Restore would do with the same backup. Like
	// Restore it is for the leader alone, and refuses before it reads anything.
	PlanRestore(ctx context.Context, backup io.Reader) (client.RestorePlan, error)
	// Restore makes the contents of the backup the cluster's, under a new
	// recovery epoch.
	Restore(ctx context.Context, backup io.Reader, order RestoreOrder) (client.Restored, error)
}

// Backup is a frozen state with its history. Write may be called once.
type Backup struct {
	Name  string // for a file
	Index uint64 // log index that it reflects
	Write func(io.Writer) error
}

// RestoreOrder is the order of an operator who saw the plan.
type RestoreOrder struct {
	client.RestoreOrder
	Actor fsm.Actor
}

// Observed tells about itself to whoever watches the cluster.
type Observed interface {
	// Collectors returns what the node itself measures, for GET /metrics.
	Collectors() []prometheus.Collector
}

// Node is everything that the API needs of a node.
type Node interface {
	Observed
	Log
	Admitter
	Mover
	OrderingSigner
	Cluster
	Membership
	Backups
	Auditor
	Keys
	Logs
	Enforcers
}
