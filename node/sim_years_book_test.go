package node

import (
	"strings"
	"testing"
)

// TestKeyBook: the judge of TestSimKeyYears finds each use that a window forbids, and each refusal that it does; of what is not sure it says nothing.
func TestKeyBook(t *testing.T) {
	const s, overlap = int64(1000), int64(60_000)
	for name, tc := range map[string]struct {
		subject, key string
		at           int64
		accepted     bool
		want         string
	}{
		"in its window":                        {"agent/a", "1", 50 * s, true, ""},
		"refused in its window":                {"agent/a", "1", 50 * s, false, "refused inside"},
		"about when it begins":                 {"agent/a", "2", 105 * s, false, ""},
		"before it begins":                     {"agent/a", "2", 80 * s, true, "accepted outside"},
		"refused in the overlap":               {"agent/a", "1", 140 * s, false, "refused inside"},
		"about the end of the overlap":         {"agent/a", "1", 165 * s, true, ""},
		"beyond the overlap":                   {"agent/a", "1", 190 * s, true, "accepted outside"},
		"the next one in the overlap":          {"agent/a", "2", 140 * s, false, "refused inside"},
		"after its revocation":                 {"agent/a", "2", 330 * s, true, "accepted outside"},
		"refused after its revocation":         {"agent/a", "2", 330 * s, false, ""},
		"recovered":                            {"agent/a", "4", 450 * s, false, "refused inside"},
		"all others end with a recovery":       {"agent/a", "1", 450 * s, true, "accepted outside"},
		"revoked before it began":              {"agent/b", "2", 240 * s, true, "accepted outside"},
		"the one before it goes on for ever":   {"agent/b", "1", 900 * s, false, "refused inside"},
		"never announced":                      {"agent/a", "9", 50 * s, true, "never began"},
		"nobody takes what was not announced":  {"agent/a", "9", 50 * s, false, ""},
		"who shares a key has it beforehand":   {"gossip", "2", 50 * s, true, ""},
		"and forgets the one before":           {"gossip", "1", 300 * s, true, "accepted outside"},
		"and needs the one before for a while": {"gossip", "1", 130 * s, false, "refused inside"},
	} {
		b := newKeyBook()
		for _, kind := range []string{"agent", "gossip"} {
			b.overlap(kind, overlap)
		}
		for _, of := range []string{"agent/a", "agent/b", "gossip"} {
			b.begins(of, "1", span{0, 0})
		}
		b.begins("agent/a", "2", span{98 * s, 100 * s})
		b.revokes("agent/a", "2", span{300 * s, 301 * s})
		b.revokes("agent/a", "2", span{900 * s, 901 * s})
		b.recovers("agent/a", "4", span{400 * s, 402 * s})
		b.begins("agent/b", "2", span{200 * s, 200 * s})
		b.revokes("agent/b", "2", span{150 * s, 151 * s})
		b.begins("gossip", "2", span{98 * s, 102 * s})
		b.used(keyUseSeen{subject: tc.subject, key: tc.key, span: span{tc.at, tc.at}, accepted: tc.accepted, what: "a test"})
		got := strings.Join(b.judge(), "; ")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
