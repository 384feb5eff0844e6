package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// windowRow is a row of as many runs as it says, one a millisecond, of which
// only some are there.
func windowRow(agent string, says, has int) []byte {
	row := append(binary.AppendUvarint(nil, uint64(len(agent))), agent...)
	row = binary.AppendUvarint(row, uint64(says))
	return append(row, bytes.Repeat([]byte{1}, 2*has)...)
}

// Two bytes of a file are sixteen in memory: the runs of all windows together
// are bounded before they are kept.
func TestSnapshotWindowsAreBounded(t *testing.T) {
	w := newRateWindows()
	w.runs = MaxWindowRuns - 10 // as if others had them
	if err := w.load(windowRow("fits", 10, 10)); err != nil {
		t.Error(err)
	}
	if err := w.load(windowRow("one more", 1, 1)); err == nil || !strings.Contains(err.Error(), "runs") {
		t.Errorf("one more than all: %v", err)
	}
	if err := newRateWindows().load(windowRow("says", MaxWindowRuns, 50)); err == nil || !strings.Contains(err.Error(), "runs in 100 bytes") {
		t.Errorf("it says more than it has: %v", err) // and must not be made room for
	}
	full := newRateWindows()
	for i := range maxWindows {
		full.agents[fmt.Sprint(i)] = nil
	}
	if err := full.load(windowRow("a", 1, 1)); err == nil || !strings.Contains(err.Error(), "windows") {
		t.Errorf("more windows than agents: %v", err)
	}
}

// A live part ends where no state does.
func TestSnapshotLivePartIsBounded(t *testing.T) {
	r := newFrameReader(bytes.NewReader(make([]byte, 100)))
	r.room = 50
	if r.raw(50); r.err != nil {
		t.Fatal(r.err)
	}
	if r.raw(1); r.err == nil || !strings.Contains(r.err.Error(), "state of more than") {
		t.Errorf("one byte more: %v", r.err)
	}
	w := genesisWorld(t)
	_, h, err := ReadSnapshot(bytes.NewReader(snapshotOf(t, w.s, w.history)))
	if err != nil || h.r.room < 1<<60 {
		t.Errorf("the history is bounded as well: %d, %v", h.r.room, err)
	}
}

func longestHead(id string) *AuditHead {
	h := &AuditHead{NodeID: id, Seq: maxAuditSeq, Hash: crypto.Sum([]byte(id)), AtMs: MaxTimeMs, Losses: 1 << 60}
	for range maxLostHeads {
		h.Lost = append(h.Lost, LostHead{Seq: maxAuditSeq, Hash: h.Hash, AtMs: MaxTimeMs})
	}
	return h
}

// A row that a node writes and no node reads would keep every node from starting.
func TestLongestRowsSurviveASnapshot(t *testing.T) {
	id := func(c string) string { return strings.Repeat(c, crypto.MaxIDBytes) }
	addr := strings.Repeat("a", MaxAddressBytes)
	s := NewState()
	k := publicKey("a")
	key := Key{Public: k, NotBeforeMs: MaxTimeMs, NotAfterMs: MaxTimeMs, Index: 1 << 60, RevokedAt: 1 << 60, EncryptionProof: make([]byte, crypto.SignatureSize),
		Succession: &Succession{Predecessor: k, NotBeforeMs: MaxTimeMs, SignedMs: MaxTimeMs, Signature: make([]byte, crypto.SignatureSize), Closes: true, Signer: k}}
	s.agents.put(id("a"), Agent{ID: id("a"), State: AgentSuspended, Keys: Ring{key, key, key, key}, EncryptionKey: make([]byte, 32),
		EnrolledMs: MaxTimeMs, UpdatedMs: MaxTimeMs, TokenID: id("t"), Index: 1 << 60})
	s.tokens.put(id("t"), Token{ID: id("t"), Role: RoleCoordinator, CreatedMs: MaxTimeMs, ExpiresMs: MaxTimeMs, UsesLeft: 1 << 60, RevokedMs: MaxTimeMs,
		PurgeMs: MaxTimeMs, Label: strings.Repeat("l", MaxLabelBytes), Epoch: maxEpoch, Told: true, Through: slices.Repeat([]string{id("n")}, MaxThrough),
		Edge: &Edge{NodeID: id("e"), Name: id("e"), SigningKey: k, TLSKey: crypto.Sum(nil), JoinToken: id("j"), Version: strings.Repeat("v", MaxLabelBytes)}})
	s.bans.put(id("a"), Ban{AgentID: id("a"), EventID: id("e"), Seq: 1 << 60, ReasonCode: "policy_violation_x", TimestampMs: MaxTimeMs, ExpiresMs: MaxTimeMs})
	s.idempotent.put(strings.Repeat("k", 32), Outcome{ID: id("o"), Index: 1 << 60, ExpiresMs: MaxTimeMs, TokenID: id("t")})
	s.keyOwners.put(strings.Repeat("k", 32), ownerCoordinator+id("n"))
	s.removed.put(id("n"), Removal{ID: id("n"), Name: id("m"), LeftAt: addr, RemovedMs: MaxTimeMs, SilentMs: MaxTimeMs, TLSKey: new(crypto.Hash), OtherTLSKeys: make([]crypto.Hash, MaxRingKeys), Audit: longestHead(id("n"))})
	s.auditHeads.put(id("n"), *longestHead(id("n")))
	s.signingKeys.put(k.CoordinatorID(), SigningKey{Public: k, NodeID: id("n"), API: addr, Since: 1 << 60, RetiredAt: 1 << 60})
	shared := key
	shared.Shared = &SharedKey{Waits: true, Data: make([]byte, MaxCACertBytes)}
	for range MaxCoordinators {
		shared.Shared.Copies = append(shared.Shared.Copies, SealedCopy{NodeID: id("n"), Sealed: make([]byte, MaxSealedBytes)})
		shared.Shared.Ready = append(shared.Shared.Ready, id("n"))
	}
	s.keyRings.put("ca", slices.Repeat(Ring{shared}, MaxRingKeys))
	s.coordinators.put(id("n"), Coordinator{ID: id("n"), Name: id("m"), API: addr, Raft: addr, Gossip: addr, Keys: slices.Repeat(Ring{key}, MaxRingKeys), TLSKeys: slices.Repeat(Ring{key}, MaxRingKeys)})
	signer := ManifestSigner{Name: id("g"), Prefix: id("p"), Key: k, Keys: slices.Repeat(Ring{key}, MaxSignerKeys)}
	s.manifestTrust.put(theTrust, ManifestTrust{Signers: slices.Repeat([]ManifestSigner{signer}, MaxManifestSigners), Revoked: make([]KeyRef, MaxFormerKeys)})
	for _, f := range s.fields() {
		for row, err := range f.freeze().rows() {
			if limit := frameLimit(f.label()); err != nil || uint64(len(row)) > limit*3/4 {
				t.Errorf("%s: a row of %d bytes, at most %d: %v", f.label(), len(row), limit, err)
			}
		}
	}
}
