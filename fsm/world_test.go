package fsm

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"slices"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// worldStart is the wall time at which every test world begins.
const worldStart = int64(1_767_225_600_000)

// world feeds a State as a leader would: it stamps, links, encodes, decodes,
// applies, and keeps the log so that others can replay it.
type world struct {
	t       rapid.TB
	s       *State
	history *MemoryHistory
	wallMs  int64
	index   uint64
	term    uint64
	log     []logged
	ids     int // of the ledger, made so far

	sameEnds int64 // see drawSameHolds
}

// logged is an entry of the log and all that came of it.
type logged struct {
	index   uint64
	data    []byte
	cmd     Command
	res     Result
	records []Record
	digest  crypto.Hash
}

func newWorld(t rapid.TB) *world {
	return &world{t: t, s: NewState(), history: NewMemoryHistory(), wallMs: worldStart, term: 1}
}

// genesisWorld is a cluster of node n0 with tokens of the usual roles, whose
// ids are the roles' names, and new agents active at once.
func genesisWorld(t rapid.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.must(w.do(Actor{}, genesisOf("n0")))
	for _, role := range []Role{RoleVerifier, RoleViewer, RoleOperator, RoleMesh, RoleAgent, RoleCoordinator, RoleObserver, RoleEdge} {
		w.must(w.do(admin, TokenCreate{ID: string(role), Role: role, Uses: -1}))
	}
	w.setPolicy(func(p *Policy) { p.AutoApprove = true })
	return w
}

var (
	admin    = Actor{TokenID: "admin"}
	operator = Actor{TokenID: "operator"}
	enroller = Actor{TokenID: "agent"}
	joiner   = Actor{TokenID: "coordinator"}
)

func genesisOf(node string) Genesis {
	return Genesis{
		ClusterID:   "00112233445566778899aabbccddeeff",
		CACert:      []byte("ca"),
		AdminToken:  TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: RoleAdmin, Uses: -1},
		Coordinator: nodeOf(node, RoleCoordinator),
		Level:       1,
	}
}

func nodeOf(id string, role Role) Coordinator {
	return Coordinator{
		ID: id, Name: "name-" + id, Role: role, SigningKey: publicKey("node " + id), EncryptionKey: bytes.Repeat([]byte{7}, 32),
		API: "127.0.0.1:1", Raft: "127.0.0.1:2", Gossip: "127.0.0.1:3", Level: 1, Version: "test",
	}
}

