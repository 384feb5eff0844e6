//go:build !planted

package fsm

// Bugs that are planted to test the judges of package chaos (docs/chaos.md).
// Only a build with the tag "planted" can have them; here each is a constant
// and the compiler leaves its branch out.
const (
	plantLocalTime     = false
	plantReceiptTime   = false
	plantRestoreNoBans = false
	plantOldSnapshot   = false
	plantTagIgnored    = false
	plantStaleHead     = false
	plantKeyStays      = false
	plantWindowOpen    = false
	plantKeyGap        = false
	plantBlindHistory  = false
	plantLedgerLost    = false
	plantLedgerTwice   = false
	plantLedgerFloor   = false
	plantLedgerHalf    = false
)

func plantedNowMs() int64                   { return 0 }
func plantedFrozen(current *Frozen) *Frozen { return current }
