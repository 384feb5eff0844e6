package client

// Labels of finality say no more than can be checked.
const (
	// FinalityCommitted says that a majority of coordinators has the log entry of the
	// index beside it.
	FinalityCommitted = "committed"
	// FinalityCheckpointed says that all records it rests on are in a checkpoint that a
	// majority cosigned: GET /v1/ledger/checkpoint has it, and proofs lead there.
	FinalityCheckpointed = "checkpointed"
)

// Operations of a LedgerEntry.
const (
	OpTransfer = "transfer"
	OpHold     = "hold"
	OpPost     = "post"
	OpVoid     = "void"
)

// Codes of a LedgerResult besides those of errors and verdicts. A single operation
// that is refused with one of them is a conflict with it as the reason.
const (
	LedgerOK           = "ok"
	LedgerInsufficient = "insufficient_credits" // less than that is available
	LedgerFrozen       = "account_frozen"
	LedgerHoldExpired  = "hold_expired"
	LedgerOverflow     = "overflow"      // beyond the largest amount
	LedgerIDExpired    = "id_expired"    // too old to know whether it was used: look it up in the records
	LedgerIDAhead      = "id_ahead"      // its time is too far ahead of the cluster clock
	LedgerLinkedFailed = "linked_failed" // an entry that it is linked with was refused
)

// LedgerExportType is the media type of GET /v1/ledger/export.
const LedgerExportType = "application/vnd.edgecoder.ledger"

// MaxLedgerBatch bounds the entries of one batch, and the reports of one call.
const MaxLedgerBatch = 1024

// Ledger is the answer of GET /v1/ledger. Amounts are micro-credits.
type Ledger struct {
	Open         bool         `json:"open"`
	ClusterID    string       `json:"cluster_id"`       // that agents sign for; to be compared with what the agent knows, not taken over
	Origin       string       `json:"origin,omitempty"` // cluster in which it was opened: the first record is linked to it
	Size         uint64       `json:"size"`             // records
	Head         string       `json:"head,omitempty"`   // hash of the newest
	Circulation  int64        `json:"circulation"`      // what was issued and not given back, and what is owed
	Owed         int64        `json:"owed"`             // by accounts that admins let: spent, and never issued
	Accounts     uint64       `json:"accounts"`
	Holds        uint64       `json:"holds"`
	Reports      uint64       `json:"reports"`     // contribution reports that can still be asked about
	IDFloorMs    int64        `json:"id_floor_ms"` // ids of up to then are refused
	Policy       LedgerPolicy `json:"policy"`
	Checkpointed uint64       `json:"checkpointed"` // records that the newest checkpoint holds, as this node has it
	Index        uint64       `json:"index"`
	Finality     string       `json:"finality"`

	CheckpointedIndex uint64 `json:"checkpointed_index"` // log index up to which all entries are in that checkpoint: a LedgerResult of one is checkpointed
}

// LedgerPolicy is what admins may tune of the ledger. In a PUT members that are
// left out stay.
type LedgerPolicy struct {
	Version        uint64 `json:"version"`          // 0: the ledger is not open, these are the defaults
	IDWindowMs     int64  `json:"id_window_ms"`     // how old the id of an operation may be
	HoldMaxMs      int64  `json:"hold_max_ms"`      // longest life of a hold
	ReportKeepMs   int64  `json:"report_keep_ms"`   // how long a contribution waits to be confirmed
	Confirm        string `json:"confirm"`          // who confirms contributions: payer, operator or nobody
	BaseDailyMicro int64  `json:"base_daily_micro"` // issued a day at a load index of one or less
	MinDailyMicro  int64  `json:"min_daily_micro"`  //
	MaxDailyMicro  int64  `json:"max_daily_micro"`  //
	LoadSlopeMicro int64  `json:"load_slope_micro"` // growth of the day's pool with each whole load index above one, in millionths
	SmoothingMicro int64  `json:"smoothing_micro"`  // weight of the newest load index in its moving average, in millionths
	MaxWeightMicro int64  `json:"max_weight_micro"` // most that one account may count in an epoch, in millionths of a second
	Index          uint64 `json:"index,omitempty"`
	Repeated       bool   `json:"repeated,omitempty"`
}

