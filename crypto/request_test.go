package crypto

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func headerOf(headers map[string]string) func(string) string {
	return func(name string) string { return headers[name] }
}

func TestRequestSigningGolden(t *testing.T) {
	v := loadGolden(t)
	priv, pub := v.key(t, "agent1")
	key := verifyKey(t, priv)
	for _, c := range v.RequestSigning.Valid {
		r, err := ParseSignedRequest(c.Method, c.Path, headerOf(c.Headers))
		if err != nil {
			t.Fatalf("%s: %v", c.Path, err)
		}
		if got := string(r.Canonical()); got != c.CanonicalString {
			t.Errorf("%s: canonical\n%q", c.Path, got)
		}
		if !Verify(pub, r.Canonical(), r.Signature[:]) || !key.Verify(r.Canonical(), r.Signature[:]) {
			t.Errorf("%s: signature refused", c.Path)
		}
		if !r.MatchesBody([]byte(c.Body)) || r.MatchesBody([]byte(c.Body+" ")) {
			t.Errorf("%s: body", c.Path)
		}
		signed, err := SignRequest(priv, c.AgentID, c.Method, c.Path, []byte(c.Body), r.TimestampMs, r.Nonce)
		if err != nil || signed != r {
			t.Errorf("%s: signing again: %+v, %v", c.Path, signed, err)
		}
		names := []string{HeaderAgentID, HeaderTimestamp, HeaderNonce, HeaderBodySHA256, HeaderSignature}
		for i, h := range r.Headers() {
			if h[0] != names[i] || h[1] != c.Headers[h[0]] {
				t.Errorf("%s: header %d is %v", c.Path, i, h)
			}
		}
	}
}

// The verification cases of the reference. The skew is the caller's to check; here the test is the caller.
func TestRequestVerificationCases(t *testing.T) {
	v := loadGolden(t)
	for _, c := range v.RequestSigning.VerificationCases {
		base := v.RequestSigning.Valid[c.Base]
		method, path, signer := base.Method, base.Path, "agent1"
		headers := maps.Clone(base.Headers)
		maps.Copy(headers, c.Override.Headers)
		if c.Override.Method != "" {
			method = c.Override.Method
		}
		if c.Override.Path != "" {
			path = c.Override.Path
		}
		if c.Override.PublicKey != "" {
			signer = c.Override.PublicKey
		}
		_, pub := v.key(t, signer)
		if got := verdict(method, path, headers, pub, c.NowMs, v.RequestSigning.MaxSkewMs); got != c.Result.Reason {
			t.Errorf("%s: %q, want %q", c.Case, got, c.Result.Reason)
		}
	}
}

func verdict(method, path string, headers map[string]string, pub PublicKey, nowMs, maxSkewMs int64) string {
	r, err := ParseSignedRequest(method, path, headerOf(headers))
	skew := max(nowMs-r.TimestampMs, r.TimestampMs-nowMs)
	switch {
	case errors.Is(err, ErrMissingHeaders):
		return "missing_headers"
	case err != nil:
		return "malformed"
	case skew > maxSkewMs:
		return "timestamp_skew"
	case !Verify(pub, r.Canonical(), r.Signature[:]):
		return "invalid_signature"
	}
	return ""
}

func TestRequestMustReject(t *testing.T) {
	v := loadGolden(t)
	cases := v.RequestSigning.MustRejectInNewSystem
	never := cases[0]
	_, err := ParseSignedRequest(never.Method, never.Path, headerOf(never.Headers))
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), HeaderTimestamp) {
		t.Errorf("%s: %v", never.Case, err)
	}
	replaced := cases[1]
	base := v.RequestSigning.Valid[0]
	r, err := ParseSignedRequest(base.Method, base.Path, headerOf(base.Headers))
	if err != nil {
		t.Fatal(err)
	}
	if Sum([]byte(replaced.SubstitutedBody)).String() != replaced.SubstitutedBodySha256 || r.MatchesBody([]byte(replaced.SubstitutedBody)) {
		t.Errorf("%s: accepted", replaced.Case)
	}
}

func TestRequestMissingHeaders(t *testing.T) {
	good := loadGolden(t).RequestSigning.Valid[0].Headers
	for name := range good {
		headers := maps.Clone(good)
		headers[name] = ""
		r, err := ParseSignedRequest("POST", "/heartbeat", headerOf(headers))
		if !errors.Is(err, ErrMissingHeaders) || errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), name) || r != (SignedRequest{}) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	// Missing is said before malformed, as in the reference.
	_, err := ParseSignedRequest("bad method", "", headerOf(map[string]string{HeaderTimestamp: "never"}))
	if !errors.Is(err, ErrMissingHeaders) || !strings.Contains(err.Error(), "x-agent-id, x-nonce, x-body-sha256, x-signature") {
		t.Errorf("all but one missing: %v", err)
	}
}

