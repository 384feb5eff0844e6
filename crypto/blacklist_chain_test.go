package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func goldenCoordinators(t testing.TB, v *goldenVectors) map[string]PublicKey {
	_, a := v.key(t, "coordA")
	_, b := v.key(t, "coordB")
	return map[string]PublicKey{"coord-a": a, "coord-b": b}
}

func TestChainGolden(t *testing.T) {
	v := loadGolden(t)
	chain := NewChainVerifier(goldenCoordinators(t, v))
	if err := chain.Finish(BlacklistGenesis); err != nil || chain.Head() != BlacklistGenesis || chain.Size() != 0 {
		t.Errorf("empty chain: %v", err)
	}
	for i, e := range goldenEvents(t, v) {
		if err := chain.Add(e); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if err := chain.Finish(v.Blacklist.ChainHead); err != nil || chain.Head() != v.Blacklist.ChainHead || chain.Size() != 3 || chain.Unproven() != 0 {
		t.Errorf("head %s, size %d, %v", chain.Head(), chain.Size(), err)
	}
	var broken *ChainError
	if err := chain.Finish(BlacklistGenesis); !errors.As(err, &broken) || broken.Code != ChainHeadMismatch || broken.Seq != 3 ||
		!strings.Contains(err.Error(), "3 events: chain_head_mismatch: claimed head \"BLACKLIST_GENESIS\"") {
		t.Errorf("other head: %v", err)
	}
}

// makeChain signs n events of one coordinator.
func makeChain(t testing.TB, priv PrivateKey, n int) []BlacklistEvent {
	t.Helper()
	reporter := testKey(t, 200)
	prev := BlacklistGenesis
	events := make([]BlacklistEvent, n)
	for i := range events {
		e := BlacklistEvent{
			EventID: fmt.Sprintf("event-%d", i), AgentID: fmt.Sprintf("agent-%d", i), ReasonCode: "abuse_spam", Reason: "spam",
			EvidenceHashSHA256: Sum([]byte{byte(i)}).String(), ReporterID: "reporter", ReportedBy: "reporter", TimestampMs: int64(i),
			EvidenceSignatureVerified: true, ReporterPublicKeyPEM: PublicOf(reporter).PEM(),
		}
		e.ReporterSignature = b64(e.Evidence().Sign(reporter))
		e.Link(prev, priv)
		prev = e.EventHash
		events[i] = e
	}
	return events
}

func TestChainFaults(t *testing.T) {
	priv, other := testKey(t, 1), testKey(t, 2)
	keys := map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)}
	relink := func(e *BlacklistEvent, prev string) { e.Link(prev, priv) }
	for name, c := range map[string]struct {
		code  string
		spoil func(events []BlacklistEvent) []BlacklistEvent
	}{
		"event left out":     {ChainBreak, func(ev []BlacklistEvent) []BlacklistEvent { return slices.Delete(ev, 2, 3) }},
		"events swapped":     {ChainBreak, func(ev []BlacklistEvent) []BlacklistEvent { ev[2], ev[3] = ev[3], ev[2]; return ev }},
		"reason changed":     {ChainHashMismatch, func(ev []BlacklistEvent) []BlacklistEvent { ev[2].Reason = "other"; return ev }},
		"hash changed":       {ChainHashMismatch, func(ev []BlacklistEvent) []BlacklistEvent { ev[2].EventHash = Sum(nil).String(); return ev }},
		"signed by a nobody": {ChainMissingKey, func(ev []BlacklistEvent) []BlacklistEvent { ev[2].Link(ev[1].EventHash, other); return ev }},
		"signature of others": {ChainSignatureInvalid, func(ev []BlacklistEvent) []BlacklistEvent {
			ev[2].CoordinatorSignature = ev[1].CoordinatorSignature
			return ev
		}},
		"signature broken": {ChainSignatureInvalid, func(ev []BlacklistEvent) []BlacklistEvent { ev[2].CoordinatorSignature = "x"; return ev }},
		"id twice": {ChainDuplicateEvent, func(ev []BlacklistEvent) []BlacklistEvent {
			ev[2].EventID = ev[0].EventID
			relink(&ev[2], ev[1].EventHash)
			return ev
		}},
		"reporter replaced": {ChainReporterSignatureWrong, func(ev []BlacklistEvent) []BlacklistEvent {
			ev[2].ReporterPublicKeyPEM = PublicOf(other).PEM() // not covered by the hash
			return ev
		}},
		"reporter's signature replaced": {ChainReporterSignatureWrong, func(ev []BlacklistEvent) []BlacklistEvent {
			ev[2].ReporterSignature = ev[1].ReporterSignature
			return ev
		}},
	} {
		chain := NewChainVerifier(keys)
		var err error
		for _, e := range c.spoil(makeChain(t, priv, 5)) {
			if err = chain.Add(e); err != nil {
				break
			}
		}
		var broken *ChainError
		if !errors.As(err, &broken) || broken.Code != c.code || broken.Seq != 2 || chain.Size() != 2 ||
			!strings.Contains(err.Error(), "event 2 (\""+broken.EventID+"\"): "+c.code) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// A failed chain stays failed, also for its good head.
		if again := chain.Add(makeChain(t, priv, 3)[2]); again != err || chain.Finish(chain.Head()) != err {
			t.Errorf("%s: recovered: %v", name, again)
		}
	}
}

