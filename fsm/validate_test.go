package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// hostileRows are what no cluster makes, and what the refusal must name.
var hostileRows = map[string]struct {
	change func(*State)
	says   string
}{
	"cluster":      {func(s *State) { s.meta.v.ClusterID = "a\nb" }, "meta"},
	"clock":        {func(s *State) { s.meta.v.ClockMs = math.MaxInt64 - 5 }, "clock"},
	"clock below":  {func(s *State) { s.meta.v.ClockMs = -1 }, "clock"},
	"floor":        {func(s *State) { s.meta.v.NonceFloorMs = math.MaxInt64 }, "floor"},
	"most members": {func(s *State) { s.meta.v.MostCoordinators = MaxCoordinators + 1 }, "at one time"},
	"floor ahead":  {func(s *State) { s.meta.v.NonceFloorMs = s.meta.v.ClockMs + MaxSkewMs + 2*NonceBucketMs }, "floor"},
	"closed":       {func(s *State) { s.meta.v.Closed = []TimeRange{{FromMs: 1, ToMs: math.MaxInt64}} }, "closed"},
	"closed order": {func(s *State) { s.meta.v.Closed = []TimeRange{{FromMs: 5, ToMs: 9}, {FromMs: 9, ToMs: 10}} }, "closed"},
	"closed empty": {func(s *State) { s.meta.v.Closed = []TimeRange{{FromMs: 5, ToMs: 4}} }, "closed"},
	"closed many":  {func(s *State) { s.meta.v.Closed = make([]TimeRange, maxClosed+1) }, "closed"},
	"skipped":      {func(s *State) { s.meta.v.Skipped = []TimeRange{{FromMs: 1, ToMs: math.MaxInt64}} }, "skipped"},
	"epoch":        {func(s *State) { s.meta.v.Epoch = maxEpoch }, "epoch"},
	"epoch max":    {func(s *State) { s.meta.v.Epoch = math.MaxUint64 }, "epoch"},
	"epoch none":   {func(s *State) { s.meta.v.Epoch = 0 }, "epoch"},
	"reserved":     {func(s *State) { s.meta.v.Reserved = math.MaxUint64 }, "epoch"},
	"recovered":    {func(s *State) { s.meta.v.Recovered = 1 << 60 }, "epoch"},
	"head":         {func(s *State) { s.meta.v.ChainHead = "\x1b[2J" }, "chain"},
	"ca":           {func(s *State) { s.meta.v.CACert = make([]byte, MaxCACertBytes+1) }, "CA"},
	"skew":         {func(s *State) { s.policy.v.MaxSkewMs = math.MaxInt64 / 2 }, "policy"},
	"rate":         {func(s *State) { s.policy.v.RateLimit.WindowMs = -5 }, "policy"},
	"overrides": {func(s *State) {
		s.policy.v.Overrides = map[string]RateLimit{"a\x1b": {Requests: 1, WindowMs: 1000}}
	}, "policy"},
	"profiles": {func(s *State) { s.policy.v.Profiles = ProfilesRFC9421 + 1 }, "policy"},
	"agent profiles": {func(s *State) {
		s.policy.v.AgentProfiles = map[string]ProfileRule{"a\x1b": ProfilesAny}
	}, "policy"},
	"version":       {func(s *State) { s.policy.v.Version = 0 }, "policy"},
	"agent key":     {func(s *State) { a, _ := s.agents.get("a"); s.agents.put("z", a) }, `row "z"`},
	"agent id":      {func(s *State) { s.agents.put("\x1b[31m\nred", Agent{ID: "\x1b[31m\nred"}) }, `row "\x1b[31m\nred"`},
	"agent huge":    {func(s *State) { id := strings.Repeat("A", 1<<20); s.agents.put(id, Agent{ID: id}) }, "1048576 bytes"},
	"agent state":   {func(s *State) { s.changeAgent(func(a *Agent) { a.State = "root" }) }, `unknown state "root"`},
	"agent keyless": {func(s *State) { s.changeAgent(func(a *Agent) { a.Keys = nil }) }, "0 keys"},
	"agent keys":    {func(s *State) { s.changeAgent(func(a *Agent) { a.Keys = make(Ring, MaxAgentKeys+1) }) }, "keys"},
	"agent weak":    {func(s *State) { s.changeAgent(func(a *Agent) { a.Keys = make(Ring, 1) }) }, "unacceptable"},
	"agent window":  {func(s *State) { s.changeAgent(func(a *Agent) { a.Keys[0].NotAfterMs = -1 }) }, "end of a key"},
	"agent sealed":  {func(s *State) { s.changeAgent(func(a *Agent) { a.EncryptionKey = []byte{1} }) }, "encryption key"},
	"agent time":    {func(s *State) { s.changeAgent(func(a *Agent) { a.UpdatedMs = MaxTimeMs + 1 }) }, "change"},
	"agent unowned": {func(s *State) {
		s.changeAgent(func(a *Agent) { a.Keys[0].Public = publicKey("thief") })
	}, "key_owners"},
	"owner other": {func(s *State) { ref := keyRef("a"); s.keyOwners.put(string(ref[:]), "agent:b") }, "key_owners"},
	"owner more":  {func(s *State) { ref := keyRef("squat"); s.keyOwners.put(string(ref[:]), "agent:squat") }, "key_owners"},
	"signing key of nobody": {func(s *State) {
		k := publicKey("forger")
		ref := k.Fingerprint()
		s.signingKeys.put(k.CoordinatorID(), SigningKey{Public: k, NodeID: "n0", Since: 1})
		s.keyOwners.put(string(ref[:]), ownerCoordinator+"n0")
	}, "in use"},
	"signing key id": {func(s *State) {
		k := s.signingKeys.values()[0]
		s.signingKeys.put("forger", k)
	}, `row "forger"`},
	"signing key address": {func(s *State) {
		k := s.signingKeys.values()[0]
		k.API = strings.Repeat("x", MaxAddressBytes+1)
		s.signingKeys.put(k.Public.CoordinatorID(), k)
	}, "address"},
	"member keyless": {func(s *State) { n, _ := s.coordinators.get("n0"); s.signingKeys.remove(n.SigningKey.CoordinatorID()) }, "coordinators"},
	"member role": {func(s *State) {
		n, _ := s.coordinators.get("n0")
		n.Role = RoleAdmin
		s.coordinators.put("n0", n)
	}, "role"},
	"removed":              {func(s *State) { s.removed.put("x", Removal{}) }, "removed"},
	"token role":           {func(s *State) { s.tokens.put("x", Token{ID: "x", Role: "root"}) }, "role"},
	"token time":           {func(s *State) { s.tokens.put("x", Token{ID: "x", Role: RoleAdmin, ExpiresMs: math.MaxInt64}) }, "end"},
	"ban key":              {func(s *State) { b, _ := s.bans.get("b"); s.bans.remove("b"); s.bans.put("zzz", b) }, `row "zzz"`},
	"ban hash":             {func(s *State) { s.changeBan(func(b *Ban) { b.EventHash = crypto.Hash{} }) }, "hash"},
	"ban seq":              {func(s *State) { s.changeBan(func(b *Ban) { b.Seq = 2 }) }, "event 2"},
	"ban reason":           {func(s *State) { s.changeBan(func(b *Ban) { b.ReasonCode = "\n" }) }, "reason"},
	"ban end":              {func(s *State) { s.changeBan(func(b *Ban) { b.ExpiresMs = -1 }) }, "end"},
	"outcome":              {func(s *State) { s.idempotent.put("x", Outcome{}) }, "idempotency"},
	"nonce far":            {func(s *State) { s.nonces.insertAt(bucketOf(s.meta.v.ClockMs+MaxSkewMs)+1, nonceRow{}) }, "nonces"},
	"nonce end":            {func(s *State) { s.meta.v.Epoch = 2; s.nonces.insertAt(math.MaxInt64/1000, nonceRow{}) }, "nonces"},
	"window":               {func(s *State) { s.windows.take("\n", 5, RateLimit{Requests: 1, WindowMs: 1000}) }, "rate_windows"},
	"divergent":            {func(s *State) { s.divergent.put("x", Divergence{NodeID: "y"}) }, "divergent"},
	"audit head of nobody": {func(s *State) { s.auditHeads.put("x", AuditHead{NodeID: "x", Seq: 1}) }, "no member"},
	"audit head nowhere":   {func(s *State) { s.auditHeads.put("n0", AuditHead{NodeID: "n0"}) }, "line 0"},
	"audit head losses":    {func(s *State) { s.auditHeads.put("n0", AuditHead{NodeID: "n0", Seq: 1, Lost: []LostHead{{Seq: 1}}}) }, "lost ends"},
	"audit head loss": {func(s *State) {
		s.auditHeads.put("n0", AuditHead{NodeID: "n0", Seq: 1, Losses: 1, Lost: []LostHead{{}}})
	}, "line 0"},
	"audit head time": {func(s *State) { s.auditHeads.put("n0", AuditHead{NodeID: "n0", Seq: 1, AtMs: -1}) }, "head is -1"},
	"removed audit head": {func(s *State) {
		s.removed.put("x", Removal{ID: "x", Name: "x", Audit: &AuditHead{NodeID: "y", Seq: 1}})
	}, "audit log"},
}