func TestRequestMalformed(t *testing.T) {
	good := loadGolden(t).RequestSigning.Valid[0].Headers
	sig := good[HeaderSignature]
	bad := map[string][]string{
		HeaderAgentID:   {"a\nb", strings.Repeat("x", 129), "\xff", "a\x00"},
		HeaderTimestamp: {"never", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "1 ", "0x1", "12345678901234567", "1_000", "١", "9223372036854775808"},
		HeaderNonce:     {"a b", "a\nb", "é", "\x7f", strings.Repeat("x", 129), "a\x00", "\t"},
		HeaderBodySHA256: {strings.ToUpper(good[HeaderBodySHA256]), good[HeaderBodySHA256][1:], good[HeaderBodySHA256] + "0",
			" " + good[HeaderBodySHA256][1:], strings.Repeat("g", 64)},
		HeaderSignature: {sig[:87], sig + "=", strings.TrimRight(sig, "="), sig[:85] + "R==", sig[:40] + "\n" + sig[40:], sig[:40] + "\n" + sig[41:],
			sig[:10] + "_" + sig[11:], sig[:10] + "-" + sig[11:], " " + sig[1:], sig[:84] + "====", "AAAA"},
	}
	for name, values := range bad {
		for _, value := range values {
			headers := maps.Clone(good)
			headers[name] = value
			r, err := ParseSignedRequest("POST", "/heartbeat", headerOf(headers))
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), name) || r != (SignedRequest{}) {
				t.Errorf("%s %q: %v", name, value, err)
			}
		}
	}
	for _, method := range []string{"", "post", "POST ", "P\n", "ABCDEFGHIJKLMNOPQ", "GET1", "É"} {
		if _, err := ParseSignedRequest(method, "/x", headerOf(good)); !errors.Is(err, ErrMalformed) {
			t.Errorf("method %q: %v", method, err)
		}
	}
	for _, path := range []string{"", "x", "/a b", "/a\n", "/\x00", "/\xff", "/\u0085", "/\u2028", "/\u00a0", "/" + strings.Repeat("x", 2048)} {
		if _, err := ParseSignedRequest("POST", path, headerOf(good)); !errors.Is(err, ErrMalformed) {
			t.Errorf("path %.20q: %v", path, err)
		}
	}
}

func TestRequestLimits(t *testing.T) {
	priv := testKey(t, 1)
	longest, err := SignRequest(priv, strings.Repeat("x", 128), strings.Repeat("M", 16), "/"+strings.Repeat("é", 1023)+"x", nil, 9999999999999999, strings.Repeat("~", 128))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, h := range longest.Headers() {
		headers[h[0]] = h[1]
	}
	if back, err := ParseSignedRequest(longest.Method, longest.Path, headerOf(headers)); err != nil || back != longest {
		t.Errorf("read back: %v", err)
	}
	for name, sign := range map[string]func() (SignedRequest, error){
		"negative time": func() (SignedRequest, error) { return SignRequest(priv, "a", "GET", "/", nil, -1, "n") },
		"far time":      func() (SignedRequest, error) { return SignRequest(priv, "a", "GET", "/", nil, 1e16, "n") },
		"no nonce":      func() (SignedRequest, error) { return SignRequest(priv, "a", "GET", "/", nil, 1, "") },
		"no agent":      func() (SignedRequest, error) { return SignRequest(priv, "", "GET", "/", nil, 1, "n") },
		"no path":       func() (SignedRequest, error) { return SignRequest(priv, "a", "GET", "", nil, 1, "n") },
		"no key":        func() (SignedRequest, error) { return SignRequest(nil, "a", "GET", "/", nil, 1, "n") },
	} {
		if r, err := sign(); err == nil || r != (SignedRequest{}) {
			t.Errorf("%s: signed", name)
		}
	}
}

