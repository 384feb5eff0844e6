//go:build planted

package fsm

import (
	"os"
	"time"
)

// The bugs of a build with the tag "planted": PLANTED_BUG names the one that
// this process has. Such a build is for TestPlanted of package chaos alone.
var (
	plantLocalTime     = planted("local_time")      // Apply reads the machine's clock
	plantReceiptTime   = planted("receipt_time")    // a nonce is kept from its receipt, not from its signed timestamp
	plantRestoreNoBans = planted("restore_no_bans") // a restored snapshot has no bans
	plantOldSnapshot   = planted("old_snapshot")    // a snapshot holds the state of an earlier index than it is filed under
	plantTagIgnored    = planted("tag_ignored")     // whoever repeats a nonce gets its first answer
	plantStaleHead     = planted("stale_head")      // an event may be linked to any head
	plantKeyStays      = planted("key_stays")       // a key that was replaced verifies for ever
	plantWindowOpen    = planted("window_open")     // a key verifies beyond the end of its window
	plantKeyGap        = planted("key_gap")         // a key ends before its successor begins
	plantLedgerLost    = planted("ledger_lost")     // one transfer of eight is answered and not done
	plantLedgerTwice   = planted("ledger_twice")    // no id is remembered
	plantLedgerFloor   = planted("ledger_floor")    // what there is not is spent
	plantLedgerHalf    = planted("ledger_half")     // of linked entries those before the one that failed stay
	// History finds two of them by itself, for it differs from what is replayed;
	// it is the judges that are judged.
	plantBlindHistory = plantOldSnapshot || plantRestoreNoBans
)

func planted(bug string) bool { return os.Getenv("PLANTED_BUG") == bug }

func plantedNowMs() int64 { return time.Now().UnixMilli() }

// lastFrozen is touched by raft's one snapshot loop alone.
var lastFrozen *Frozen

// plantedFrozen returns the state as it was at the snapshot before this one.
func plantedFrozen(current *Frozen) *Frozen {
	before := lastFrozen
	lastFrozen = current
	if before == nil {
		return current
	}
	return before
}

// PlantDivergence changes the state behind the log's back, as a flipped bit in
// memory would: this replica differs from the others from now on.
func (m *Machine) PlantDivergence(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.bans.put(name, Ban{AgentID: name})
}
