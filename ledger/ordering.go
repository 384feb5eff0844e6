package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// OrderingGenesis is what the first ordering record follows (WIRE.md section 12).
const OrderingGenesis = "GENESIS"

// OrderingRecord is a record in the form that existing clients read and verify
// (WIRE.md section 12). Each record of the ledger has one, of the same number, made
// of it alone: every coordinator serves the same chain, and signs what it serves.
type OrderingRecord struct {
	ID, EventType, TaskID, ActorID string
	Sequence                       uint64
	IssuedAtMs                     int64
	PrevHash                       string
	CoordinatorID                  string // absent from records of the ledger: they are the cluster's
	SubtaskID                      string
	CheckpointHeight               int64
	CheckpointHash                 string
	PayloadJSON                    string
	Hash                           string
}

// earningsAccrual is the event type of what an account earned: a share of an epoch, and
// nothing that others gave it.
const earningsAccrual = "earnings_accrual"

// Ordering makes the ordering record of a record. prev is the hash of the one before.
func Ordering(r *Record, prev string) OrderingRecord {
	out := OrderingRecord{ID: "ledger-" + strconv.FormatUint(r.Seq, 10), EventType: "ledger_" + r.Kind.String(), TaskID: "ledger", ActorID: r.Actor,
		Sequence: r.Seq, IssuedAtMs: r.AtMs, PrevHash: prev}
	payload := append([]byte(nil), '{')
	switch r.Kind {
	case KindShare:
		out.EventType, out.ActorID = earningsAccrual, r.Credit
		payload = append(payload, `"accountId":`...)
		payload = crypto.AppendJSONString(payload, r.Credit)
		payload = append(append(append(payload, `,"credits":`...), Credits(r.Amount)...), ',')
	}
	switch {
	case r.ID != (ID{}):
		out.TaskID = r.ID.String()
	case r.Hold != (ID{}):
		out.TaskID = r.Hold.String()
	case r.WindowMs != 0:
		out.TaskID = fmt.Sprintf("epoch:%d", r.WindowMs)
	}
	if out.ActorID == "" {
		out.ActorID = "ledger"
	}
	payload = append(payload, `"recordHash":`...)
	out.PayloadJSON = string(append(crypto.AppendJSONString(payload, r.Hash.String()), '}'))
	sum := sha256.Sum256(out.preimage(nil))
	out.Hash = hex.EncodeToString(sum[:])
	return out
}

// Credits prints micro-credits as credits, exactly: a decimal number without an exponent.
func Credits(micro int64) string {
	sign := ""
	if micro < 0 {
		sign, micro = "-", -micro
	}
	text := sign + strconv.FormatInt(micro/Micro, 10)
	if rest := micro % Micro; rest != 0 {
		digits := fmt.Sprintf("%06d", rest)
		for digits[len(digits)-1] == '0' {
			digits = digits[:len(digits)-1]
		}
		text += "." + digits
	}
	return text
}

// preimage is the text that is hashed: compact JSON in a fixed order, without the
// members that are absent.
func (o *OrderingRecord) preimage(dst []byte) []byte {
	dst = o.named(append(dst, '{'), "eventType", o.EventType)
	dst = o.named(append(dst, ','), "taskId", o.TaskID)
	if o.SubtaskID != "" {
		dst = o.named(append(dst, ','), "subtaskId", o.SubtaskID)
	}
	dst = o.named(append(dst, ','), "actorId", o.ActorID)
	dst = strconv.AppendUint(append(dst, `,"sequence":`...), o.Sequence, 10)
	dst = strconv.AppendInt(append(dst, `,"issuedAtMs":`...), o.IssuedAtMs, 10)
	dst = o.named(append(dst, ','), "prevHash", o.PrevHash)
	if o.CoordinatorID != "" {
		dst = o.named(append(dst, ','), "coordinatorId", o.CoordinatorID)
	}
	if o.CheckpointHash != "" {
		dst = strconv.AppendInt(append(dst, `,"checkpointHeight":`...), o.CheckpointHeight, 10)
		dst = o.named(append(dst, ','), "checkpointHash", o.CheckpointHash)
	}
	if o.PayloadJSON != "" {
		dst = o.named(append(dst, ','), "payloadJson", o.PayloadJSON)
	}
	return append(dst, '}')
}

func (o *OrderingRecord) named(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, '"'), name...), `":`...)
	return crypto.AppendJSONString(dst, value)
}

// JSON appends the record as it travels, with the coordinator's signature over its hash.
func (o *OrderingRecord) JSON(dst []byte, signature string) []byte {
	dst = o.named(append(dst, '{'), "id", o.ID)
	body := o.preimage(nil)
	dst = append(append(dst, ','), body[1:len(body)-1]...)
	dst = o.named(append(dst, ','), "hash", o.Hash)
	dst = o.named(append(dst, ','), "signature", signature)
	return append(dst, '}')
}