func (s *State) changeAgent(change func(*Agent)) {
	a, _ := s.agents.get("a")
	a.Keys = append(Ring(nil), a.Keys...)
	change(&a)
	s.agents.put("a", a)
}

func (s *State) changeBan(change func(*Ban)) {
	b, _ := s.bans.get("b")
	change(&b)
	s.bans.put("b", b)
}

func TestValidateRefusesWhatNoCommandMakes(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.must(w.do(operator, w.banOf("b", "e1", "n0", nil)))
	w.admit(claimOf("a", "1", w.wallMs, "1"))
	good := snapshotOf(t, w.s, w.history)
	for name, c := range hostileRows {
		s, _ := restored(t, good)
		if err := s.Validate(w.wallMs); err != nil {
			t.Fatalf("untouched: %v", err)
		}
		c.change(s)
		err := s.Validate(0)
		if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %.300v", name, err)
		}
		if _, _, err := Restored(s, w.s, recoveryAt(w.wallMs, "restore")); err == nil {
			t.Errorf("%s: it can be restored", name)
		}
	}
}

func TestValidateHoldsTheClockAgainstTheWall(t *testing.T) {
	w := genesisWorld(t)
	clock := w.s.ClockMs()
	for wall, good := range map[int64]bool{0: true, clock: true, clock + 1<<40: true, clock - maxAheadOfWallMs: true, clock - maxAheadOfWallMs - 1: false, 1: false} {
		if err := w.s.Validate(wall); (err == nil) != good {
			t.Errorf("wall %+d ms from the clock: %v", wall-clock, err)
		}
	}
}

