package crypto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// goldenEvents parses the chain of the vectors.
func goldenEvents(t testing.TB, v *goldenVectors) []BlacklistEvent {
	t.Helper()
	var events []BlacklistEvent
	for i, c := range v.Blacklist.Chain {
		e, err := ParseBlacklistEvent(c.Record)
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		events = append(events, e)
	}
	return events
}

func TestBlacklistGolden(t *testing.T) {
	v := loadGolden(t)
	if v.Blacklist.Genesis != BlacklistGenesis {
		t.Fatal("genesis")
	}
	for i, e := range goldenEvents(t, v) {
		c := v.Blacklist.Chain[i]
		if got := string(e.HashPreimage()); got != c.HashPreimage {
			t.Errorf("event %d: pre-image\n got %s\nwant %s", i, got, c.HashPreimage)
		}
		if e.ComputeHash().String() != e.EventHash {
			t.Errorf("event %d: hash %s", i, e.ComputeHash())
		}
		_, pub := v.key(t, c.SignerKey)
		if !e.VerifyCoordinator(pub) || e.VerifyCoordinator(PublicOf(testKey(t, 1))) {
			t.Errorf("event %d: coordinator's signature", i)
		}
		if again, err := ParseBlacklistEvent(e.WireJSON()); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("event %d: read back %+v, %v", i, again, err)
		}
		if !sameJSON(t, e.WireJSON(), c.Record) {
			t.Errorf("event %d: wire form %s", i, e.WireJSON())
		}
	}
}

// sameJSON compares two texts as values.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestBlacklistWireOrder(t *testing.T) {
	e := goldenEvents(t, loadGolden(t))[1]
	order := []string{"eventId", "agentId", "reasonCode", "reason", "evidenceHashSha256", "reporterId", "reporterPublicKeyPem",
		"reporterSignature", "evidenceSignatureVerified", "evidenceRef", "sourceCoordinatorId", "reportedBy", "timestampMs",
		"expiresAtMs", "prevEventHash", "eventHash", "coordinatorSignature"}
	at := -1
	wire := string(e.WireJSON())
	for _, name := range order {
		next := strings.Index(wire, `"`+name+`":`)
		if next <= at {
			t.Errorf("%s at %d, after %d", name, next, at)
		}
		at = next
	}
	if !strings.Contains(wire, `don't match — \"replayed\" <html> & ünïcode`) {
		t.Errorf("escapes: %s", wire)
	}
	// The struct tags name the same members in the same order, for those who encode with encoding/json or CBOR.
	var tags []string
	for field := range reflect.TypeFor[BlacklistEvent]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		tags = append(tags, name)
	}
	if !slices.Equal(tags, order) {
		t.Errorf("tags %v", tags)
	}
}

func TestBlacklistExpiry(t *testing.T) {
	v := loadGolden(t)
	e := goldenEvents(t, v)[0]
	if got := e.ComputeHash().String(); got != v.Blacklist.NullHandling.AbsentExpiryHash || got != v.Blacklist.NullHandling.ExplicitNullExpiryHash {
		t.Errorf("without expiry: %s", got)
	}
	if !e.InForce(1 << 60) {
		t.Error("a permanent ban ended")
	}
	e.ExpiresAtMs = new(int64)
	if got := e.ComputeHash().String(); got != v.Blacklist.NullHandling.ZeroExpiryHash {
		t.Errorf("with zero expiry: %s", got)
	}
	if !e.InForce(0) || e.InForce(1) {
		t.Error("the expiry itself is in force, a millisecond later is not")
	}
	if !strings.Contains(string(e.WireJSON()), `"expiresAtMs":0,`) {
		t.Errorf("zero expiry on the wire: %s", e.WireJSON())
	}
}

