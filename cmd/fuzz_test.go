package cmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// FuzzSettings: a settings file is refused or understood, and what was
// understood can be validated without a panic.
func FuzzSettings(f *testing.F) {
	f.Add("name: n\njoin: a:1, b:2\ntrusted_proxies: [10.0.0.0/8, ::1]\n")
	f.Add("join: [a, b]\ndisk_reserve: 1GiB\nbackup_every: 1d\n")
	f.Add("{}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		s := defaultSettings()
		if s.merge([]byte(text)) != nil {
			return
		}
		cfg := s.config(nil)
		_ = s.backups(&cfg)
		cfg.TrustedProxies, _ = s.TrustedProxies.networks()
		cfg.APICert, cfg.APIKey = "", "" // names of files that are not ours to open
		_ = cfg.Validate()
		if changed := changedSettings(s, s); len(changed) != 0 {
			t.Errorf("%q differs from itself in %q", text, changed)
		}
	})
}

// FuzzSizesAndDurations: what is accepted is in range, and a size that is
// written is read back as itself.
func FuzzSizesAndDurations(f *testing.F) {
	for _, seed := range []string{"64MiB", "0", "1 T", "-1", "9223372036854775807", "8192PiB", "30d", "1h30m", "36500d", "36501d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseSize(text); err == nil {
			if again, err := parseSize(sizeText(n)); n < 0 || err != nil || again != n {
				t.Errorf("%q is %d, written %q, read %d, %v", text, n, sizeText(n), again, err)
			}
		}
		if d, err := parseDuration("x", text); err == nil && d <= 0 || d > 0 && d.Round(time.Nanosecond) != d {
			t.Errorf("%q is %s", text, d)
		}
	})
}

// FuzzAuditFile: the reader of audit files hands on only what is JSON.
func FuzzAuditFile(f *testing.F) {
	f.Add(`{"version":1,"chainHead":"h","peers":[{"peerId":"p"}],"events":[{"eventId":"e"},{}]}`)
	f.Add(`{"events":[1,2`)
	f.Add(`{"peers":null,"keys":[],"x":{}} `)
	f.Fuzz(func(t *testing.T, text string) {
		var claim auditClaim
		_ = claim.read(strings.NewReader(text), func(event json.RawMessage) error {
			if !json.Valid(event) {
				t.Errorf("%q: event %q", text, event)
			}
			return nil
		})
	})
}

// FuzzHeaderLines: the headers that `admit` reads have no line breaks in them
// and are those of a signature alone.
func FuzzHeaderLines(f *testing.F) {
	f.Add("x-nonce: a\r\nSignature: b\nsignature: c\ncookie: d\n")
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parseHeaders(text)
		if err != nil {
			return
		}
		for name, value := range headers {
			if name != strings.ToLower(name) || strings.Contains(value, "\n") {
				t.Errorf("%q: %q is %q", text, name, value)
			}
		}
	})
}

// FuzzPolicyWords: a change is refused as usage or changes what it names.
func FuzzPolicyWords(f *testing.F) {
	for _, seed := range append(policyWords, "overrides.a=b=1/2", "agent_profiles.=any") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		change, err := parsePolicy([]string{word})
		if err != nil {
			if exitStatus(err) != exitUsage {
				t.Errorf("%q: %v", word, err)
			}
			return
		}
		if _, err := json.Marshal(change.update(somePolicy)); err != nil {
			t.Errorf("%q: %v", word, err)
		}
	})
}
