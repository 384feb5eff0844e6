package judge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/client"
)

// Move is one call that moves money. Its entries are decided each by itself, or,
// linked, together. An attempt ended ok when the cluster decided, whatever it
// decided: a transfer for which there is too little is an answer too.
type Move struct {
	Entries []Entry `json:"entries"`
	Linked  bool    `json:"linked,omitempty"`
	Results []Moved `json:"results,omitempty"` // one for each entry when the outcome is ok
}

// Entry is one operation of a Move: a transfer, a hold, a post or a void, as the
// constants of package client call them. Amounts are micro-credits.
type Entry struct {
	Op        string `json:"op"`
	ID        string `json:"id"` // UUID, its first 48 bits are Unix milliseconds
	Debit     string `json:"debit,omitempty"`
	Credit    string `json:"credit,omitempty"`
	Amount    int64  `json:"amount,omitempty"` // of a post 0 is all of it
	Hold      string `json:"hold,omitempty"`   // that a post or void ends
	ExpiresMs int64  `json:"expires_ms,omitempty"`
}

// Moved is what became of one entry.
type Moved struct {
	Code     string `json:"code"` // LedgerOK or why it was refused
	Index    uint64 `json:"index,omitempty"`
	ClockMs  int64  `json:"clock_ms,omitempty"`
	Repeated bool   `json:"repeated,omitempty"`
}

// AccountRead is what is on an account.
type AccountRead struct {
	Account   string `json:"account"`
	Balance   int64  `json:"balance"`
	Held      int64  `json:"held"`
	Available int64  `json:"available"`
}

// LedgerFinal is a node's last word on its ledger: all accounts at one length of
// its records, and the records themselves.
type LedgerFinal struct {
	Size     uint64           `json:"size"`
	Head     string           `json:"head"`
	Accounts []client.Account `json:"accounts"`
	// Records are the hashed bytes of each, with the hash, in base64. SameAs names
	// a node earlier in the list whose records are these to the byte: then they are not repeated.
	Records []string `json:"records,omitempty"`
	SameAs  string   `json:"same_as,omitempty"`
	Verdict string   `json:"verdict"` // what the node itself says of its records: "ok", or the first bad one
	Error   string   `json:"error,omitempty"`
}

// maxEntries bounds the entries of one Move, as the API does.
const maxEntries = client.MaxLedgerBatch

// check holds what the checkers of the ledger rely on.
func (m *Move) check(outcome Outcome) error {
	if len(m.Entries) == 0 || len(m.Entries) > maxEntries {
		return fmt.Errorf("%d entries, want 1 to %d", len(m.Entries), maxEntries)
	}
	if outcome == OK && len(m.Results) != len(m.Entries) {
		return fmt.Errorf("%d results for %d entries", len(m.Results), len(m.Entries))
	}
	for i := range m.Entries {
		if _, err := idTime(m.Entries[i].ID); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// idTime returns the Unix milliseconds that begin a UUID.
func idTime(id string) (int64, error) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' {
		return 0, fmt.Errorf("%.40q is no UUID", id)
	}
	ms, err := strconv.ParseUint(id[:8]+id[9:13], 16, 48)
	if err != nil {
		return 0, errors.New("the time of an id is not hexadecimal")
	}
	return int64(ms), nil
}

// result is what became of entry i: of an attempt that was not answered, its outcome.
func (op *Op) result(i int) (Outcome, Moved) {
	if op.Outcome != OK {
		return op.Outcome, Moved{}
	}
	r := op.Move.Results[i]
	switch r.Code {
	case client.CodeUnavailable:
		return Refused, r
	case client.CodeUnknownOutcome, client.CodeInternal:
		return Unknown, r
	}
	return OK, r
}

// moved tells whether the attempt had something take effect, now or before.
func (op *Op) moved() bool {
	return op.Outcome == OK && slices.ContainsFunc(op.Move.Results, func(r Moved) bool { return r.Code == client.LedgerOK })
}

// undecided tells whether the answer leaves an entry open.
func (op *Op) undecided() bool {
	for i := range op.Move.Entries {
		if outcome, _ := op.result(i); outcome != OK {
			return true
		}
	}
	return false
}

// newestMove returns the index that the answer shows, and whether it made it: then
// the first that it made, for all of them must come after what was shown before.
func (op *Op) newestMove() (at uint64, made bool) {
	for _, r := range op.Move.Results {
		fresh := r.Code == client.LedgerOK && !r.Repeated && r.Index > 0
		switch {
		case fresh && (!made || r.Index < at):
			at, made = r.Index, true
		case !made:
			at = max(at, r.Index)
		}
	}
	return at, made
}

// same identifies the content of an entry among all with its id.
func (e *Entry) same() string {
	return fmt.Sprintf("%s\x00%s\x00%s\x00%d\x00%s\x00%d", e.Op, e.Debit, e.Credit, e.Amount, e.Hold, e.ExpiresMs)
}

func (e *Entry) String() string {
	switch e.Op {
	case client.OpPost, client.OpVoid:
		return fmt.Sprintf("%s %s of hold %s for %d", e.Op, e.ID, e.Hold, e.Amount)
	}
	return fmt.Sprintf("%s %s of %d from %s to %s", e.Op, e.ID, e.Amount, e.Debit, e.Credit)
}

// text is the Move in evidence: the first entries stand for all.
func (m *Move) text() string {
	const most = 4
	var parts []string
	for i := range m.Entries {
		if i == most {
			parts = append(parts, fmt.Sprintf("… %d entries", len(m.Entries)))
			break
		}
		parts = append(parts, m.Entries[i].String())
	}
	if m.Linked {
		parts = append(parts, "linked")
	}
	return strings.Join(parts, ", ")
}

func (m *Move) answers() string {
	const most = 8
	var parts []string
	for i, r := range m.Results {
		if i == most {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("%s index %d repeated %t", r.Code, r.Index, r.Repeated))
	}
	return strings.Join(parts, ", ")
}
