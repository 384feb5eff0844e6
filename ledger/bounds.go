package ledger

// Bounds of what is live in a ledger. The state machine refuses what would pass
// them, so records that do are of no ledger: a hostile file takes no more of an
// auditor's memory and time than a true one.
const (
	MaxAccounts      = 200_000
	MaxHolds         = 200_000
	MaxReports       = 200_000 // that wait for a verdict
	MaxOpenEpochs    = 48      // two days that nobody closed
	MaxEpochAccounts = 10_000  // an epoch is paid in one entry of the log: some 30 ms, once an hour
	MaxEpochWeights  = 100_000 // accounts of all open epochs together
	MaxIDs           = 4_000_000
	MaxTokenIDs      = MaxIDs / 4  // of one caller that is no operator
	MaxAgentIDs      = MaxIDs / 40 // of one agent
)
