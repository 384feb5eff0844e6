package api

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// The ledger as existing clients read it (WIRE.md section 12): a chain of its own
// hashes over the same records. Where a page begins its hash must be known, so the
// hashes of places on the way are kept.

const (
	// orderingStep is how far apart the places are: 10 million records are 1 MiB.
	orderingStep = 1024
	// maxOrderingWalk bounds the records that one call walks to where its page
	// begins, a second's worth: who asks again goes on from there.
	maxOrderingWalk = 200_000
)

// orderingPlaces are the hashes at the ends of steps.
type orderingPlaces struct {
	mu     sync.Mutex
	places []orderingPlace
}

type orderingPlace struct {
	record crypto.Hash // of the ledger's record there: another one after a restore
	hash   string
}

// OrderingSigner signs what this node serves of the ordering chain.
type OrderingSigner interface {
	// SignOrdering returns the base64 Ed25519 signature of this coordinator over the
	// text of the record's hash.
	SignOrdering(r *ledger.OrderingRecord) string
}

// orderingSnapshot answers GET /ledger/snapshot.
func (s *Server) orderingSnapshot(c *call) error {
	from, err := c.queryNumber("from", 1, 1<<62)
	if err != nil {
		return err
	}
	limit, err := c.queryNumber("limit", maxPage, maxPage)
	if err != nil {
		return err
	}
	var size uint64
	if err := c.readAt(ReadOptions{}, func(state *fsm.State) { size = s.bookOf(state).Size }); err != nil {
		return err
	}
	from, limit = max(from, 1), max(limit, 1)
	text := []byte(`{"records":[`)
	var last ledger.OrderingRecord
	if from <= size {
		prev, err := s.ordering.before(c.ctx, s, from)
		if err != nil {
			return err
		}
		for r, err := range s.ledgerHistory(c.ctx, from, min(size, from+limit-1)) {
			if err != nil {
				return err
			}
			rec, err := ledger.ParseRecord(r.Data)
			if err != nil {
				return err
			}
			last = ledger.Ordering(&rec, prev)
			prev = last.Hash
			if r.Seq > from {
				text = append(text, ',')
			}
			text = last.JSON(text, s.node.SignOrdering(&last))
		}
	}
	text = append(text, `],"proof":`...)
	text = append(text, s.orderingProof(&last)...)
	text = strconv.AppendUint(append(text, `,"size":`...), size, 10)
	if last.Sequence != 0 && last.Sequence < size {
		text = strconv.AppendUint(append(text, `,"next":`...), last.Sequence+1, 10)
	}
	c.replyText(http.StatusOK, append(text, "}\n"...))
	return nil
}

func (s *Server) orderingProof(last *ledger.OrderingRecord) string {
	if last.Sequence == 0 {
		return "null"
	}
	return jsonText(client.OrderingProof{RecordID: last.ID, Hash: last.Hash, PrevHash: last.PrevHash, Sequence: last.Sequence, SignerPeerID: s.node.Identity().PeerID})
}

// before returns the hash that the record at a place follows.
func (p *orderingPlaces) before(ctx context.Context, s *Server, seq uint64) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, hash, err := p.nearest(s, seq)
	if err != nil {
		return "", err
	}
	last := min(seq-1, at+maxOrderingWalk)
	for r, err := range s.ledgerHistory(ctx, at+1, last) {
		if err != nil {
			return "", err
		}
		rec, err := ledger.ParseRecord(r.Data)
		if err != nil {
			return "", err
		}
		o := ledger.Ordering(&rec, hash)
		hash = o.Hash
		if r.Seq%orderingStep == 0 {
			p.places = append(p.places[:r.Seq/orderingStep-1], orderingPlace{rec.Hash, hash})
		}
	}
	if last < seq-1 {
		return "", overloaded("the place of the page is still being looked for: ask again, or begin where pages that you read end")
	}
	return hash, nil
}

// nearest returns the last known place before a record, and forgets places that
// belong to a history that a restore replaced.
func (p *orderingPlaces) nearest(s *Server, seq uint64) (at uint64, hash string, err error) {
	for n := min(uint64(len(p.places)), (seq-1)/orderingStep); n > 0; n-- {
		records, err := s.node.Records(fsm.StreamLedger, n*orderingStep, 1)
		if err != nil {
			return 0, "", err
		}
		if len(records) == 1 {
			if rec, err := ledger.ParseRecord(records[0].Data); err == nil && rec.Hash == p.places[n-1].record {
				return n * orderingStep, p.places[n-1].hash, nil
			}
		}
		p.places = p.places[:n-1]
	}
	return 0, ledger.OrderingGenesis, nil
}

// orderingFaults are the reasons that existing clients know.
var orderingFaults = map[string]string{
	ledger.FaultOrder: "invalid_sequence", ledger.FaultLink: "invalid_prev_hash", ledger.FaultForm: "hash_mismatch", ledger.FaultSignature: "invalid_signature",
}

// orderingVerify answers GET /ledger/verify: all of the ledger, not this chain alone.
func (s *Server) orderingVerify(c *call) error {
	out, err := s.verified(c)
	if err != nil {
		return err
	}
	reply := client.OrderingVerified{OK: out.OK}
	if f := out.Fault; f != nil {
		if reply.Reason = orderingFaults[f.Code]; reply.Reason == "" {
			reply.Reason = f.Code
		}
	}
	return c.answerLate(reply)
}