// LedgerPolicyUpdate is the body of PUT /v1/ledger/policy; what is nil stays.
type LedgerPolicyUpdate struct {
	IDWindowMs     *int64  `json:"id_window_ms,omitempty"`
	HoldMaxMs      *int64  `json:"hold_max_ms,omitempty"`
	ReportKeepMs   *int64  `json:"report_keep_ms,omitempty"`
	Confirm        *string `json:"confirm,omitempty"`
	BaseDailyMicro *int64  `json:"base_daily_micro,omitempty"`
	MinDailyMicro  *int64  `json:"min_daily_micro,omitempty"`
	MaxDailyMicro  *int64  `json:"max_daily_micro,omitempty"`
	LoadSlopeMicro *int64  `json:"load_slope_micro,omitempty"`
	SmoothingMicro *int64  `json:"smoothing_micro,omitempty"`
	MaxWeightMicro *int64  `json:"max_weight_micro,omitempty"`
}

// AccountRequest is the body of POST /v1/ledger/accounts: it makes an account, or
// changes floor and frozen of one that has the same kind and owner.
type AccountRequest struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`             // agent: the owner is an agent id; service: the id of an API token
	Owner  string `json:"owner"`            // may debit the account, as operators may
	Floor  int64  `json:"floor,omitempty"`  // lowest that the balance less what is held may be; below 0 needs an admin
	Frozen bool   `json:"frozen,omitempty"` // nothing leaves it
}

// Account is an account and what is on it.
type Account struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"` // agent, service or system
	Owner     string `json:"owner,omitempty"`
	Floor     int64  `json:"floor"`
	Frozen    bool   `json:"frozen"`
	Balance   int64  `json:"balance"`
	Held      int64  `json:"held"`      // by holds that are pending
	Available int64  `json:"available"` // may leave it now
	Index     uint64 `json:"index"`
	Finality  string `json:"finality"`
	Repeated  bool   `json:"repeated,omitempty"`
}

// Accounts is one page of GET /v1/ledger/accounts; Next continues it (query "after").
type Accounts struct {
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitempty"`
	Index    uint64    `json:"index"`
	Finality string    `json:"finality"`
}

// An operation is told apart by its id, a UUID of version 7, which carries its time:
// the same id moves money once, and one that is older than the policy's window is
// refused. Or it is named by TimestampMs and an id of the caller's own, such as an
// invoice number, of which the UUID is made. With an idempotency key it carries an id,
// or TimestampMs of the first try alone: the UUID is made of it and the key. Keys are
// forgotten, and a restore knows none; once is for the id. What carries neither is given
// an id of the cluster's time, and cannot be asked for again.

// TransferRequest is the body of POST /v1/ledger/transfers.
type TransferRequest struct {
	ID          string `json:"id,omitempty"`
	TimestampMs int64  `json:"timestamp_ms,omitempty"`
	Debit       string `json:"debit"`  // account that gives
	Credit      string `json:"credit"` // account that takes
	Amount      int64  `json:"amount"`
	Ref         string `json:"ref,omitempty"` // what it is for
}

// HoldRequest is the body of POST /v1/ledger/holds: it sets an amount aside. Give
// the end or the life; the life counts from the time of the id.
type HoldRequest struct {
	ID          string `json:"id,omitempty"`
	TimestampMs int64  `json:"timestamp_ms,omitempty"`
	Debit       string `json:"debit"`
	Credit      string `json:"credit"`
	Amount      int64  `json:"amount"`
	ExpiresAtMs int64  `json:"expires_at_ms,omitempty"` // first moment at which it is none any more, cluster clock
	TTLMs       int64  `json:"ttl_ms,omitempty"`
	Ref         string `json:"ref,omitempty"`
}

// HoldEnd is the body of POST /v1/ledger/holds/{id}/post and void. The id is of the
// operation, not of the hold.
type HoldEnd struct {
	ID          string `json:"id,omitempty"`
	TimestampMs int64  `json:"timestamp_ms,omitempty"`
	Amount      int64  `json:"amount,omitempty"` // of a post: 0 is all of it; the rest is given back
	Ref         string `json:"ref,omitempty"`
}

// LedgerEntry is one operation of a batch.
type LedgerEntry struct {
	Op          string `json:"op,omitempty"` // transfer if absent
	ID          string `json:"id,omitempty"`
	TimestampMs int64  `json:"timestamp_ms,omitempty"`
	Debit       string `json:"debit,omitempty"`
	Credit      string `json:"credit,omitempty"`
	Amount      int64  `json:"amount,omitempty"`
	Hold        string `json:"hold,omitempty"` // that a post or void ends
	ExpiresAtMs int64  `json:"expires_at_ms,omitempty"`
	TTLMs       int64  `json:"ttl_ms,omitempty"`
	Ref         string `json:"ref,omitempty"`
	Linked      bool   `json:"linked,omitempty"` // takes effect together with the next entry or not at all
}