// privateKey is the same for the same name in every run.
func privateKey(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("fsm test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(name string) crypto.PublicKey { return crypto.PublicOf(privateKey(name)) }

func keyRef(name string) KeyRef { return publicKey(name).Fingerprint() }

// do applies a body stamped with the world's wall clock.
func (w *world) do(actor Actor, body any) Result {
	w.t.Helper()
	return w.doAt(w.wallMs, actor, nil, body)
}

func (w *world) doAt(atMs int64, actor Actor, idem *Idempotency, body any) Result {
	w.t.Helper()
	cmd, err := New(actor, body)
	if err != nil {
		w.t.Fatalf("new: %v", err)
	}
	cmd.AtMs, cmd.Idem = atMs, idem
	return w.apply(cmd)
}

func (w *world) apply(cmd Command) Result {
	w.t.Helper()
	data, err := EncodeCommand(cmd)
	if err != nil {
		w.t.Fatalf("encode: %v", err)
	}
	decoded, err := DecodeCommand(data)
	if err != nil {
		w.t.Fatalf("decode what was encoded: %v", err)
	}
	w.index++
	res, records, err := w.s.Apply(w.index, decoded)
	if err != nil {
		w.t.Fatalf("apply: %v", err)
	}
	if err := w.history.Append(w.s.Meta().Epoch, records); err != nil {
		w.t.Fatalf("history: %v", err)
	}
	w.log = append(w.log, logged{w.index, data, decoded, res, records, w.s.Digest()})
	return res
}

func (w *world) must(res Result) Result {
	w.t.Helper()
	return w.want(res, CodeOK)
}

func (w *world) want(res Result, code Code) Result {
	w.t.Helper()
	if res.Code != code {
		w.t.Fatalf("code %s (%s: %s), want %s", res.Code, res.Field, res.Detail, code)
	}
	return res
}

func (w *world) setPolicy(change func(*Policy)) {
	w.t.Helper()
	p := w.s.Policy()
	version := p.Version
	change(&p)
	w.must(w.do(admin, PolicySet{IfVersion: version, Policy: p}))
}

// pass moves the wall clock and ticks along in steps that the clock rule allows.
func (w *world) pass(ms int64) {
	w.t.Helper()
	for ms > 0 {
		step := min(ms, MaxAheadMs)
		w.wallMs += step
		ms -= step
		w.must(w.do(Actor{}, Tick{Term: w.term}))
	}
}

func (w *world) mark() { w.t.Helper(); w.must(w.do(Actor{}, Tick{Term: w.term, Mark: true})) }

// enroll makes an active agent whose key has the agent's name.
func (w *world) enroll(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.must(w.do(enroller, AgentEnroll{AgentID: id, PublicKey: publicKey(id)}))
	}
}

// claimOf is an agent's signed request at a time, asked by the verifier token.
// The tag covers all but the nonce, as NewClaimTag says.
func claimOf(agent, nonce string, timestampMs int64, claimID string) Claim {
	c := Claim{AgentID: agent, Key: keyRef(agent), TimestampMs: timestampMs, Nonce: nonce,
		Tag: NewClaimTag("verifier", claimID, "POST", "/pull", crypto.Sum([]byte("{}")), timestampMs)}
	if claimID != "" {
		c.ClaimID = NewClaimID("verifier", claimID)
	}
	return c
}

// messageOf is the claim as an HTTP message signature with an end of its own.
func messageOf(c Claim, expiresMs int64) Claim {
	c.Profile, c.ExpiresMs = crypto.ProfileRFC9421, expiresMs
	return c
}

// admit applies one batch of the verifier's and returns the verdicts.
func (w *world) admit(claims ...Claim) []ClaimResult {
	w.t.Helper()
	res := w.must(w.do(Actor{}, AdmitBatch{Callers: []string{"verifier"}, Claims: claims}))
	if len(res.Claims) != len(claims) {
		w.t.Fatalf("%d verdicts for %d claims", len(res.Claims), len(claims))
	}
	return res.Claims
}

// verdict is the code of a claim applied alone.
func (w *world) verdict(c Claim) Code { w.t.Helper(); return w.admit(c)[0].Code }

func (w *world) wantVerdict(c Claim, want Code) {
	w.t.Helper()
	if got := w.verdict(c); got != want {
		w.t.Fatalf("claim of %s, nonce %s, time %+d ms: %s, want %s", c.AgentID, c.Nonce, c.TimestampMs-w.s.ClockMs(), got, want)
	}
}

// banOf is a manual ban, linked to the head and signed by the node.
func (w *world) banOf(agent, eventID, node string, expires *int64) BlacklistAppend {
	e := eventOf(agent, eventID, w.s.ClockMs())
	e.ExpiresAtMs = expires
	return w.linked(e, node, false)
}

// liftOf supersedes the ban in force on the agent.
func (w *world) liftOf(agent, eventID, node string) BlacklistAppend {
	e := eventOf(agent, eventID, w.s.ClockMs())
	if ban, ok := w.s.Ban(agent, w.s.ClockMs()); ok {
		e.EvidenceHashSHA256 = ban.EventHash.String()
	}
	before := e.TimestampMs - 1
	e.ExpiresAtMs = &before
	return w.linked(e, node, true)
}

func (w *world) linked(e crypto.BlacklistEvent, node string, lift bool) BlacklistAppend {
	head, _ := w.s.Chain()
	e.Link(head, privateKey("node "+node))
	return BlacklistAppend{Event: e, Lift: lift}
}

func eventOf(agent, eventID string, atMs int64) crypto.BlacklistEvent {
	return crypto.BlacklistEvent{
		EventID: eventID, AgentID: agent, ReasonCode: crypto.ReasonManualReview, Reason: "seen to misbehave",
		EvidenceHashSHA256: crypto.Sum([]byte("evidence " + eventID)).String(), ReporterID: "operator", ReportedBy: "operator",
		TimestampMs: atMs,
	}
}

// reportOf is a ban backed by the reporter's own signature.
func (w *world) reportOf(agent, reporter, eventID string) BlacklistAppend {
	e := eventOf(agent, eventID, w.s.ClockMs())
	e.ReasonCode, e.ReporterID = "forged_results", reporter
	e.ReporterPublicKeyPEM = publicKey(reporter).PEM()
	e.ReporterSignature = base64.StdEncoding.EncodeToString(e.Evidence().Sign(privateKey(reporter)))
	e.EvidenceSignatureVerified = true
	b := w.linked(e, "n0", false)
	ref := keyRef(reporter)
	b.ReporterKey = &ref
	return b
}

// replay applies a log to a state and wants the recorded answers.
func replay(t rapid.TB, s *State, log []logged) {
	t.Helper()
	for _, l := range log {
		cmd, err := DecodeCommand(l.data)
		if err != nil {
			t.Fatalf("index %d: %v", l.index, err)
		}
		res, records, err := s.Apply(l.index, cmd)
		if err != nil {
			t.Fatalf("index %d: %v", l.index, err)
		}
		if !sameEncoding(res, l.res) {
			t.Fatalf("index %d, kind %d: answered %+v, first %+v", l.index, cmd.Kind, res, l.res)
		}
		if !sameEncoding(records, l.records) {
			t.Fatalf("index %d, kind %d: other records", l.index, cmd.Kind)
		}
		if got := s.Digest(); got != l.digest {
			t.Fatalf("index %d, kind %d: digest %s, first %s", l.index, cmd.Kind, got, l.digest)
		}
	}
}

func sameEncoding(a, b any) bool {
	x, errA := Encode(a)
	y, errB := Encode(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// snapshotOf is the bytes of a snapshot with its history, as it travels.
func snapshotOf(t rapid.TB, s *State, h *MemoryHistory) []byte {
	t.Helper()
	var buf bytes.Buffer
	f := s.Freeze()
	if err := errors.Join(f.Write(&buf), WriteHistory(&buf, f.Totals(), h.UpTo(f.Totals()))); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return buf.Bytes()
}

// restored reads a snapshot back, with its history.
func restored(t rapid.TB, data []byte) (*State, []Record) {
	t.Helper()
	var records []Record
	s, _, err := LoadSnapshot(bytes.NewReader(data), func(r Record) error { records = append(records, r); return nil })
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return s, records
}

func historyOf(t rapid.TB, records []Record) *MemoryHistory {
	t.Helper()
	h := NewMemoryHistory()
	if err := h.Append(1, records); err != nil {
		t.Fatalf("history: %v", err)
	}
	return h
}

// recordsOf is a whole stream.
func recordsOf(t rapid.TB, h History, stream Stream) []Record {
	t.Helper()
	records, err := h.Read(stream, 1, 1<<30)
	if err != nil {
		t.Fatalf("read history: %v", err)
	}
	return slices.Clone(records)
}
