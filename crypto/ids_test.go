package crypto

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
)

func TestCheckID(t *testing.T) {
	for _, good := range []string{"a", "agent-1", "Ümläut 漢字", strings.Repeat("x", 128), "with space"} {
		if err := CheckID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 129), "a\nb", "a\x00", "\x7f", "\u0085", "\xff", "\xed\xa0\x80", strings.Repeat("é", 65)} {
		if err := CheckID(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

// Two ids that look alike must not both be good.
func TestCheckIDRefusesWhatCannotBeSeen(t *testing.T) {
	for _, good := range []string{"two words", "two  spaces", "Ǻ", "a\u0301", "☃", "漢字", "agent\ufffd"} {
		if err := CheckID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, r := range []rune{'\u00a0', '\u00ad', '\u034f', '\u061c', '\u115f', '\u1160', '\u1680', '\u17b4', '\u180b', '\u180e', '\u2003', '\u200b',
		'\u200d', '\u200e', '\u2028', '\u2029', '\u202e', '\u202f', '\u2060', '\u2066', '\u2800', '\u3000', '\u3164', '\ufe0f', '\ufeff', '\uffa0',
		'\ufff9', '\U0001d173', '\U000e0041', '\U000e0100'} {
		for _, bad := range []string{"agent" + string(r) + "1", string(r) + "agent", "agent" + string(r)} {
			if err := CheckID(bad); err == nil {
				t.Errorf("accepted %+q", bad)
			}
		}
	}
	for _, bad := range []string{" ", " agent", "agent ", "\tagent", "agent\n"} {
		if err := CheckID(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

// A chain that was written under another rule stays verifiable.
func TestEventsKeepIDsThatAreRefusedToday(t *testing.T) {
	e := BlacklistEvent{EventID: "e", AgentID: "agent\u200b", ReasonCode: ReasonManualReview, Reason: "because", EvidenceHashSHA256: Sum(nil).String(),
		ReporterID: "r ", ReportedBy: "r", TimestampMs: 1}
	e.Link(BlacklistGenesis, testKey(t, 1))
	if _, err := ParseBlacklistEvent(e.WireJSON()); err != nil {
		t.Error(err)
	}
}

func TestNewUUID(t *testing.T) {
	zero, err := NewUUID(bytes.NewReader(make([]byte, 16)))
	if err != nil || zero != "00000000-0000-4000-8000-000000000000" {
		t.Errorf("of zeros: %s, %v", zero, err)
	}
	ones, err := NewUUID(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)))
	if err != nil || ones != "ffffffff-ffff-4fff-bfff-ffffffffffff" {
		t.Errorf("of ones: %s, %v", ones, err)
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	counted, err := NewUUID(bytes.NewReader([]byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")))
	if err != nil || !form.MatchString(counted) || counted != "01234567-89ab-4def-8123-456789abcdef" {
		t.Errorf("%s, %v", counted, err)
	}
	if _, err := NewUUID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("short randomness accepted")
	}
	if _, err := NewUUID(nil); err == nil {
		t.Error("no randomness accepted")
	}
}

func TestEnrollProofText(t *testing.T) {
	got := string(EnrollProofText("cluster-1", "agent-1", "abc"))
	want := "edgecoder enroll v1\ncluster-1\nagent-1\nba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got != want {
		t.Errorf("text %q", got)
	}
}

// No statement of one kind can be read as one of another: the first bytes differ.
func TestStatementsAreApart(t *testing.T) {
	v := loadGolden(t)
	request, err := ParseSignedRequest("POST", "/pull", headerOf(v.RequestSigning.Valid[1].Headers))
	if err != nil {
		t.Fatal(err)
	}
	starts := map[string]string{
		"request":   string(request.Canonical()[:11]),
		"evidence":  string(ReporterEvidence{}.Canonical()[:11]),
		"enrolment": string(EnrollProofText("c", "a", "t")[:21]),
		"statement": string(statementText("enroll v1", [][]byte{[]byte("c")})[:21]),
	}
	for a, x := range starts {
		for b, y := range starts {
			if a != b && (strings.HasPrefix(x, y) || strings.HasPrefix(y, x)) {
				t.Errorf("%s and %s begin alike: %q, %q", a, b, x, y)
			}
		}
	}
	if len(base64.StdEncoding.EncodeToString(request.Signature[:])) != 88 {
		t.Error("signature length")
	}
}

// TestKeyChangeProof: it proves one change, of one agent of one cluster, by one key.
func TestKeyChangeProof(t *testing.T) {
	next, current, other := testKey(t, 1), PublicOf(testKey(t, 2)), testKey(t, 3)
	proof := SignKeyChange(next, "cluster", "agent", current)
	if !VerifyKeyChange(PublicOf(next), proof, "cluster", "agent", current) {
		t.Fatal("the proof does not verify")
	}
	for name, ok := range map[string]bool{
		"another key":         VerifyKeyChange(PublicOf(other), proof, "cluster", "agent", current),
		"another cluster":     VerifyKeyChange(PublicOf(next), proof, "clusteragent", "", current),
		"another agent":       VerifyKeyChange(PublicOf(next), proof, "cluster", "agent-2", current),
		"another current key": VerifyKeyChange(PublicOf(next), proof, "cluster", "agent", PublicOf(other)),
		"another's proof":     VerifyKeyChange(PublicOf(next), SignKeyChange(other, "cluster", "agent", current), "cluster", "agent", current),
		"an encryption proof": VerifyKeyChange(PublicOf(next), SignEncryptionKey(next, "cluster", "agent", current[:]), "cluster", "agent", current),
	} {
		if ok {
			t.Errorf("%s: it verifies", name)
		}
	}
}
