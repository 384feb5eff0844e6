package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/edgecoder/edgecoder/crypto/golden"
)

// What is hashed is what the reference implementation hashes (WIRE.md 27).
func TestOrderingVectors(t *testing.T) {
	var vectors struct {
		OrderingChain struct {
			Records []struct {
				Record       OrderingRecord
				HashPreimage string
			}
		}
	}
	golden.Load(t, &vectors)
	if len(vectors.OrderingChain.Records) < 3 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.OrderingChain.Records {
		if got := string(v.Record.preimage(nil)); got != v.HashPreimage {
			t.Errorf("hashed is\n%s, by the reference\n%s", got, v.HashPreimage)
		}
		if sum := sha256.Sum256(v.Record.preimage(nil)); hex.EncodeToString(sum[:]) != v.Record.Hash {
			t.Errorf("record %d: another hash", v.Record.Sequence)
		}
	}
}

func TestOrderingOfRecords(t *testing.T) {
	paid := Record{Seq: 7, AtMs: 5, Kind: KindShare, Credit: "b-ü", Amount: 1_500_000, WindowMs: EpochMs}
	var prev [32]byte
	paid.Prev = prev
	paid.Append(nil)
	o := Ordering(&paid, OrderingGenesis)
	var text struct {
		ID, EventType, TaskID, ActorID, PrevHash, PayloadJSON, Hash, Signature string
		Sequence                                                               uint64
	}
	if err := json.Unmarshal(o.JSON(nil, "sig"), &text); err != nil {
		t.Fatal(err)
	}
	if text.EventType != earningsAccrual || text.ActorID != "b-ü" || text.Sequence != 7 || text.Hash != o.Hash || text.Signature != "sig" || text.TaskID != "epoch:3600000" {
		t.Errorf("%+v", text)
	}
	var payload struct {
		AccountID, RecordHash string
		Credits               float64
	}
	if err := json.Unmarshal([]byte(text.PayloadJSON), &payload); err != nil || payload.Credits != 1.5 || payload.RecordHash != paid.Hash.String() {
		t.Errorf("%+v, %v", payload, err)
	}
	if next := Ordering(&paid, o.Hash); next.Hash == o.Hash {
		t.Error("the hash does not depend on the record before")
	}
	for _, k := range []Kind{KindTransfer, KindPost, KindHold, KindConfirm} { // nobody earns what others give
		given := Record{Seq: 8, Kind: k, Actor: "token:x", Debit: "a", Credit: "b", Amount: 5, ID: NewID(5, [10]byte{})}
		if o := Ordering(&given, o.Hash); o.EventType != "ledger_"+k.String() || o.ActorID != "token:x" || o.TaskID != given.ID.String() {
			t.Errorf("a %s is %s of %s, task %s", k, o.EventType, o.ActorID, o.TaskID)
		}
	}
}

func TestCredits(t *testing.T) {
	for micro, want := range map[int64]string{0: "0", 1: "0.000001", -1: "-0.000001", 1_000_000: "1", 1_500_000: "1.5", -12_000_001: "-12.000001", MaxMicro: "9007199254.740991"} {
		if got := Credits(micro); got != want {
			t.Errorf("%d is %s, want %s", micro, got, want)
		}
	}
}