// Whatever bit of whatever is signed is flipped, the request is no longer good. The agent id is not signed.
func TestRequestEveryBit(t *testing.T) {
	v := loadGolden(t)
	priv, _ := v.key(t, "agent1")
	key := verifyKey(t, priv)
	c := v.RequestSigning.Valid[0]
	accepted := func(method, path string, headers map[string]string) bool {
		r, err := ParseSignedRequest(method, path, headerOf(headers))
		return err == nil && key.Verify(r.Canonical(), r.Signature[:])
	}
	if !accepted(c.Method, c.Path, c.Headers) {
		t.Fatal("not good to begin with")
	}
	flip := func(s string, bit int) string {
		b := []byte(s)
		b[bit/8] ^= 1 << (bit % 8)
		return string(b)
	}
	for bit := range 8 * len(c.Method) {
		if accepted(flip(c.Method, bit), c.Path, c.Headers) {
			t.Errorf("method, bit %d", bit)
		}
	}
	for bit := range 8 * len(c.Path) {
		if accepted(c.Method, flip(c.Path, bit), c.Headers) {
			t.Errorf("path, bit %d", bit)
		}
	}
	for name, value := range c.Headers {
		for bit := range 8 * len(value) {
			headers := maps.Clone(c.Headers)
			headers[name] = flip(value, bit)
			if name != HeaderAgentID && accepted(c.Method, c.Path, headers) {
				t.Errorf("%s, bit %d: %q", name, bit, headers[name])
			}
		}
	}
}

func FuzzParseSignedRequest(f *testing.F) {
	for _, c := range loadGolden(f).RequestSigning.Valid {
		h := c.Headers
		f.Add(c.Method, c.Path, h[HeaderAgentID], h[HeaderTimestamp], h[HeaderNonce], h[HeaderBodySHA256], h[HeaderSignature])
	}
	f.Add("POST", "/", "a", "never", "n", "", "")
	f.Fuzz(func(t *testing.T, method, path, agent, timestamp, nonce, body, signature string) {
		headers := map[string]string{HeaderAgentID: agent, HeaderTimestamp: timestamp, HeaderNonce: nonce, HeaderBodySHA256: body, HeaderSignature: signature}
		r, err := ParseSignedRequest(method, path, headerOf(headers))
		if err != nil {
			if errors.Is(err, ErrMissingHeaders) == errors.Is(err, ErrMalformed) || r != (SignedRequest{}) {
				t.Fatalf("%v", err)
			}
			return
		}
		// One spelling: printing gives back what was read, and the text has exactly its five lines.
		for _, h := range r.Headers() {
			if headers[h[0]] != h[1] {
				t.Fatalf("%s read %q, printed %q", h[0], headers[h[0]], h[1])
			}
		}
		want := strings.Join([]string{timestamp, nonce, method, path, body}, "\n")
		if got := string(r.Canonical()); got != want || strings.Count(got, "\n") != 4 {
			t.Fatalf("canonical %q, want %q", got, want)
		}
	})
}

func BenchmarkRequestCanonical(b *testing.B) {
	c := loadGolden(b).RequestSigning.Valid[0]
	r, err := ParseSignedRequest(c.Method, c.Path, headerOf(c.Headers))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Canonical", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Canonical()
		}
	})
	b.Run("AppendCanonical", func(b *testing.B) {
		dst := make([]byte, 0, 512)
		b.ReportAllocs()
		for b.Loop() {
			dst = r.AppendCanonical(dst[:0])
		}
	})
}

func BenchmarkParseSignedRequest(b *testing.B) {
	c := loadGolden(b).RequestSigning.Valid[0]
	header := headerOf(c.Headers)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSignedRequest(c.Method, c.Path, header); err != nil {
			b.Fatal(err)
		}
	}
}

// What is wrong with a request is told to strangers: it names the header and the rule, and nothing of the house.
func TestRefusalsOfRequestsAreClean(t *testing.T) {
	good := map[string]string{HeaderAgentID: "a", HeaderTimestamp: "1", HeaderNonce: "n", HeaderBodySHA256: Sum(nil).String(), HeaderSignature: b64(make([]byte, SignatureSize))}
	for _, c := range [][3]string{
		{HeaderNonce, "", "missing headers: x-nonce"},
		{HeaderTimestamp, "1.5", `malformed x-timestamp-ms: "1.5" is not a plain decimal of at most 16 digits`},
		{HeaderBodySHA256, "ab", "malformed x-body-sha256: not 64 lower-case hex digits"},
		{HeaderAgentID, "a\n", `malformed x-agent-id: id "a\n": control character`},
	} {
		h := maps.Clone(good)
		h[c[0]] = c[1]
		if _, err := ParseSignedRequest("GET", "/x", headerOf(h)); err == nil || err.Error() != c[2] {
			t.Errorf("%v, want %s", err, c[2])
		}
	}
	if _, err := ParseHash("ab"); err == nil || err.Error() != "want 64 lower-case hex digits, got 2 bytes" {
		t.Error(err)
	}
}
