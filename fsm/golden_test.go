package fsm

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// Logs and snapshots outlive binaries: these bytes must decode for ever, and
// encode to themselves, or two versions in one cluster would differ.

const (
	goldenCommands = "testdata/golden.json"
	goldenFirst    = "testdata/golden.v1.snapshot"     // format version 1, of binaries before history had a file
	goldenLevel2   = "testdata/golden.level2.snapshot" // of binaries that know no manifests
	goldenLevel3   = "testdata/golden.level3.snapshot" // of binaries that know no audit heads
	goldenSnapshot = "testdata/golden.level8.snapshot"
	goldenLevel5   = "testdata/golden.snapshot" // of binaries that know neither ledger nor cosigner sets
)

// goldenBodies has a command of each kind with fixed contents. What is there is
// never changed: a member that came later gets a command of its own.
func goldenBodies(w *world) map[string]any {
	ref := keyRef("r")
	expires := worldStart + 86_400_000
	ban := eventOf("agent-ünï", "event-1", worldStart)
	ban.ExpiresAtMs, ban.EvidenceRef = &expires, "s3://evidence/1"
	ban.Link(crypto.BlacklistGenesis, privateKey("node n0"))
	out := map[string]any{
		"genesis": genesisOf("n0"),
		"tick":    Tick{Term: 3, Voters: 3, Walls: walls(worldStart, 0, 1, -1), Mark: true},
		"admit_batch": AdmitBatch{Callers: []string{"verifier", "operator"}, Claims: []Claim{
			claimOf("agent-ünï", "nonce-1", worldStart, "claim-1"),
			{Caller: 1, AgentID: "b", Key: ref, TimestampMs: worldStart - 1, Nonce: "nonce-2", Tag: ClaimTag{1, 2, 3}},
		}},
		"admit_batch_profiles": AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{
			claimOf("b", "nonce-3", worldStart, ""),
			messageOf(claimOf("agent-ünï", "nonce-4", worldStart, "claim-2"), worldStart+60_000),
		}},
		"policy_set_profiles": PolicySet{IfVersion: 8, Policy: Policy{Version: 8, RateLimit: RateLimit{Requests: 5, WindowMs: 1000}, MaxSkewMs: 2000,
			Profiles: ProfilesRFC9421, AgentProfiles: map[string]ProfileRule{"old-ünï": ProfilesAny, "a": ProfilesRFC9421}}},
		"policy_set_clients": PolicySet{IfVersion: 9, Policy: Policy{Version: 9, RateLimit: RateLimit{Requests: 5, WindowMs: 1000}, MaxSkewMs: 2000,
			UnsignedAgents: map[string]string{"phone-ü": "t1", "phone": "t2"}, LegacyMesh: "edgc_x"}},
		"agent_rekey": AgentRekey{AgentID: "agent-ünï", By: ref, PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{9}, 32), TimestampMs: worldStart - 1,
			EncryptionProof: bytes.Repeat([]byte{8}, 64)},
		"token_create":         TokenCreate{ID: "t1", Hash: crypto.Sum([]byte("t1")), Role: RoleOperator, ExpiresMs: expires, Uses: -1, Label: "label"},
		"token_revoke":         TokenRevoke{ID: "t1"},
		"agent_enroll":         AgentEnroll{AgentID: "agent-ünï", PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{9}, 32)},
		"agent_set_state":      AgentSetState{AgentID: "agent-ünï", State: AgentSuspended},
		"policy_set":           PolicySet{IfVersion: 7, Policy: Policy{Version: 7, RateLimit: RateLimit{Requests: 5, WindowMs: 1000}, MaxSkewMs: 2000, AutoApprove: true, Overrides: map[string]RateLimit{"b": {Requests: 1, WindowMs: 100}, "a": {Requests: 2, WindowMs: 200}}}},
		"blacklist_append":     BlacklistAppend{Event: ban, ReporterKey: &ref, Lift: true},
		"coordinator_join":     CoordinatorJoin{Coordinator: nodeOf("n1", RoleObserver), ReplaceID: "n9"},
		"coordinator_update":   CoordinatorUpdate{ID: "n1", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: 4, Version: "v4"},
		"coordinator_remove":   CoordinatorRemove{ID: "n1", Compromised: true},
		"clock_recover":        ClockRecover{Voters: 3, Walls: walls(worldStart, 0, 1, -1), Reason: "NTP server gone mad"},
		"restore_begin":        RestoreBegin{BackupEpoch: 3, Backup: crypto.Sum([]byte("backup"))},
		"coordinator_clean_up": CoordinatorCleanUp{ID: "n1", SilentMs: MinSilenceMs + 1},
		"manifest_trust_set": ManifestTrustSet{IfVersion: 4, Trust: ManifestTrust{Threshold: 1, Sources: []string{"https://models.example/", "https://h:8443/a/"},
			Signers: []ManifestSigner{{Name: "release", Key: publicKey("signer a"), Prefix: "bin-"}, {Name: "ünï", Key: publicKey("signer b")}}}},
		"manifest_accept": ManifestAccept{Statement: manifest.Statement{Name: "bin-ü", Version: "1.4.2-rc.1", SHA256: crypto.Sum([]byte("artifact")), Size: 1 << 40,
			Source: "https://models.example/x", IssuedMs: worldStart, ExpiresMs: expires}, Signers: []KeyRef{ref}},
		"manifest_revoke":    ManifestRevoke{Name: "bin-ü", Version: "1.4.2-rc.1", Forget: true},
		"agent_enroll_proof": AgentEnroll{AgentID: "agent-ünï", PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{9}, 32), EncryptionProof: bytes.Repeat([]byte{8}, 64)},
		"level_raise":        LevelRaise{From: 4, To: LevelUpgrades, Version: "v5"},
		"tick_heads": Tick{Term: 3, Mark: true, Heads: []AuditReport{{NodeID: "n0", Head: AuditPlace{Seq: 7, Hash: crypto.Sum([]byte("seven"))}},
			{NodeID: "n1", After: AuditPlace{Seq: 9, Hash: crypto.Sum([]byte("nine"))}, Lost: true, Head: AuditPlace{Seq: 2, Hash: crypto.Sum([]byte("two"))}}}},
		"tick_round": Tick{Term: 3, Mark: true, Round: &Round{Mark: 17, Voters: 3, Reports: []Report{
			{NodeID: "n0", Votes: true, Digest: crypto.Sum([]byte("one"))}, {NodeID: "n1", Digest: crypto.Sum([]byte("two"))}}}},
	}
	maps.Copy(out, goldenLedger())
	maps.Copy(out, goldenCosigners())
	maps.Copy(out, goldenEdges())
	maps.Copy(out, goldenKeyBodies())
	return out
}

