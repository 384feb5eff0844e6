package fsm

import "github.com/edgecoder/edgecoder/ledger"

// Every collection, text and window of the replicated state is bounded here.
// At a cap the command is refused with CodeOverloaded (collections) or
// CodeTooLarge (sizes); nothing is ever evicted to make room, because an
// evicted nonce, ban or key would reopen what it closed.
const (
	// MaxCommandBytes bounds an encoded command: raft keeps whole entries in
	// memory on every replica, and a batch of MaxClaims claims fits well below.
	MaxCommandBytes = 4 << 20
	// MaxClaims bounds one AdmitBatch: at about 150 bytes a claim an entry stays
	// under 1 MiB and Apply under some 10 ms, so heartbeats are never late.
	MaxClaims = 4096
	// MaxCallers bounds the distinct API tokens behind one AdmitBatch.
	MaxCallers = 1024

	// MaxAgents: about 400 bytes each, 100,000 are 40 MiB and a snapshot of a second.
	MaxAgents = 100_000
	// MaxAgentKeys bounds the keys of one agent: next, active, retiring, and one spare.
	MaxAgentKeys = 4
	// MaxRingKeys bounds the keys of any other subject: what verifies, and those that
	// ended last. A ring is a part of one row.
	MaxRingKeys = 8
	// MaxSignerKeys bounds the keys that one manifest signer ever has: all stay, since
	// what a retired one vouched for counts on. At one in 90 days it takes 16 years;
	// a signer of another name goes on then.
	MaxSignerKeys = 64
	// MaxKeySignatureBytes bounds the signatures on a change of keys: Ed25519 has 64
	// bytes, ECDSA P-256 in DER 72.
	MaxKeySignatureBytes = 128
	// MaxSealedBytes bounds a private key sealed to one member: a P-256 key in PKCS#8
	// has 138 bytes, in a version 2 envelope and base64 some 700.
	MaxSealedBytes = 4 << 10
	// MaxKeySchedules bounds schedules of single subjects; each kind has one besides.
	MaxKeySchedules = 10_000
	// MaxKeyRequests bounds rotations of agents that were asked for and wait for their
	// owner. All other subjects have room besides (maxOwnRequests): a revocation asks too.
	MaxKeyRequests = 10_000
	maxOwnRequests = 2*MaxCoordinators + MaxManifestSigners + 2
	// MaxTokens: operators make tokens by hand or by script; a million is a runaway script.
	MaxTokens = 100_000
	// MaxEdges bounds edges that are members: each is one of the tokens, and gossip lists 4,096 members.
	MaxEdges = 4_000
	// MaxCoordinators bounds voters and observers together; raft itself wants few.
	MaxCoordinators = 64
	// MaxRemoved bounds removed coordinator ids, kept for ever so that they stay refused.
	MaxRemoved = 10_000
	// MaxSigningKeys bounds coordinator keys ever seen, kept so that old chains verify.
	MaxSigningKeys = 10_000
	// MaxKeyOwners: a public key belongs to at most one subject for ever, past keys too.
	MaxKeyOwners = 400_000
	// ownersKept is the room in it that agents leave, from LevelKeys on: for each key
	// that a coordinator can have, and for agents that an operator recovers.
	ownersKept = MaxSigningKeys + MaxAgents/10
	// MaxBans bounds bans in force: about 250 bytes each.
	MaxBans = 1_000_000
	// MaxNonces bounds the nonce window: about 130 bytes each, 512 MiB in all;
	// at the default 120 s skew that is a steady 17,000 admissions a second.
	MaxNonces = 4_000_000
	// SelfPerSecond is how often, on average, an agent may ask for itself: a worker
	// sends a heartbeat and a pull every 1.2 s. The window is twice the skew, the
	// longest that a nonce is remembered (one that was signed a skew ahead), so one
	// agent has at most 2*240 = 480 nonces at the default skew, 200 if its clock is
	// right and it asks every 0.6 s.
	SelfPerSecond = 2
	// MaxSelfNonces bounds what all agents ask for themselves to half of MaxNonces:
	// the other half stays for services whatever agents do. It takes 4,167 hostile
	// agents to fill it, or 10,000 honest workers: 17,000 requests a second.
	MaxSelfNonces = MaxNonces / 2
	// MaxWindowRuns bounds the sliding-window entries of all agents together.
	MaxWindowRuns = 8_000_000
	// maxWindows bounds the windows of a snapshot: only agents have one, and those
	// of agents that restores took away last an hour.
	maxWindows = 4 * MaxAgents
	// MaxIdempotency bounds remembered mutations of the last 24 h, about 200
	// bytes each; the reserve is for admins, who must be able to revoke whoever
	// fills the rest.
	MaxIdempotency         = 200_000
	IdempotencyReserve     = 20_000
	MaxIdempotencyPerToken = 20_000
	// MaxOverrides bounds per-agent policy overrides; the policy is one value.
	MaxOverrides = 1_000
	// MaxUnsignedAgents bounds the agents that policy lets act without a signature:
	// each is a hole, and history names all of them in one record.
	MaxUnsignedAgents = 100
	// MaxTokenBytes bounds the text of a token that policy carries.
	MaxTokenBytes = 512
	// MaxManifests bounds the names of accepted manifests: kept for ever, since the
	// newest version of each is a floor. A row is 1 KiB, 30 KiB at the worst.
	MaxManifests = 1_000
	// MaxManifestVersions is how many versions of a name are kept, for nodes that
	// still run them. It is the one list that drops its oldest entry: the newest
	// alone is what nothing older may pass.
	MaxManifestVersions = 8
	// MaxManifestSigners and MaxManifestSources bound the trust policy of manifests,
	// which is one row, and so the signatures of one manifest.
	MaxManifestSigners = 64
	MaxManifestSources = 64
	// MaxFormerKeys bounds the keys, revoked or replaced, of signers that the trust policy
	// names no more: all keys of all signers that one policy can have. None of them ever
	// signs again.
	MaxFormerKeys = MaxManifestSigners * MaxSignerKeys
	// MaxLedgerEntries bounds the entries of a LedgerBatch, and the reports and
	// confirmations of one command: at some 2 µs each Apply takes some 10 ms. It is
	// four batches of a caller: what waits goes into one entry of the log.
	MaxLedgerEntries = 4_096
	// MaxLedgerAccounts: about 350 bytes each with its id and place in the map, 70 MiB.
	MaxLedgerAccounts = ledger.MaxAccounts
	// MaxLedgerHolds bounds holds that are pending, about 400 bytes each.
	MaxLedgerHolds = ledger.MaxHolds
	// accountPart and payerPart are how much of what is left of holds and reports one
	// account may have: a 16th and a quarter. The first service comes to 9,529 holds, the
	// first agent to 6,352, and a hundred agents to 931 each: who sets a micro-credit
	// aside a thousand times must not leave nobody room for a week. One payer comes to
	// 36,000 reports.
	accountPart = 16
	payerPart   = 4
	// MaxLedgerIDs bounds the ids that are remembered, about 150 bytes each, 600 MiB.
	// In the default window of ten minutes that is a steady 6,600 transfers a second,
	// in one of 30 s 130,000, in the narrowest of ten seconds 400,000.
	MaxLedgerIDs = ledger.MaxIDs
	// MaxTokenIDs and MaxAgentIDs bound those of one caller that is no operator: tokens
	// are given out by hand, agents may be anybody's. In the default window an agent may
	// move money 166 times a second, a token 1,666 times.
	MaxTokenIDs = ledger.MaxTokenIDs
	MaxAgentIDs = ledger.MaxAgentIDs
	// MaxLedgerReports bounds the reports that may still be asked about.
	MaxLedgerReports = ledger.MaxReports
	// MaxAccountReports bounds those for one account: a report a minute that nobody
	// decides on for a day, or three a second that are decided at once.
	MaxAccountReports = MaxLedgerReports / 100
	// MaxReleases bounds the holds that one entry or mark gives back, for whatever
	// reason: some 30 ms.
	MaxReleases = 8_192
	// MaxReportPurges bounds the reports that one mark or batch forgets: some 50 ms.
	MaxReportPurges = 4_096
	// MaxOpenEpochs is two days of epochs that nobody closed.
	MaxOpenEpochs = ledger.MaxOpenEpochs
	// MaxClosedEpochs is a week of epochs that were closed, for whoever asks which
	// there were: all of them are in history.
	MaxClosedEpochs = 168
	// MaxEpochAccounts bounds the accounts of one epoch, because it is paid in one
	// entry: some 30 ms, once an hour.
	MaxEpochAccounts = ledger.MaxEpochAccounts
	// MaxEpochWeights bounds the accounts of all open epochs together.
	MaxEpochWeights = ledger.MaxEpochWeights
	// MaxCosignerSets bounds the versions of who cosigns checkpoints, kept so that
	// whoever trusts an old one can follow. One is made when a coordinator comes or
	// goes; of five cosigners it takes 1 KiB, 64 take 12. The oldest goes for the
	// next: else nobody could come or go any more. Who trusts one that old joins again.
	MaxCosignerSets = 4096
	// MaxMarks is how many digests are kept for nodes to compare.
	MaxMarks = 16

	// MaxReasonBytes and friends bound free texts inside records.
	MaxReasonBytes      = 1024
	MaxEvidenceRefBytes = 512
	MaxLabelBytes       = 128
	MaxAddressBytes     = 255
	MaxCACertBytes      = 16 << 10
	// MaxEventBytes bounds the wire form of a blacklist event, a leaf of the log.
	MaxEventBytes = 16 << 10

	// MaxTimeMs is 2^53-1, the largest integer that every JSON reader holds
	// exactly; a later time could not be verified by others, nor added to safely.
	MaxTimeMs = 1<<53 - 1
	// MaxAheadMs is how far a command's time may run ahead of the state's clock
	// unless it is a term's first tick: one bad stamp would age everything for good.
	MaxAheadMs = 60_000
	// MaxClockSpreadMs is how far a voter's wall time may be from a stamp to support it.
	MaxClockSpreadMs = 5_000
	// IdempotencyMs is how long an idempotency key is remembered (CONTRACT.md).
	IdempotencyMs = 24 * 3_600_000
	// KeyRequestMs is how long an agent is asked for its next key: one that does not
	// answer in a month is asked again, by somebody who looks why.
	KeyRequestMs = 30 * 24 * 3_600_000
	// NonceBucketMs is the width of a nonce bucket; whole buckets are dropped.
	NonceBucketMs = 1_000

	// MinSkewMs .. MaxSkewMs bound the policy's acceptance window; an hour of
	// nonces is the most that is worth keeping.
	MinSkewMs = 1_000
	MaxSkewMs = 3_600_000
	// MaxRateRequests and the window bounds keep one agent's window small: runs
	// are per millisecond, so it never exceeds min(requests, window) entries.
	MaxRateRequests = 1_000_000
	MinRateWindowMs = 100
	MaxRateWindowMs = 3_600_000
	// MaxTokenTTLMs is ten years: longer than any token should live.
	MaxTokenTTLMs = 10 * 365 * 24 * 3_600_000
)

// Defaults of the policy (CONTRACT.md "Defaults").
const (
	DefaultSkewMs       = 120_000
	DefaultRateRequests = 30
	DefaultRateWindowMs = 60_000
)