// LedgerBatch is the body of POST /v1/ledger/transfers/batch, at most
// MaxLedgerBatch entries. With Linked all take effect together or none does.
type LedgerBatch struct {
	Entries []LedgerEntry `json:"entries"`
	Linked  bool          `json:"linked,omitempty"`
}

// LedgerResult answers one operation, report or confirmation.
type LedgerResult struct {
	ID       string `json:"id"` // the UUID; that of the hold where one was made
	Code     string `json:"code"`
	Field    string `json:"field,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Index    uint64 `json:"index,omitempty"`    // log entry that decided it first
	ClockMs  int64  `json:"clock_ms,omitempty"` // cluster clock then
	Finality string `json:"finality,omitempty"` // of what took effect; once a checkpoint holds it asking again with the same id says so
	Repeated bool   `json:"repeated,omitempty"` // it took effect in an earlier call
}

// OK tells whether it took effect, now or in an earlier call.
func (r LedgerResult) OK() bool { return r.Code == LedgerOK }

// LedgerResults answers a batch in the order of its entries. An entry that could
// not be decided has code unavailable or unknown_outcome.
type LedgerResults struct {
	Results []LedgerResult `json:"results"`
}

// Contribution is an agent's signed word on work that it did (see
// ledger.Report.Sign, which SignContribution calls).
type Contribution struct {
	ID         string `json:"id"` // UUID of version 7 or 8
	AgentID    string `json:"agent_id"`
	Account    string `json:"account"` // of the agent: what is earned goes there
	Payer      string `json:"payer"`   // account of whoever the work was for
	Task       string `json:"task"`
	Class      string `json:"class"` // cpu or gpu
	DurationMs int64  `json:"duration_ms"`
	OK         bool   `json:"ok"`
	PublicKey  string `json:"public_key"` // base64 of the raw Ed25519 key, one of the agent's
	Signature  string `json:"signature"`  // base64
}

// ContributionReports is the body of POST /v1/ledger/contributions.
type ContributionReports struct {
	Reports []Contribution `json:"reports"`
}

// ContributionName says which report of work is meant and what stands in it, see
// Contribution.Name: whoever gives a verdict gives it on that and nothing else.
type ContributionName struct {
	AgentID string `json:"agent_id"`
	ID      string `json:"id"`
	Sum     string `json:"sum"` // hash of the report, hex (ledger.Report.Sum)
}

// ContributionVerdict is the body of POST /v1/ledger/contributions/confirm, which is
// for payers and operators.
type ContributionVerdict struct {
	Reports []ContributionName `json:"reports"`
	Reject  bool               `json:"reject,omitempty"`
}

// PendingContribution is a report of work that waits for a verdict.
type PendingContribution struct {
	ContributionName
	Account    string `json:"account"`
	Payer      string `json:"payer"`
	Task       string `json:"task"`
	Class      string `json:"class"`
	DurationMs int64  `json:"duration_ms"`
	OK         bool   `json:"ok"`
	Weight     int64  `json:"weight"`     // that would count, millionths of a second
	ExpiresMs  int64  `json:"expires_ms"` // last moment at which it can be confirmed, cluster clock
}

// PendingContributions is one page of GET /v1/ledger/contributions; Next continues it
// (query "after").
type PendingContributions struct {
	Contributions []PendingContribution `json:"contributions"`
	Next          string                `json:"next,omitempty"`
	Index         uint64                `json:"index"`
}

// OpenEpoch is an hour in which contributions were confirmed and which is not paid yet.
type OpenEpoch struct {
	WindowMs int64  `json:"window_ms"` // its beginning, which is its name
	Weight   int64  `json:"weight"`    // of all accounts, millionths of a second
	Accounts uint64 `json:"accounts"`
}

// Epoch is an hour that was paid. Its shares are the records that follow Seq.
type Epoch struct {
	WindowMs  int64  `json:"window_ms"`
	Weight    int64  `json:"weight"`
	Accounts  uint64 `json:"accounts"`
	LoadMicro int64  `json:"load_micro"` // smoothed load index, millionths
	Pool      int64  `json:"pool"`       // micro-credits
	ClosedMs  int64  `json:"closed_ms"`  // cluster clock
	Seq       uint64 `json:"seq"`        // of its record
	Index     uint64 `json:"index"`
	Finality  string `json:"finality"`
}

// Epochs is the answer of GET /v1/ledger/epochs: those that are open, the oldest
// first, and those of the last week that were closed, the newest first.
type Epochs struct {
	Open   []OpenEpoch `json:"open"`
	Closed []Epoch     `json:"closed"`
	Index  uint64      `json:"index"`
}

// LedgerRecord is one record of the ledger (package ledger has the kinds and the
// bytes). Which members there are depends on the kind.
type LedgerRecord struct {
	Seq           uint64 `json:"seq"`
	Index         uint64 `json:"index"`
	AtMs          int64  `json:"at_ms"`
	Kind          string `json:"kind"`
	Actor         string `json:"actor,omitempty"`
	ID            string `json:"id,omitempty"`
	Hold          string `json:"hold,omitempty"`
	Ref           string `json:"ref,omitempty"`
	Debit         string `json:"debit,omitempty"`
	Credit        string `json:"credit,omitempty"`
	Account       string `json:"account,omitempty"` // of an account or a report
	Amount        int64  `json:"amount,omitempty"`
	DebitBalance  *int64 `json:"debit_balance,omitempty"` // right after
	CreditBalance *int64 `json:"credit_balance,omitempty"`
	DebitHeld     *int64 `json:"debit_held,omitempty"`
	ExpiresMs     int64  `json:"expires_ms,omitempty"`
	Weight        int64  `json:"weight,omitempty"`
	WindowMs      int64  `json:"window_ms,omitempty"`
	Detail        string `json:"detail,omitempty"` // the other members of the kind, for people
	Prev          string `json:"prev"`
	Hash          string `json:"hash"`
	Data          string `json:"data"` // base64 of the bytes that were hashed, with the hash
}

// LedgerRecords is one page of GET /v1/ledger/records; Next continues it (query
// "from"), 0 at the end.
type LedgerRecords struct {
	Records      []LedgerRecord `json:"records"`
	Size         uint64         `json:"size"`
	Head         string         `json:"head"`
	Next         uint64         `json:"next,omitempty"`
	Checkpointed uint64         `json:"checkpointed"` // records that the newest checkpoint holds, as this node has it
	Finality     string         `json:"finality"`     // of all records of the page
}

// LedgerFault is the first bad record.
type LedgerFault struct {
	Seq    uint64 `json:"seq"`
	Kind   string `json:"kind,omitempty"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// LedgerVerified is the answer of GET /v1/ledger/verify: the node walked its records,
// those before From in a call of the last hour, and holds what they come to against its
// balances.
type LedgerVerified struct {
	OK       bool         `json:"ok"`
	Records  uint64       `json:"records"` // that are good, from the first on
	Head     string       `json:"head"`
	Accounts uint64       `json:"accounts"`
	From     uint64       `json:"from"`  // first that was walked now
	Index    uint64       `json:"index"` // log index whose balances were compared
	TookMs   int64        `json:"took_ms"`
	Fault    *LedgerFault `json:"fault,omitempty"`
}

// OrderingSnapshot is one page of GET /ledger/snapshot: the ledger as existing
// clients read it (WIRE.md section 12). Next continues it (query "from").
type OrderingSnapshot struct {
	Records []OrderingRecord `json:"records"`
	Proof   *OrderingProof   `json:"proof"` // of the last of them; null without records
	Size    uint64           `json:"size"`
	Next    uint64           `json:"next,omitempty"`
}

// OrderingRecord is a record of the ordering chain. The hash is that of compact JSON
// of the members from eventType to payloadJson; the signature is over its text.
type OrderingRecord struct {
	ID          string `json:"id"`
	EventType   string `json:"eventType"`
	TaskID      string `json:"taskId"`
	ActorID     string `json:"actorId"`
	Sequence    uint64 `json:"sequence"`
	IssuedAtMs  int64  `json:"issuedAtMs"`
	PrevHash    string `json:"prevHash"`
	PayloadJSON string `json:"payloadJson,omitempty"`
	Hash        string `json:"hash"`
	Signature   string `json:"signature"`
}

// OrderingProof tells where a page ends and who signed it.
type OrderingProof struct {
	RecordID     string `json:"recordId"`
	Hash         string `json:"hash"`
	PrevHash     string `json:"prevHash"`
	Sequence     uint64 `json:"sequence"`
	SignerPeerID string `json:"signerPeerId"`
}

// OrderingVerified is the answer of GET /ledger/verify.
type OrderingVerified struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}
