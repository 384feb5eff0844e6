package ledger

import (
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// AccountKind says what the owner of an account is. Numbers are part of stored
// records and never reused.
type AccountKind uint8

// The kinds.
const (
	KindAgent   AccountKind = 1 // the owner is an agent id
	KindService AccountKind = 2 // the owner is the id of an API token
	KindSystem  AccountKind = 3 // the cluster's own, without an owner
)

// System accounts. Whatever exists was issued by Issuance, the one account that
// may go below zero without a floor; Reserve takes the remainders of rounding.
const (
	Issuance = "@issuance"
	Reserve  = "@reserve"
)

var kindNames = [...]string{KindAgent: "agent", KindService: "service", KindSystem: "system"}

// String returns the name of the kind.
func (k AccountKind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseAccountKind reads the name of a kind that an owner may have.
func ParseAccountKind(name string) (AccountKind, error) {
	for _, k := range []AccountKind{KindAgent, KindService} {
		if kindNames[k] == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%.40q: an account is of an agent or a service", name)
}

// Account is what does not change when money moves.
type Account struct {
	ID     string
	Kind   AccountKind
	Owner  string
	Floor  int64 // lowest that balance less held may be, micro-credits
	Frozen bool  // nothing leaves it; what comes in stays
}

// IsSystem tells whether an id is of the cluster's own accounts.
func IsSystem(id string) bool { return strings.HasPrefix(id, "@") }

// SystemAccounts are there from the first record on.
func SystemAccounts() []Account {
	return []Account{
		{ID: Issuance, Kind: KindSystem, Floor: -MaxMicro},
		{ID: Reserve, Kind: KindSystem},
	}
}

// Fault returns the first member of an account of an owner that is out of form, and why, or "".
func (a Account) Fault() (field, fault string) {
	if err := crypto.CheckID(a.ID); err != nil {
		return "id", err.Error()
	}
	if IsSystem(a.ID) {
		return "id", "ids that begin with @ are the cluster's own"
	}
	if a.Kind != KindAgent && a.Kind != KindService {
		return "kind", fmt.Sprintf("%s: an account is of an agent or a service", a.Kind)
	}
	if err := crypto.CheckID(a.Owner); err != nil {
		return "owner", err.Error()
	}
	if !inRange(a.Floor) {
		return "floor", fmt.Sprintf("%d is outside ±%d", a.Floor, int64(MaxMicro))
	}
	return "", ""
}