func goldenEncoded(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, body := range goldenBodies(newWorld(t)) {
		cmd, err := New(Actor{TokenID: "admin", NodeID: "n0"}, body)
		if err != nil {
			t.Fatal(err)
		}
		cmd.AtMs = worldStart
		if cmd.Kind != KindAdmitBatch {
			cmd.Idem = &Idempotency{Key: crypto.Sum([]byte("key")), Body: crypto.Sum([]byte("body"))}
		}
		data, err := EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = hex.EncodeToString(data)
	}
	return out
}

func TestGoldenCommands(t *testing.T) {
	encoded := goldenEncoded(t)
	if *update {
		text, err := json.MarshalIndent(encoded, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		writeGolden(t, goldenCommands, append(text, '\n'))
	}
	var golden map[string]string
	if err := json.Unmarshal(readGolden(t, goldenCommands), &golden); err != nil {
		t.Fatal(err)
	}
	kinds := map[Kind]bool{}
	for name, want := range golden {
		if encoded[name] != want {
			t.Errorf("%s encodes to\n%s, stored logs have\n%s", name, encoded[name], want)
		}
		data, err := hex.DecodeString(want)
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := DecodeCommand(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kinds[cmd.Kind] = true
		body, err := decodeBody(cmd)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := New(cmd.Actor, body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again.AtMs, again.Idem = cmd.AtMs, cmd.Idem
		if back, err := EncodeCommand(again); err != nil || !bytes.Equal(back, data) {
			t.Errorf("%s: decoded and encoded again it differs: %v", name, err)
		}
	}
	newest := slices.Max(slices.Collect(maps.Keys(tenants)))
	if len(encoded) != len(golden) || len(kinds) != int(newest) || len(tenants) != int(newest) {
		t.Errorf("%d golden commands of %d kinds, %d made; there are %d kinds, the newest %d", len(golden), len(kinds), len(encoded), len(tenants), newest)
	}
}

// A snapshot of format version 1 reads as its own binary read it.
func TestGoldenFirstSnapshot(t *testing.T) {
	w := firstSampleWorld(t)
	golden := readGolden(t, goldenFirst)
	s, records := restored(t, golden)
	if s.Digest() != w.s.Digest() || !bytes.Equal(snapshotOf(t, s, historyOf(t, records)), snapshotOf(t, w.s, w.history)) {
		t.Error("it reads as another state")
	}
	for i := range golden {
		damaged := bytes.Clone(golden)
		damaged[i] ^= 4
		refuseSnapshot(t, "damaged", damaged)
		refuseSnapshot(t, "cut", golden[:i])
	}
	m := NewMachine(NewMemoryHistory(), nil)
	if err := m.Restore(io.NopCloser(bytes.NewReader(golden))); err != nil {
		t.Error(err)
	}
	if _, totals := m.History().Totals(); !totals.Cover(w.s.Totals()) {
		t.Errorf("its history is %v", totals)
	}
}

// What a binary without manifests, audit heads, a ledger or cosigner sets wrote reads, and as long
// as nobody uses them is written as that binary reads it.
func TestGoldenSnapshotsOfLowerLevels(t *testing.T) {
	for _, path := range []string{goldenLevel2, goldenLevel3, goldenLevel5} {
		golden := readGolden(t, path)
		s, records := restored(t, golden)
		if again := snapshotOf(t, s, historyOf(t, records)); !bytes.Equal(again, golden) {
			t.Errorf("%s encodes to other bytes, which a server that is still to be upgraded could not read", path)
		}
	}
	for path, w := range map[string]*world{goldenLevel3: level3SampleWorld(t), goldenLevel5: level5SampleWorld(t)} {
		if !bytes.Equal(snapshotOf(t, w.s, w.history), readGolden(t, path)) {
			t.Errorf("%s: the same log leads to another snapshot than it did: nodes of two versions would differ", path)
		}
	}
}

func TestGoldenSnapshot(t *testing.T) {
	w := level8SampleWorld(t)
	if *update {
		writeGolden(t, goldenSnapshot, snapshotOf(t, w.s, w.history))
	}
	golden := readGolden(t, goldenSnapshot)
	s, records := restored(t, golden)
	if again := snapshotOf(t, s, historyOf(t, records)); !bytes.Equal(again, golden) {
		t.Error("the stored snapshot encodes to other bytes")
	}
	if got := snapshotOf(t, w.s, w.history); !bytes.Equal(got, golden) {
		t.Error("the same log leads to another snapshot than it did: nodes of two versions would differ")
	}
}

func readGolden(t rapid.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with: go test ./fsm -run Golden -update)", err)
	}
	return data
}

func writeGolden(t rapid.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzDecodeCommand: whatever decodes, applies without a panic and leaves a
// state whose digest is its contents'; and it encodes again.
func FuzzDecodeCommand(f *testing.F) {
	w := newWorld(f)
	for _, body := range goldenBodies(w) {
		cmd, err := New(Actor{TokenID: "admin", NodeID: "n0"}, body)
		if err != nil {
			f.Fatal(err)
		}
		cmd.AtMs = worldStart
		data, err := EncodeCommand(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	base := sampleWorld(f)
	for _, l := range base.log {
		f.Add(l.data)
	}
	snapshot := snapshotOf(f, base.s, base.history)
	f.Fuzz(func(t *testing.T, data []byte) {
		cmd, err := DecodeCommand(data)
		if err != nil {
			return
		}
		s, _ := restored(t, snapshot)
		index := s.Index() + 1
		_, records, err := s.Apply(index, cmd)
		if err != nil {
			if _, again := EncodeCommand(cmd); again == nil {
				t.Errorf("a command that stops the node can be proposed: %v", err)
			}
			return
		}
		if s.Digest() != s.FullDigest() {
			t.Error("the digest kept and the digest computed differ")
		}
		if _, err := EncodeCommand(cmd); err != nil {
			t.Errorf("a command that applies cannot be proposed: %v", err)
		}
		for _, r := range records {
			if r.Index != index {
				t.Errorf("record of index %d at %d", r.Index, index)
			}
		}
	})
}
