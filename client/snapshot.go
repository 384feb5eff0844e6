package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// SnapshotType is the content type of a backup: the file format of snapshots.
const SnapshotType = "application/vnd.edgecoder.snapshot"

// MaxSnapshotBytes bounds a backup that a node takes: four times what the
// largest state and some hundred million events make, and a stop to a mistake.
const MaxSnapshotBytes = 16 << 30

// MaxPlanRows bounds each list of a restore plan; the counts beside are exact.
const MaxPlanRows = 100

// SnapshotRef says of which state a backup is, or where a cluster stands.
type SnapshotRef struct {
	ClusterID string `json:"cluster_id"`
	Epoch     uint64 `json:"epoch"`
	Index     uint64 `json:"index"`
	ClockMs   int64  `json:"clock_ms"`
	ChainHead string `json:"chain_head"`
	ChainSize uint64 `json:"chain_size"`
	Bytes     int64  `json:"bytes,omitempty"`  // of a backup's file
	SHA256    string `json:"sha256,omitempty"` // of a backup's file
}

// AgentChange is an agent that a restore would change: how it stands now, and
// in the backup.
type AgentChange struct {
	AgentID string `json:"agent_id"`
	State   string `json:"state"`
	Then    string `json:"then,omitempty"`     // absent: the backup does not know the agent
	NewKeys bool   `json:"new_keys,omitempty"` // its keys differ as well
	// The ids of its newest signing keys, where they differ: the key that it changed
	// to is unknown in the backup, and the one that it replaced verifies again.
	KeyID     string `json:"key_id,omitempty"`
	ThenKeyID string `json:"then_key_id,omitempty"`
}

// KeyRow is a coordinator's signing key.
type KeyRow struct {
	PeerID    string `json:"peer_id"`
	NodeID    string `json:"node_id"`
	PublicKey string `json:"public_key"` // base64 of the raw key
}

// ManifestRow is the newest accepted version of a name.
type ManifestRow struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Then    string `json:"then,omitempty"` // the other side's newest version; absent: it has none
}

// RestorePlan is what a restore would do. Lists hold at most MaxPlanRows rows.
type RestorePlan struct {
	Backup  SnapshotRef `json:"backup"`
	Present SnapshotRef `json:"present"`

	BansLost      int           `json:"bans_lost"` // in force now, not in the backup
	BansLostList  []Ban         `json:"bans_lost_list"`
	BansBack      int           `json:"bans_back"` // lifted or replaced since, in force again
	BansBackList  []Ban         `json:"bans_back_list"`
	AgentsLost    int           `json:"agents_lost"` // enrolled since
	AgentsLostIDs []string      `json:"agents_lost_ids"`
	AgentsChanged int           `json:"agents_changed"` // approved, suspended or revoked since, or otherwise another row
	AgentsList    []AgentChange `json:"agents_changed_list"`
	AgentsRekeyed int           `json:"agents_rekeyed"` // of these, those with other keys

	AgentsAdded    int      `json:"agents_added"` // only in the backup: no past of this cluster has them
	AgentsAddedIDs []string `json:"agents_added_ids"`
	KeysAdded      int      `json:"signing_keys_added"` // of coordinators, only in the backup: likewise
	KeysAddedList  []KeyRow `json:"signing_keys_added_list"`
	GoneAdded      int      `json:"removed_nodes_added"` // ids of nodes that only the backup calls removed: they are refused for ever
	GoneAddedIDs   []string `json:"removed_nodes_added_ids"`

	ManifestsKept      int           `json:"manifests_kept"` // accepted now and not, or not so new, in the backup: they stay accepted
	ManifestsKeptList  []ManifestRow `json:"manifests_kept_list"`
	ManifestsAdded     int           `json:"manifests_added"` // only, or newer, in the backup: no past of this cluster has them
	ManifestsAddedList []ManifestRow `json:"manifests_added_list"`
	TrustLost          bool          `json:"manifest_trust_changed"` // the backup trusts other signers or sources of manifests
	TrustBackList      []string      `json:"manifest_trust_back"`    // signers and sources that are trusted again, or anew
	TrustGoneList      []string      `json:"manifest_trust_gone"`

	RulesKept     int      `json:"signature_rules_kept"` // of signature profiles, stricter than the backup's: they stay
	RulesKeptList []string `json:"signature_rules_kept_list"`
	RulesNew      int      `json:"signature_rules_new"` // of the backup, stricter than now: they come
	RulesNewList  []string `json:"signature_rules_new_list"`

	EventsLost   uint64   `json:"events_lost"`         // of the chain, that the backup lacks
	RecordsLost  uint64   `json:"admin_records_lost"`  // of the history of administrative actions, likewise
	LedgerLost   uint64   `json:"ledger_records_lost"` // of the ledger, that the backup lacks: its balances are the backup's
	LedgerThen   uint64   `json:"ledger_size_then"`    // records of the ledger in the backup
	PolicyLost   bool     `json:"policy_changed"`      // the backup has another policy
	Forked       bool     `json:"forked"`              // the backup is no past of this cluster: its history, agents or signing keys
	OtherCluster bool     `json:"other_cluster"`       // the backup is of another cluster
	TokensVoid   []string `json:"tokens_void"`         // ids of join and enrolment tokens that end
	TokensEnd    int      `json:"tokens_end"`

	NewEpoch          uint64   `json:"new_epoch"`
	AdmissionsPauseMs int64    `json:"admissions_pause_ms"` // admissions answer unavailable for so long afterwards
	ClockJumpMs       int64    `json:"clock_jump_ms"`       // how far the cluster clock jumps ahead
	FloorJumpMs       int64    `json:"floor_jump_ms"`       // likewise the time up to which requests count as used
	Closed            []Closed `json:"closed"`              // ranges of signed times that count as used for ever from then on, and do not now
	ClosedMs          int64    `json:"closed_ms"`           // how much of it lies ahead of the clock
	Older             bool     `json:"older"`               // acknowledged changes are lost, or admissions for hours: the restore needs LoseAcknowledged
	Confirm           string   `json:"confirm"`             // names this backup and all of the above that the restore undoes
}