func TestChainUnproven(t *testing.T) {
	priv := testKey(t, 1)
	chain := NewChainVerifier(map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)})
	e := makeChain(t, priv, 1)[0]
	e.ReporterSignature = "" // taken out by whoever serves the chain
	if err := chain.Add(e); err != nil || chain.Unproven() != 1 {
		t.Errorf("%v, unproven %d", err, chain.Unproven())
	}
}

// Whatever bit of the wire form is flipped, the chain refuses it, but for the free text that the inherited hash does
// not cover: that only the Merkle leaf above the chain can vouch for.
func TestChainEveryBit(t *testing.T) {
	priv := testKey(t, 1)
	keys := map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)}
	e := makeChain(t, priv, 1)[0]
	wire := e.WireJSON()
	if err := NewChainVerifier(keys).Add(e); err != nil {
		t.Fatal(err)
	}
	parsed, free := 0, 0
	for bit := range 8 * len(wire) {
		bad := bytes.Clone(wire)
		bad[bit/8] ^= 1 << (bit % 8)
		got, err := ParseBlacklistEvent(bad)
		if err != nil {
			continue
		}
		parsed++
		if NewChainVerifier(keys).Add(got) != nil {
			continue
		}
		free++
		if got.ReportedBy = e.ReportedBy; !reflect.DeepEqual(got, e) {
			t.Errorf("bit %d: accepted %s", bit, bad)
		}
	}
	if parsed < 500 || free == 0 || free > 8*len(e.ReportedBy) {
		t.Errorf("%d well-formed, %d accepted: the test does not test", parsed, free)
	}
}

// A verification holds a few bytes of an event, never its text: a history of millions costs little memory.
func TestChainVerifierHoldsLittle(t *testing.T) {
	priv := testKey(t, 1)
	chain := NewChainVerifier(map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)})
	const events, most = 1000, 500 // bytes: a tenth of an event here
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	e := makeChain(t, priv, 1)[0]
	e.Reason, e.EvidenceSignatureVerified, e.ReporterSignature, e.ReporterPublicKeyPEM = strings.Repeat("r", MaxReasonBytes), false, "", ""
	prev := BlacklistGenesis
	for i := range events {
		e.EventID = fmt.Sprintf("event-%0100d", i)
		e.Link(prev, priv)
		prev = e.EventHash
		parsed, err := ParseBlacklistEvent(e.WireJSON())
		if err == nil {
			err = chain.Add(parsed)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if grown := held() - before; grown > most*events {
		t.Errorf("%d bytes are held for each event, at most %d", grown/events, most)
	}
	if chain.Size() != events { // and it is alive
		t.Error(chain.Size())
	}
}

func BenchmarkChainAdd(b *testing.B) {
	priv := testKey(b, 1)
	keys := map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)}
	events := makeChain(b, priv, 64)
	b.ReportAllocs()
	for b.Loop() {
		chain := NewChainVerifier(keys)
		for _, e := range events {
			if err := chain.Add(e); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(events)), "ns/event")
}

// In a backup a wrong reporter's signature is one that is not there: a
// coordinator that lied once must not spoil all that come after it.
func TestChainCountsWrongReporters(t *testing.T) {
	priv, other := testKey(t, 1), testKey(t, 2)
	keys := map[string]PublicKey{PublicOf(priv).CoordinatorID(): PublicOf(priv)}
	events := makeChain(t, priv, 5)
	events[1].ReporterSignature = b64(make([]byte, SignatureSize))
	events[2].ReporterPublicKeyPEM = PublicOf(other).PEM()
	events[3].ReporterSignature, events[3].ReporterPublicKeyPEM = "", ""
	strict, chain := NewChainVerifier(keys), NewChainVerifier(keys)
	chain.CountWrongReporters()
	var broken *ChainError
	for i, e := range events {
		if err := chain.Add(e); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if err := strict.Add(e); (i > 0) != errors.As(err, &broken) {
			t.Errorf("event %d: without the option: %v", i, err)
		}
	}
	if broken == nil || broken.Code != ChainReporterSignatureWrong || broken.Seq != 1 {
		t.Errorf("without the option: %v", broken)
	}
	if chain.Unproven() != 3 || chain.Size() != 5 {
		t.Errorf("%d of %d unproven", chain.Unproven(), chain.Size())
	}
	forged := makeChain(t, other, 1)[0]
	forged.Link(chain.Head(), other)
	if err := chain.Add(forged); !errors.As(err, &broken) || broken.Code != ChainMissingKey {
		t.Errorf("all else is held as ever: %v", err)
	}
}
