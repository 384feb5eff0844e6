package node

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// checkLedgerRecord holds a record to what can be said of it and the one before: its hash, its link, and the signature
// of a report of work. Balances and rules are for whoever walks from the first one (GET /v1/ledger/verify).
func (n *Node) checkLedgerRecord(before *fsm.Record, r fsm.Record) error {
	rec, err := ledger.ParseRecord(r.Data)
	if err != nil {
		return err
	}
	var head crypto.Hash
	if before == nil {
		origin, err := n.ledgerOrigin()
		if err != nil {
			return err
		}
		head = ledger.Genesis(origin)
	}
	if before != nil { // which was checked when it was the newest
		if head, err = ledger.HashOf(before.Data); err != nil {
			return err
		}
	}
	switch {
	case rec.Seq != r.Seq:
		return fmt.Errorf("it says that it is record %d", rec.Seq)
	case rec.Prev != head:
		return fmt.Errorf("it links to %s, the one before is %s", rec.Prev, head)
	case rec.Kind == ledger.KindReport && !rec.Report.Verify(): // for which cluster is for whoever walks from the first
		return fmt.Errorf("the report %s is not signed by the key it carries", rec.Report.Report.ID)
	}
	return nil
}

// ledgerOrigin returns the cluster in which the ledger was opened.
func (n *Node) ledgerOrigin() (origin string, err error) {
	n.machine.Read(func(s *fsm.State) {
		book, open := s.LedgerBook()
		if origin = book.Origin; !open {
			err = errors.New("the ledger is not open, and there is a record of it")
		}
	})
	return origin, err
}