// Closed is a range of signed timestamps, Unix milliseconds, whose used nonces
// are forgotten: requests signed in it are refused for ever.
type Closed struct {
	FromMs int64 `json:"from_ms"`
	ToMs   int64 `json:"to_ms"`
}

// RestoreOrder has a planned restore done.
type RestoreOrder struct {
	Confirm          string // of the plan that the operator saw
	LoseAcknowledged bool   // with a plan that is Older
}

// Restored is the answer of a restore that was done.
type Restored struct {
	Epoch             uint64 `json:"epoch"`
	Index             uint64 `json:"index"` // the restored state is there from this log index on
	ChainHead         string `json:"chain_head"`
	ChainSize         uint64 `json:"chain_size"`
	AdmissionsFromMs  int64  `json:"admissions_from_ms"`  // cluster time at which admissions go on
	AdmissionsPauseMs int64  `json:"admissions_pause_ms"` // how long that is from now
}

// Snapshot writes a backup of the state and history of the node that answers
// to w, and returns its log index. With Strong it reflects every write that was
// acknowledged before the call. Only ctx bounds the time. After an error w may
// hold part of one: a backup is whole only if it verifies.
func (c *Client) Snapshot(ctx context.Context, w io.Writer, opts ...Option) (index uint64, err error) {
	q := newCall(http.MethodGet, "/v1/snapshot", append(opts, Index(&index)))
	q.untimed = true
	var broke error
	q.read = func(r io.Reader) error {
		// A second try would append to the first, so this ends the call.
		if _, err := io.Copy(w, r); err != nil {
			broke = fmt.Errorf("the backup broke off: %w", err)
		}
		return nil
	}
	if err := c.do(ctx, q); err != nil {
		return 0, err
	}
	return index, broke
}

// Backup is the contents of a backup to send, such as an open file.
type Backup struct {
	io.ReaderAt
	Size int64 // bytes
}

// RestorePlan has the leader tell what a restore of the backup would do.
// Nothing is changed. Only ctx bounds the time.
func (c *Client) RestorePlan(ctx context.Context, b Backup, opts ...Option) (out RestorePlan, err error) {
	q := newCall(http.MethodPost, "/v1/snapshot/restore", opts)
	q.query.Set("plan", "true")
	q.upload, q.read = &b, into(&out)
	err = c.onLeader(ctx, q, uploadRetry)
	if failure := (*Error)(nil); errors.As(err, &failure) && failure.Code == CodeUnknownOutcome {
		failure.Code = CodeUnavailable // a plan changes nothing
		failure.Detail = "the answer was lost while the leader read the backup; nothing was changed, look whether it still runs before you send the file again: " + failure.Detail
	}
	return out, err
}

// Restore has the leader take the backup as planned. The error has CodeConflict
// when what it would undo has changed since the plan, and CodeUnknownOutcome
// when it may have been done: the epoch in Status tells. Only ctx bounds the time.
func (c *Client) Restore(ctx context.Context, b Backup, order RestoreOrder, opts ...Option) (out Restored, err error) {
	q := newCall(http.MethodPost, "/v1/snapshot/restore", opts)
	q.query.Set("confirm", order.Confirm)
	q.query.Set("lose_acknowledged", strconv.FormatBool(order.LoseAcknowledged))
	q.upload, q.read = &b, into(&out)
	err = c.onLeader(ctx, q, uploadRetry)
	return out, err
}

// uploadRetry never sends a backup again that may have been read: the next try
// would find another state, and a file that ended one leader would end the next.
func uploadRetry(code string) Retry {
	if code == CodeUnknownOutcome {
		return RetryNo
	}
	return RetryOf(code)
}

// onLeader sends a call to the leader alone: what it carries is too large to be
// forwarded.
func (c *Client) onLeader(ctx context.Context, q *call, retry func(code string) Retry) error {
	for try := 0; ; try++ {
		failure := c.tryLeader(ctx, q)
		if failure == nil {
			return nil
		}
		if retry(failure.Code) == RetryNo || try+1 >= c.attempts || c.pause(ctx, try+len(c.addrs), failure) != nil {
			return failure
		}
	}
}

func (c *Client) tryLeader(ctx context.Context, q *call) *Error {
	st, err := c.Status(ctx)
	if failure := (*Error)(nil); errors.As(err, &failure) {
		return failure
	}
	if err != nil {
		return &Error{Code: CodeUnavailable, Detail: err.Error(), cause: err}
	}
	if st.Leader == nil || st.Leader.API == "" {
		return &Error{Code: CodeUnavailable, Reason: "no_leader", RetryAfter: time.Second,
			Detail: "the node that answers knows no leader right now, and only the leader takes a backup"}
	}
	if err := checkAddr(st.Leader.API); err != nil {
		return &Error{Code: CodeInvalid, Detail: err.Error(), cause: err}
	}
	return c.try(ctx, st.Leader.API, q)
}