// Whatever commands make is valid, after every one of them, and after recoveries.
func TestValidateAcceptsWhatCommandsMake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		sound := func(when string) {
			if err := w.s.Validate(0); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		backup, h := backupOf(t, w)
		for i := range rapid.IntRange(0, 60).Draw(t, "commands") {
			cmd := w.draw(t, i)
			w.apply(cmd)
			sound(fmt.Sprintf("after kind %d", cmd.Kind))
		}
		w.setBack(w.s.ClockMs() - 1_000)
		sound("after a clock recovery")
		w = restoreWorld(t, w, backup, h, w.s.ClockMs())
		sound("after a restore")
		records, err := w.s.Recover(recoveryAt(w.s.ClockMs(), "recover"), w.s.Coordinators()[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		w = onward(t, w.s, w.history, records)
		sound("after a recovery")
		backup, h = backupOf(t, w)
		w = restoreWorld(t, otherWorld(t), backup, h, worldStart)
		sound("in another cluster")
	})
}

func TestRestoredRetiresEveryOtherKey(t *testing.T) {
	w := genesisWorld(t)
	backup, h := backupOf(t, w)
	other := publicKey("node of another past")
	n, _ := backup.coordinators.get("n0")
	backup.coordinators.remove("n0")
	old := n.SigningKey
	n.SigningKey = other
	backup.coordinators.put("n0", n)
	backup.signingKeys.remove(old.CoordinatorID())
	backup.signingKeys.put(other.CoordinatorID(), SigningKey{Public: other, NodeID: "n0", Since: 1})
	ref, was := other.Fingerprint(), old.Fingerprint()
	backup.keyOwners.put(string(ref[:]), ownerCoordinator+"n0")
	backup.keyOwners.remove(string(was[:]))
	if u := Compare(backup, w.s); len(u.KeysAdded) != 1 || u.KeysAdded[0].Public != other {
		t.Errorf("keys added: %v", u.KeysAdded)
	}
	r := restoreWorld(t, w, backup, h, w.wallMs)
	for _, k := range r.s.SigningKeys() {
		if (k.RetiredAt == 0) != (k.Public == old) {
			t.Errorf("key %+v", k)
		}
	}
	if err := r.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// The key of a coordinator here is no agent's key of a backup.
func TestRestoredKeyOfTwo(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	backup, _ := backupOf(t, w)
	backup.changeAgent(func(a *Agent) { a.Keys[0].Public = publicKey("node n1") })
	ref, was := keyRef("node n1"), keyRef("a")
	backup.keyOwners.remove(string(was[:]))
	backup.keyOwners.put(string(ref[:]), ownerAgent+"a")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	if _, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore")); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("%v", err)
	}
}