func TestReporterEvidenceGolden(t *testing.T) {
	v := loadGolden(t)
	g := v.Blacklist.ReporterEvidence
	priv, pub := v.key(t, "reporter")
	evidence := ReporterEvidence{
		AgentID: g.Evidence.AgentID, ReasonCode: g.Evidence.ReasonCode, Reason: g.Evidence.Reason,
		EvidenceHashSHA256: g.Evidence.EvidenceHashSha256, ReporterID: g.Evidence.ReporterID, TimestampMs: g.Evidence.TimestampMs,
	}
	if got := string(evidence.Canonical()); got != g.CanonicalString || Sum([]byte(got)).String() != g.CanonicalSha256 {
		t.Errorf("canonical %s", got)
	}
	if got := base64.StdEncoding.EncodeToString(evidence.Sign(priv)); got != g.ReporterSignature {
		t.Errorf("signature %s", got)
	}
	e := goldenEvents(t, v)[1]
	if e.Evidence() != evidence || e.VerifyReporter() != nil || !evidence.Verify(pub, evidence.Sign(priv)) {
		t.Errorf("evidence of the event: %+v, %v", e.Evidence(), e.VerifyReporter())
	}
	for name, spoil := range map[string]func(e *BlacklistEvent){
		"tampered reason":  func(e *BlacklistEvent) { e.Reason += "!" },
		"no key":           func(e *BlacklistEvent) { e.ReporterPublicKeyPEM = "" },
		"no signature":     func(e *BlacklistEvent) { e.ReporterSignature = "" },
		"other key":        func(e *BlacklistEvent) { e.ReporterPublicKeyPEM = PublicOf(testKey(t, 1)).PEM() },
		"broken key":       func(e *BlacklistEvent) { e.ReporterPublicKeyPEM = "x" },
		"broken signature": func(e *BlacklistEvent) { e.ReporterSignature = "x" },
	} {
		bad := e
		spoil(&bad)
		if bad.VerifyReporter() == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func TestReasonCodes(t *testing.T) {
	codes := ReasonCodes()
	if len(codes) != 7 || !slices.IsSorted(codes) {
		t.Fatalf("%v", codes)
	}
	for _, code := range codes {
		if !KnownReasonCode(code) {
			t.Errorf("%s unknown", code)
		}
	}
	codes[0] = "mine"
	for _, code := range []string{"", "mine", "tampered_binary", "behavioral_anomaly", "MANUAL_REVIEW"} {
		if KnownReasonCode(code) {
			t.Errorf("%q known", code)
		}
	}
}

func TestLink(t *testing.T) {
	priv := testKey(t, 4)
	e := goldenEvents(t, loadGolden(t))[0]
	e.Link(BlacklistGenesis, priv)
	if e.SourceCoordinatorID != PublicOf(priv).CoordinatorID() || e.PrevEventHash != BlacklistGenesis || !e.VerifyCoordinator(PublicOf(priv)) {
		t.Errorf("%+v", e)
	}
	if err := e.Check(); err != nil {
		t.Error(err)
	}
}

func TestParseBlacklistRefused(t *testing.T) {
	v := loadGolden(t)
	event := goldenEvents(t, v)[1]
	good := string(event.WireJSON())
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"not an object":       "[]",
		"null":                "null",
		"empty object":        "{}",
		"text after":          good + "{}",
		"unknown member":      replace(`{"eventId"`, `{"x":1,"eventId"`),
		"wrong case":          replace(`"eventId"`, `"eventID"`),
		"member twice":        replace(`{"eventId"`, `{"reason":"xyz","eventId"`),
		"member twice, coded": replace(`{"eventId"`, `{"re\u0061son":"xyz","eventId"`),
		"null optional":       replace(`"evidenceRef":"s3://evidence/2"`, `"evidenceRef":null`),
		"empty optional":      replace(`"evidenceRef":"s3://evidence/2"`, `"evidenceRef":""`),
		"null expiry":         replace(`"expiresAtMs":1767312060000`, `"expiresAtMs":null`),
		"time as text":        replace(`"timestampMs":1767225660000`, `"timestampMs":"1767225660000"`),
		"time as float":       replace(`"timestampMs":1767225660000`, `"timestampMs":1767225660000.0`),
		"time as exponent":    replace(`"timestampMs":1767225660000`, `"timestampMs":1e12`),
		"negative time":       replace(`"timestampMs":1767225660000`, `"timestampMs":-1`),
		"time past 2^53":      replace(`"timestampMs":1767225660000`, `"timestampMs":9007199254740992`),
		"no time":             replace(`"timestampMs":1767225660000,`, ``),
		"no flag":             replace(`"evidenceSignatureVerified":true,`, ``),
		"flag as number":      replace(`"evidenceSignatureVerified":true`, `"evidenceSignatureVerified":1`),
		"no agent":            replace(`"agentId":"agent-bad-2",`, ``),
		"agent as number":     replace(`"agentId":"agent-bad-2"`, `"agentId":2`),
		"control in agent":    replace(`"agentId":"agent-bad-2"`, `"agentId":"a\nb"`),
		"lone surrogate":      replace(`"reason":"`, `"reason":"\ud800`),
		"unknown reason":      replace(`forged_results`, `tampered_binary`),
		"upper-case evidence": replace(`1d1f36b239`, `1D1F36B239`),
		"short evidence":      replace(`1d1f36b239`, `1d1f`),
		"bad previous hash":   replace(`"prevEventHash":"4d`, `"prevEventHash":"GENESIS`),
		"bad hash":            replace(`"eventHash":"37`, `"eventHash":"zz`),
		"bad signature":       replace(`"coordinatorSignature":"PAW`, `"coordinatorSignature":"PA`),
		"base64url":           replace(`"reporterSignature":"i4K3QG6uAhUu+`, `"reporterSignature":"i4K3QG6uAhUu-`),
		"bad reporter key":    replace(`BEGIN PUBLIC KEY`, `BEGIN PRIVATE KEY`),
		"not UTF-8":           replace(`don't`, "don\xff't"),
		"too large":           good + strings.Repeat(" ", MaxBlacklistEventBytes),
		"reason too long":     replace(`"reason":"`, `"reason":"`+strings.Repeat("x", MaxReasonBytes)),
		"cut":                 good[:len(good)-1],
	} {
		e, err := ParseBlacklistEvent([]byte(bad))
		if err == nil || !reflect.DeepEqual(e, BlacklistEvent{}) {
			t.Errorf("%s: accepted or half-read: %v", name, err)
		}
	}
	if _, err := ParseBlacklistEvent([]byte(" " + good + "\n")); err != nil {
		t.Errorf("white space around: %v", err)
	}
}

func TestCheckReportsAllFaults(t *testing.T) {
	err := new(BlacklistEvent).Check()
	if err == nil {
		t.Fatal("an empty event is well-formed")
	}
	for _, name := range []string{"eventId", "agentId", "reasonCode", "reason", "evidenceHashSha256", "reporterId",
		"sourceCoordinatorId", "reportedBy", "prevEventHash", "eventHash", "coordinatorSignature"} {
		if !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	e := goldenEvents(t, loadGolden(t))[0]
	minus := int64(-1)
	e.ExpiresAtMs, e.TimestampMs = &minus, -1
	if err := e.Check(); err == nil || !strings.Contains(err.Error(), "expiresAtMs") || !strings.Contains(err.Error(), "timestampMs") {
		t.Errorf("negative times: %v", err)
	}
	e = goldenEvents(t, loadGolden(t))[0]
	e.Reason = strings.Repeat("\x01", MaxReasonBytes) // six bytes each on the wire
	if err := e.Check(); err == nil {
		t.Error("an event that cannot be read back is well-formed")
	}
}

// Every hashed member changes the hash; the others do not.
func TestHashCoversElevenMembers(t *testing.T) {
	base := goldenEvents(t, loadGolden(t))[1]
	unhashed := []string{"ReporterPublicKeyPEM", "ReporterSignature", "EvidenceRef", "ReportedBy", "EventHash", "CoordinatorSignature"}
	for field := range reflect.TypeFor[BlacklistEvent]().Fields() {
		e := base
		switch f := reflect.ValueOf(&e).Elem().FieldByIndex(field.Index); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Pointer:
			f.Set(reflect.ValueOf(new(int64)))
		}
		if changed := e.ComputeHash() != base.ComputeHash(); changed == slices.Contains(unhashed, field.Name) {
			t.Errorf("%s: hash changed: %v", field.Name, changed)
		}
	}
}

// Whatever well-formed event is written, the same is read.
func TestBlacklistRoundTrip(t *testing.T) {
	priv := testKey(t, 1)
	id := rapid.StringMatching(`[a-zA-Z0-9 é漢_.:-]{1,30}`)
	rapid.Check(t, func(t *rapid.T) {
		e := BlacklistEvent{
			EventID: id.Draw(t, "event"), AgentID: id.Draw(t, "agent"), ReasonCode: rapid.SampledFrom(reasonCodes).Draw(t, "code"),
			Reason: rapid.StringN(1, 200, 800).Draw(t, "reason"), EvidenceHashSHA256: Sum(nil).String(), ReporterID: id.Draw(t, "reporter"),
			EvidenceRef: rapid.StringN(0, 20, 80).Draw(t, "ref"), ReportedBy: id.Draw(t, "by"),
			TimestampMs: rapid.Int64Range(0, maxSafeInteger).Draw(t, "time"),
		}
		if rapid.Bool().Draw(t, "expires") {
			at := rapid.Int64Range(0, maxSafeInteger).Draw(t, "at")
			e.ExpiresAtMs = &at
		}
		e.Link(BlacklistGenesis, priv)
		wire := e.WireJSON()
		back, err := ParseBlacklistEvent(wire)
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("%s read as %+v, %v", wire, back, err)
		}
		if canonical, err := CanonicalJSON(wire); err != nil || !bytes.Equal(canonical, wire) {
			t.Fatalf("%s is not canonical: %s, %v", wire, canonical, err)
		}
		if !json.Valid(e.HashPreimage()) {
			t.Fatalf("pre-image %s", e.HashPreimage())
		}
	})
}

func FuzzParseBlacklistEvent(f *testing.F) {
	for _, c := range loadGolden(f).Blacklist.Chain {
		f.Add([]byte(c.Record))
	}
	f.Add([]byte(`{"eventId":"a","timestampMs":0,"evidenceSignatureVerified":false}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseBlacklistEvent(text)
		if err != nil {
			return
		}
		wire := e.WireJSON()
		again, err := ParseBlacklistEvent(wire)
		if err != nil || !reflect.DeepEqual(again, e) || !bytes.Equal(again.WireJSON(), wire) {
			t.Fatalf("%s became %s, %v", wire, again.WireJSON(), err)
		}
		if again.ComputeHash() != e.ComputeHash() {
			t.Fatal("hash changed")
		}
	})
}

func BenchmarkEventHash(b *testing.B) {
	e := goldenEvents(b, loadGolden(b))[1]
	b.ReportAllocs()
	for b.Loop() {
		e.ComputeHash()
	}
}

func BenchmarkParseBlacklistEvent(b *testing.B) {
	e := goldenEvents(b, loadGolden(b))[1]
	wire := e.WireJSON()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBlacklistEvent(wire); err != nil {
			b.Fatal(err)
		}
	}
}