func TestRestoredLeavesRoom(t *testing.T) {
	w := genesisWorld(t)
	backup, _ := backupOf(t, w)
	for i := range MaxRemoved/10*9 + 1 {
		id := fmt.Sprint("x", i)
		backup.removed.m[id] = Removal{ID: id, Name: id} // past the digest: it takes long
	}
	if _, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore")); err == nil || !strings.Contains(err.Error(), "removed nodes") {
		t.Errorf("%v", err)
	}
	w.s.removed.m = backup.removed.m
	if _, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore")); err != nil {
		t.Errorf("what is full already: %v", err)
	}
}

func TestCompareSeesWholeAgents(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	backup, _ := backupOf(t, w)
	if u := Compare(backup, w.s); len(u.AgentsOther)+len(u.AgentsAdded)+len(u.AgentsLost)+len(u.KeysAdded) != 0 {
		t.Errorf("of itself: %+v", u)
	}
	backup.changeAgent(func(a *Agent) { a.EncryptionKey = make([]byte, 32) })
	a, _ := backup.agents.get("a")
	a.ID = "added"
	backup.agents.put("added", a)
	if u := Compare(backup, w.s); len(u.AgentsOther) != 1 || len(u.AgentsAdded) != 1 || u.AgentsAdded[0].ID != "added" {
		t.Errorf("%+v", u)
	}
}

func TestTimesDoNotOverflow(t *testing.T) {
	s := NewState()
	s.meta.v.NonceFloorMs = math.MaxInt64
	if until := s.Recovering(); until != math.MaxInt64 {
		t.Errorf("with the floor at the end of time: %d", until)
	}
	s = NewState()
	s.meta.v.Closed = []TimeRange{{FromMs: 0, ToMs: math.MaxInt64}}
	if until := s.Recovering(); until != math.MaxInt64 {
		t.Errorf("with all time closed: %d", until)
	}
	s = NewState()
	s.openEpoch(1, Recovery{AtMs: math.MaxInt64 - 1, Forgetful: true}, Meta{})
	if s.meta.v.NonceFloorMs != math.MaxInt64 {
		t.Errorf("the floor is %d", s.meta.v.NonceFloorMs)
	}
}

func TestNoncesLoadInOrder(t *testing.T) {
	row := func(i byte, bucket int64) []byte { return nonceRow{key: nonceKey{i}}.encode(bucket) }
	w := newNonceWindow("nonces", MaxNonces)
	for i, bucket := range []int64{0, 5, 5, 6} {
		if err := w.load(row(byte(i), bucket)); err != nil {
			t.Fatal(err)
		}
	}
	for _, bucket := range []int64{5, 0, -1} {
		if err := w.load(row(9, bucket)); err == nil || !strings.Contains(err.Error(), "order") {
			t.Errorf("bucket %d: %v", bucket, err)
		}
	}
}

// Only a rate window may be large: a policy is not, with all overrides.
func TestRowLimits(t *testing.T) {
	w := genesisWorld(t)
	w.setPolicy(func(p *Policy) {
		p.Overrides = map[string]RateLimit{}
		for i := range MaxOverrides {
			p.Overrides[fmt.Sprintf("%0128d", i)] = RateLimit{Requests: MaxRateRequests, WindowMs: MaxRateWindowMs}
		}
		p.AgentProfiles = map[string]ProfileRule{}
		for i := range MaxOverrides {
			p.AgentProfiles[fmt.Sprintf("%0128d", i)] = ProfilesRFC9421
		}
	})
	if n := len(w.s.policy.encode()); n > maxPolicyBytes/2 {
		t.Errorf("the largest policy has %d bytes", n)
	}
	restored(t, snapshotOf(t, w.s, w.history))
	for field, limit := range map[string]uint64{"agents": maxAgentBytes, "bans": maxSmallRowBytes, "policy": maxPolicyBytes, "rate_windows": maxWindowBytes} {
		r := newFrameReader(bytes.NewReader(binary.AppendUvarint(nil, limit+1)))
		if r.frame(frameLimit(field)); r.err == nil || !strings.Contains(r.err.Error(), "at most") {
			t.Errorf("%s: %v", field, r.err)
		}
	}
	huge := strings.Repeat("A", 1<<20)
	s, _ := restored(t, snapshotOf(t, w.s, w.history))
	s.agents.put(huge, Agent{ID: huge, State: AgentActive})
	var out bytes.Buffer
	if err := s.Freeze().Write(&out); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadSnapshot(&out); err == nil || !strings.Contains(err.Error(), "agents") {
		t.Errorf("a row of a MiB: %v", err)
	}
}
