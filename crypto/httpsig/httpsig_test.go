package httpsig

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// The Ed25519 example of RFC 9421, section B.2.6: base and signature, to the byte.
func TestRFC9421Ed25519Vector(t *testing.T) {
	const params = `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
	const want = `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ` + params
	path, _, err := splitTarget("/foo?param=Value&Pet=dog")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := Authority("example.com")
	if err != nil {
		t.Fatal(err)
	}
	base := signatureBase([]component{{"date", "Tue, 20 Apr 2021 02:07:55 GMT"}, {"@method", "POST"}, {"@path", path},
		{"@authority", authority}, {"content-type", "application/json"}, {"content-length", "18"}}, params)
	if string(base) != want {
		t.Fatalf("the base is\n%s\nwant\n%s", base, want)
	}
	pub, err := crypto.ParsePublicKey("JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
	if err != nil {
		t.Fatal(err)
	}
	if !crypto.Verify(pub, base, sig) {
		t.Error("the signature of the RFC does not verify over our base")
	}
	base[0] ^= 1
	if crypto.Verify(pub, base, sig) {
		t.Error("it verifies over another base")
	}
}

// Values of RFC 9530: appendix B.1 and the empty body; and of RFC 9421, appendix B.2.
func TestRFC9530Digests(t *testing.T) {
	for body, want := range map[string]string{
		"{\"hello\": \"world\"}\n": "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
		`{"hello": "world"}`:       "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
		"":                         "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
	} {
		sum := crypto.Sum([]byte(body))
		if got := ContentDigest(sum); got != want {
			t.Errorf("%q: %s, want %s", body, got, want)
		}
		if got, err := ParseContentDigest(" " + want + "\t"); err != nil || got != sum {
			t.Errorf("%s: %s, %v", want, got, err)
		}
		both := "sha-512=:" + strings.Repeat("A", 86) + "==:, " + want
		if got, err := ParseContentDigest(both); err != nil || got != sum {
			t.Errorf("beside sha-512: %s, %v", got, err)
		}
	}
}

func TestSignatureBaseOfTheProfile(t *testing.T) {
	s := good(t)
	r, err := Parse(s.method, s.target, s.get)
	if err != nil {
		t.Fatal(err)
	}
	keyid := "agent-1:" + crypto.PublicOf(keyOf("agent-1")).KeyID()
	want := `"@method": POST
"@authority": service.example
"@path": /tasks
"@query": ?urgent=1&x=%2F
"content-digest": ` + ContentDigest(crypto.Sum([]byte(testBody))) + `
"@signature-params": ("@method" "@authority" "@path" "@query" "content-digest");created=1767225600;expires=1767225660;nonce="5b3c2a1e-0001-4000-8000-000000000001";keyid="` + keyid + `";tag="edgecoder"`
	if string(r.Canonical()) != want || string(r.AppendCanonical([]byte("x"))) != "x"+want {
		t.Errorf("the base is\n%s\nwant\n%s", r.Canonical(), want)
	}
	if r.AgentID != "agent-1" || r.TimestampMs != testCreated*1000 || r.ExpiresMs() != (testCreated+60)*1000 || r.Nonce != testParams().Nonce ||
		r.Method != "POST" || r.Path != "/tasks?urgent=1&x=%2F" || !r.MatchesBody([]byte(testBody)) || r.Profile() != crypto.ProfileRFC9421 ||
		r.Message.Authority != "service.example" || r.Message.KeyID != crypto.PublicOf(keyOf("agent-1")).KeyID() {
		t.Errorf("%+v, %+v", r, r.Message)
	}
	if !goodAdmitted(s) {
		t.Error("not admitted")
	}
}

// Any id that crypto.CheckID takes survives, and all sorts of targets.
func TestRoundTrip(t *testing.T) {
	for _, id := range []string{"a", "agent:1", "agent;1", `quote"back\slash`, "a b", "ünï", "日本", "%41", "~", strings.Repeat("ä", 64)} {
		for _, target := range []string{"/", "/?", "/a?b", "/a?b?c", "/%2e/ü"[:4], "/a//b", "/" + strings.Repeat("x", 2000)} {
			p, r := testParams(), testRequest()
			p.AgentID, r.Target = id, target
			s := signedBy(t, keyOf(id), p, r)
			if ok, err := admitted(s, id, crypto.PublicOf(keyOf(id)), testBody); !ok || err != nil {
				t.Errorf("%q %q: %v", id, target, err)
			}
		}
	}
}

// Path is what was signed of the target: nothing but an empty query is left out.
func TestPathKeepsTheQuery(t *testing.T) {
	for target, want := range map[string]string{"/": "/", "/?": "/", "/a?b?": "/a?b?", "/a??": "/a??", "/a?b": "/a?b"} {
		r := testRequest()
		r.Target = target
		signed, err := Sign(keyOf("agent-1"), testParams(), r)
		if err != nil || signed.Request.Path != want {
			t.Errorf("%s: %s, %v, want %s", target, signed.Request.Path, err, want)
		}
	}
}

func TestKeyIDHasOneSpelling(t *testing.T) {
	pub := crypto.PublicOf(keyOf("k"))
	for _, id := range []string{"a", "a:b", "ü", "a%", "-._~", "a b"} {
		agent, key, err := parseKeyID(KeyID(id, pub))
		if err != nil || agent != id || key != pub.KeyID() {
			t.Errorf("%q: %q %q %v", id, agent, key, err)
		}
	}
	digits := pub.KeyID()
	for _, bad := range []string{
		"", "a", "a:", ":" + digits, "a:" + digits[:15], "a:" + digits + "0", "a:" + strings.ToUpper("abcdefabcdefabcd"), "a:b:" + digits,
		"%61:" + digits, "%c3%bc:" + digits, "%C3:" + digits, "%:" + digits, "%C:" + digits, "a%0A:" + digits, "ü:" + digits, "a b:" + digits, "%20a:" + digits,
		strings.Repeat("a", 129) + ":" + digits,
	} {
		if agent, _, err := parseKeyID(bad); err == nil {
			t.Errorf("%q is read as %q", bad, agent)
		}
	}
}

func TestAuthority(t *testing.T) {
	for host, want := range map[string]string{
		"Example.COM": "example.com", "example.com:443": "example.com", "example.com:80": "example.com", "example.com:8443": "example.com:8443",
		"127.0.0.1:4301": "127.0.0.1:4301", "[::1]": "[::1]", "[::1]:443": "[::1]", "[2001:DB8::1]:1": "[2001:db8::1]:1", "a_b.internal": "a_b.internal",
	} {
		if got, err := Authority(host); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", host, got, err, want)
		}
	}
	for _, host := range []string{"", ":443", "a:", "a:0", "a:080", "a:65536", "a:-1", "a:x", "user@a", "a/b", "a b", "ä", "a\n", "a#", "a?", "::1", "[::1", "::1]", "[a]b", "[]", "[g::]", "a,b", strings.Repeat("a", 254)} {
		if got, err := Authority(host); err == nil {
			t.Errorf("%q is taken as %q", host, got)
		} else if !errors.Is(err, crypto.ErrMalformed) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// Components and parameters in any order, other parties beside, alg as a word:
// each is a valid signature of the profile.
func TestOtherValidShapes(t *testing.T) {
	key, pub := keyOf("agent-1"), crypto.PublicOf(keyOf("agent-1"))
	keyid := KeyID("agent-1", pub)
	for name, list := range map[string]string{
		"other order": `("content-digest" "@query" "@path" "@authority" "@method");tag="edgecoder";keyid="` + keyid + `";nonce="n";expires=1767225660;created=1767225600`,
		"with alg":    `("@method" "@authority" "@path" "@query" "content-digest");created=1767225600;expires=1767225660;nonce="n";keyid="` + keyid + `";alg="ed25519";tag="edgecoder"`,
		"an hour":     `("@method" "@authority" "@path" "@query" "content-digest");created=1767225600;expires=1767229200;nonce="n";keyid="` + keyid + `";tag="edgecoder"`,
	} {
		s := resigned(t, key, good(t), "sig1", list)
		if !goodAdmitted(s) {
			_, err := Parse(s.method, s.target, s.get)
			t.Errorf("%s: %v", name, err)
		}
		other := s.with(HeaderSignatureInput, `proxy=("@method");created=1;tag="proxy", `+s.headers[HeaderSignatureInput]+`, flag, n=1`).
			with(HeaderSignature, s.headers[HeaderSignature]+`, proxy=:AAAA:`)
		if !goodAdmitted(other) {
			_, err := Parse(other.method, other.target, other.get)
			t.Errorf("%s, beside others: %v", name, err)
		}
	}
}

// resigned puts an inner list under a label and signs what it covers, as a
// client of another make would, whatever the list says.
func resigned(t testing.TB, key crypto.PrivateKey, s sent, label, list string) sent {
	t.Helper()
	path, query, err := splitTarget(s.target)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := Authority(s.headers[HeaderHost])
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"@method": s.method, "@authority": authority, "@path": path, "@query": query, HeaderContentDigest: s.headers[HeaderContentDigest], "date": ""}
	var lines []component
	inner, _, _ := strings.Cut(strings.TrimPrefix(list, "("), ")")
	for _, name := range strings.Fields(inner) {
		name, _, _ = strings.Cut(strings.Trim(name, `"`), `"`)
		lines = append(lines, component{name, values[name]})
	}
	sig := base64.StdEncoding.EncodeToString(signBytes(key, signatureBase(lines, list)))
	return s.with(HeaderSignatureInput, label+"="+list).with(HeaderSignature, label+"=:"+sig+":")
}

func signBytes(key crypto.PrivateKey, text []byte) []byte {
	sig, err := key.Sign(nil, text, &ed25519.Options{})
	if err != nil {
		panic(err)
	}
	return sig
}

// TestMustReject: each of these is properly signed by the agent over what it
// says, or changed on its way; none may pass.
func TestMustReject(t *testing.T) {
	key, pub := keyOf("agent-1"), crypto.PublicOf(keyOf("agent-1"))
	keyid := KeyID("agent-1", pub)
	const five = `("@method" "@authority" "@path" "@query" "content-digest")`
	params := func(created, expires, nonce, keyid, tag string) string {
		return five + created + expires + nonce + keyid + tag
	}
	c, e, n, k, tag := ";created=1767225600", ";expires=1767225660", `;nonce="n"`, `;keyid="`+keyid+`"`, `;tag="edgecoder"`
	all := params(c, e, n, k, tag)
	g := good(t)
	lists := map[string]struct {
		list string
		want error
	}{
		"no created":           {params("", e, n, k, tag), crypto.ErrMalformed},
		"no expires":           {params(c, "", n, k, tag), crypto.ErrMalformed},
		"no nonce":             {params(c, e, "", k, tag), crypto.ErrMalformed},
		"no keyid":             {params(c, e, n, "", tag), crypto.ErrMalformed},
		"no tag":               {params(c, e, n, k, ""), crypto.ErrMissingHeaders},
		"tag of another":       {params(c, e, n, k, `;tag="edgecoders"`), crypto.ErrMissingHeaders},
		"tag in capitals":      {params(c, e, n, k, `;tag="Edgecoder"`), crypto.ErrMissingHeaders},
		"tag as a token":       {params(c, e, n, k, `;tag=edgecoder`), crypto.ErrMissingHeaders},
		"created twice":        {params(c+c, e, n, k, tag), crypto.ErrMalformed},
		"tag twice":            {params(c, e, n, k, `;tag="x"`+tag), crypto.ErrMalformed},
		"created as a string":  {params(`;created="1767225600"`, e, n, k, tag), crypto.ErrMalformed},
		"created as a decimal": {params(`;created=1767225600.0`, e, n, k, tag), crypto.ErrMalformed},
		"created with zeros":   {params(`;created=01767225600`, e, n, k, tag), crypto.ErrMalformed},
		"created as a date":    {params(`;created=@1767225600`, e, n, k, tag), crypto.ErrMalformed},
		"created zero":         {params(`;created=0`, `;expires=1`, n, k, tag), crypto.ErrMalformed},
		"created negative":     {params(`;created=-1`, `;expires=1`, n, k, tag), crypto.ErrMalformed},
		"created in ms":        {params(`;created=17672256000000`, `;expires=17672256000001`, n, k, tag), crypto.ErrMalformed},
		"expires at created":   {params(c, ";expires=1767225600", n, k, tag), crypto.ErrMalformed},
		"expires before":       {params(c, ";expires=1767225599", n, k, tag), crypto.ErrMalformed},
		"expires too late":     {params(c, ";expires=1767229201", n, k, tag), crypto.ErrMalformed},
		"nonce empty":          {params(c, e, `;nonce=""`, k, tag), crypto.ErrMalformed},
		"nonce with a space":   {params(c, e, `;nonce="a b"`, k, tag), crypto.ErrMalformed},
		"nonce as a token":     {params(c, e, `;nonce=n`, k, tag), crypto.ErrMalformed},
		"nonce as bytes":       {params(c, e, `;nonce=:AAAA:`, k, tag), crypto.ErrMalformed},
		"nonce too long":       {params(c, e, `;nonce="`+strings.Repeat("n", 129)+`"`, k, tag), crypto.ErrMalformed},
		"keyid of no agent":    {params(c, e, n, `;keyid="`+pub.KeyID()+`"`, tag), crypto.ErrMalformed},
		"keyid as a token":     {params(c, e, n, `;keyid=agent`, tag), crypto.ErrMalformed},
		"another algorithm":    {all + `;alg="rsa-pss-sha512"`, crypto.ErrMalformed},
		"alg as a token":       {all + `;alg=ed25519`, crypto.ErrMalformed},
		"unknown parameter":    {all + `;extra=1`, crypto.ErrMalformed},
		"no method":            {`("@authority" "@path" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"no authority":         {`("@method" "@path" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"no path":              {`("@method" "@authority" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"no query":             {`("@method" "@authority" "@path" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"no digest":            {`("@method" "@authority" "@path" "@query")` + c + e + n + k + tag, crypto.ErrMalformed},
		"nothing covered":      {`()` + c + e + n + k + tag, crypto.ErrMalformed},
		"a component twice":    {`("@method" "@method" "@authority" "@path" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"one more component":   {`("@method" "@authority" "@path" "@query" "content-digest" "date")` + c + e + n + k + tag, crypto.ErrMalformed},
		"with a parameter":     {`("@method" "@authority" "@path" "@query" "content-digest";sf)` + c + e + n + k + tag, crypto.ErrMalformed},
		"component in caps":    {`("@method" "@authority" "@path" "@query" "Content-Digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"component as a token": {`(a "@authority" "@path" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"two spaces":           {`("@method"  "@authority" "@path" "@query" "content-digest")` + c + e + n + k + tag, crypto.ErrMalformed},
		"space after ;":        {strings.Replace(all, ";nonce", "; nonce", 1), crypto.ErrMalformed},
	}
	for name, tt := range lists {
		s := resigned(t, key, g, "sig1", tt.list)
		if _, err := Parse(s.method, s.target, s.get); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	twice := resigned(t, key, g, "sig1", all)
	sig := twice.headers[HeaderSignature]
	for name, s := range map[string]sent{
		"two with our tag":        twice.with(HeaderSignatureInput, "sig1="+all+", sig2="+all).with(HeaderSignature, sig+", "+strings.Replace(sig, "sig1", "sig2", 1)),
		"label twice":             twice.with(HeaderSignatureInput, "sig1="+all+", sig1="+all),
		"signature twice":         twice.with(HeaderSignature, sig+", "+sig),
		"signature elsewhere":     twice.with(HeaderSignature, strings.Replace(sig, "sig1", "sig2", 1)),
		"signature cut":           twice.with(HeaderSignature, "sig1=:AAAA:"),
		"signature as a string":   twice.with(HeaderSignature, `sig1="`+strings.Trim(sig[5:], ":")+`"`),
		"signature parameter":     twice.with(HeaderSignature, sig+";a"),
		"signature bits":          g.swap(t, HeaderSignature, "==:", "=:"),
		"signature unpadded bits": flipTrailing(t, g),
		"signature as a list":     twice.with(HeaderSignature, "sig1=("+sig[5:]+")"),
		"no structured field":     twice.with(HeaderSignatureInput, "sig1="+all+","),
		"input as an item":        twice.with(HeaderSignatureInput, "sig1"+tag),
		"no comma space":          twice.with(HeaderSignatureInput, "sig1="+all+",x=1"),
		"huge":                    twice.with(HeaderSignatureInput, strings.Repeat("a=1, ", 2000)+"sig1="+all),
		"digest twice":            g.with(HeaderContentDigest, g.headers[HeaderContentDigest]+", "+g.headers[HeaderContentDigest]),
		"digest of another kind":  g.swap(t, HeaderContentDigest, "sha-256", "sha-512"),
		"digest in capitals":      g.swap(t, HeaderContentDigest, "sha-256", "SHA-256"),
		"digest short":            g.with(HeaderContentDigest, "sha-256=:AAAA:"),
		"digest parameter":        g.with(HeaderContentDigest, g.headers[HeaderContentDigest]+";a=1"),
		"digest as a string":      g.with(HeaderContentDigest, `sha-256="x"`),
		"no signature":            g.with(HeaderSignature, ""),
		"no input":                g.with(HeaderSignatureInput, " "),
		"no digest header":        g.with(HeaderContentDigest, ""),
		"no host":                 g.with(HeaderHost, ""),
		"host of two":             g.with(HeaderHost, "service.example, evil.example"),
		"method in lower case":    {"post", g.target, g.headers},
		"target without slash":    {g.method, "tasks", g.headers},
		"empty target":            {g.method, "", g.headers},
		"absolute target":         {g.method, "https://service.example/tasks", g.headers},
		"fragment":                {g.method, "/tasks?urgent=1#x", g.headers},
		"newline in the target":   {g.method, "/tasks\n", g.headers},
		"target beyond ASCII":     {g.method, "/ü", g.headers},
		"space in the target":     {g.method, "/a b", g.headers},
		"target too long":         {g.method, "/" + strings.Repeat("x", 2048), g.headers},
	} {
		_, err := Parse(s.method, s.target, s.get)
		if !errors.Is(err, crypto.ErrMalformed) && !errors.Is(err, crypto.ErrMissingHeaders) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flipTrailing spells the signature with bits that no byte has.
func flipTrailing(t *testing.T, s sent) sent {
	t.Helper()
	text := s.headers[HeaderSignature]
	at := strings.Index(text, "==:") - 1
	next := strings.NewReplacer("A", "B", "Q", "R", "g", "h", "w", "x").Replace(text[at : at+1])
	return s.with(HeaderSignature, text[:at]+next+text[at+1:])
}

// What is well-formed but was not signed like this.
func TestWhatWasSignedIsBound(t *testing.T) {
	g, pub := good(t), crypto.PublicOf(keyOf("agent-1"))
	other := crypto.PublicOf(keyOf("other"))
	if !goodAdmitted(g) {
		t.Fatal("the good one is refused")
	}
	for name, s := range map[string]sent{
		"another host":     g.with(HeaderHost, "other.example"),
		"another port":     g.with(HeaderHost, "service.example:8443"),
		"another method":   {"PUT", g.target, g.headers},
		"another path":     {g.method, "/task?urgent=1&x=%2F", g.headers},
		"another query":    {g.method, "/tasks?urgent=0&x=%2F", g.headers},
		"no query":         {g.method, "/tasks", g.headers},
		"decoded":          {g.method, "/tasks?urgent=1&x=/", g.headers},
		"another body":     g.with(HeaderContentDigest, ContentDigest(crypto.Sum([]byte("{}")))),
		"another agent":    g.swap(t, HeaderSignatureInput, "agent-1", "agent-2"),
		"another key":      g.swap(t, HeaderSignatureInput, pub.KeyID(), other.KeyID()),
		"another nonce":    g.swap(t, HeaderSignatureInput, "5b3c", "5b3d"),
		"later":            g.swap(t, HeaderSignatureInput, "created=1767225600", "created=1767225601"),
		"longer":           g.swap(t, HeaderSignatureInput, "expires=1767225660", "expires=1767225661"),
		"reordered":        g.swap(t, HeaderSignatureInput, `"@method" "@authority"`, `"@authority" "@method"`),
		"alg added":        g.swap(t, HeaderSignatureInput, `;tag=`, `;alg="ed25519";tag=`),
		"digest beside":    g.with(HeaderContentDigest, g.headers[HeaderContentDigest]+", sha-512=:AAAA:"),
		"signed by others": signedBy(t, keyOf("other"), testParams(), testRequest()),
	} {
		if ok, _ := admitted(s, "agent-1", pub, testBody); ok {
			t.Errorf("%s: admitted", name)
		}
	}
	for name, s := range map[string]sent{
		"host in another case": g.with(HeaderHost, "SERVICE.example"),
		"without the port":     g.with(HeaderHost, "service.example"),
		"white space":          g.with(HeaderContentDigest, "  "+g.headers[HeaderContentDigest]+"\t"),
	} {
		if ok, err := admitted(s, "agent-1", pub, testBody); !ok {
			t.Errorf("%s: refused, %v", name, err)
		}
	}
	if ok, _ := admitted(g, "agent-1", pub, testBody+" "); ok {
		t.Error("a body that arrived changed: admitted")
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	g := good(t)
	for _, name := range []string{HeaderSignatureInput, HeaderSignature, HeaderContentDigest} {
		text := g.headers[name]
		for i := range len(text) * 8 {
			changed := []byte(text)
			changed[i/8] ^= 1 << (i % 8)
			if goodAdmitted(g.with(name, string(changed))) {
				t.Errorf("%s: bit %d flipped, still admitted: %q", name, i, changed)
			}
		}
	}
}

func TestReadChoosesTheProfile(t *testing.T) {
	g := good(t)
	five, err := crypto.SignRequest(keyOf("agent-1"), "agent-1", "POST", g.target, []byte(testBody), testCreated*1000, "nonce")
	if err != nil {
		t.Fatal(err)
	}
	f := sent{method: g.method, target: g.target, headers: map[string]string{}}
	for _, h := range five.Headers() {
		f.headers[h[0]] = h[1]
	}
	both := g
	for _, h := range five.Headers() {
		both = both.with(h[0], h[1])
	}
	for name, tt := range map[string]struct {
		s       sent
		profile crypto.Profile
		want    error
	}{
		"message":                    {g, crypto.ProfileRFC9421, nil},
		"five":                       {f, crypto.ProfileFiveHeader, nil},
		"five and host":              {f.with(HeaderHost, "h").with(HeaderContentDigest, "junk"), crypto.ProfileFiveHeader, nil},
		"five, another's message":    {f.with(HeaderSignatureInput, `p=("@method");tag="proxy"`).with(HeaderSignature, "p=:AAAA:"), crypto.ProfileFiveHeader, nil},
		"both":                       {both, 0, crypto.ErrMalformed},
		"message and an agent id":    {g.with(crypto.HeaderAgentID, "agent-2"), 0, crypto.ErrMalformed},
		"message and a five-sig":     {g.with(crypto.HeaderSignature, "x"), 0, crypto.ErrMalformed},
		"five, unreadable message":   {f.with(HeaderSignatureInput, "(("), 0, crypto.ErrMalformed},
		"five, spelt in another way": {f.with(HeaderSignatureInput, `p=("@method");tag="edgecoder";tag="x"`), 0, crypto.ErrMalformed},
		"four":                       {f.with(crypto.HeaderNonce, ""), 0, crypto.ErrMissingHeaders},
		"nothing":                    {sent{method: "GET", target: "/"}, 0, crypto.ErrMissingHeaders},
		"signature alone":            {sent{method: "GET", target: "/", headers: map[string]string{HeaderSignature: g.headers[HeaderSignature]}}, 0, crypto.ErrMissingHeaders},
	} {
		r, err := Read(tt.s.method, tt.s.target, tt.s.get)
		if !errors.Is(err, tt.want) || err == nil && r.Profile() != tt.profile {
			t.Errorf("%s: %s, %v", name, r.Profile(), err)
		}
	}
}

func TestSignRefusesWhatParseWould(t *testing.T) {
	key := keyOf("agent-1")
	for name, change := range map[string]func(*Params, *Request){
		"agent":           func(p *Params, _ *Request) { p.AgentID = "a\n" },
		"no agent":        func(p *Params, _ *Request) { p.AgentID = "" },
		"nonce":           func(p *Params, _ *Request) { p.Nonce = "a b" },
		"nonce not ASCII": func(p *Params, _ *Request) { p.Nonce = "ü" },
		"time":            func(p *Params, _ *Request) { p.Created, p.Expires = -1, 5 },
		"no end":          func(p *Params, _ *Request) { p.Expires = 0 },
		"method":          func(_ *Params, r *Request) { r.Method = "get" },
		"host":            func(_ *Params, r *Request) { r.Authority = "" },
		"target":          func(_ *Params, r *Request) { r.Target = "*" },
		"digest":          func(_ *Params, r *Request) { r.ContentDigest = ContentDigest(crypto.Sum(nil)) },
		"digest spelling": func(_ *Params, r *Request) { r.ContentDigest = "junk(" },
	} {
		p, r := testParams(), testRequest()
		change(&p, &r)
		if _, err := Sign(key, p, r); !errors.Is(err, crypto.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Sign(key[:10], testParams(), testRequest()); err == nil {
		t.Error("signed with half a key")
	}
	r := testRequest()
	r.ContentDigest = "sha-512=:AAAA:, " + ContentDigest(r.BodySHA256)
	signed, err := Sign(key, testParams(), r)
	if err != nil || signed.ContentDigest != r.ContentDigest || !goodAdmitted(onTheWire(signed, r)) {
		t.Errorf("a digest of one's own: %v", err)
	}
}

func TestHasOurs(t *testing.T) {
	g := good(t)
	for input, want := range map[string]bool{
		"": false, `p=("@method");tag="proxy"`: false, `edgecoder=("@method");tag="proxy"`: true, `p=("@method");tag="edgecoder"`: true, "((": true,
		g.headers[HeaderSignatureInput]: true,
	} {
		if HasOurs(input) != want {
			t.Errorf("%q: %t", input, !want)
		}
	}
}

// FuzzParse: whatever is read keeps the rules of the profile, reads the same
// again, and its base says what was read, each in one line.
func FuzzParse(f *testing.F) {
	g := good(f)
	f.Add(g.method, g.target, g.headers[HeaderHost], g.headers[HeaderContentDigest], g.headers[HeaderSignatureInput], g.headers[HeaderSignature])
	f.Add(g.method, g.target+"?", g.headers[HeaderHost], g.headers[HeaderContentDigest], g.headers[HeaderSignatureInput], g.headers[HeaderSignature])
	f.Add("GET", "/", "[::1]:1", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:, x=1", `a=(), b=("@method");tag="edgecoder"`, "b=:AA==:")
	f.Add("GET", "/?", "h", `a="\"";b=%"x"`, `a=@1, b=?0;c=-0.0, d=(1 2.5);e=*t`, `a=:a:`)
	f.Fuzz(func(t *testing.T, method, target, host, digest, input, signature string) {
		headers := map[string]string{HeaderHost: host, HeaderContentDigest: digest, HeaderSignatureInput: input, HeaderSignature: signature}
		s := sent{method, target, headers}
		r, err := Parse(method, target, s.get)
		if err != nil {
			if !errors.Is(err, crypto.ErrMalformed) && !errors.Is(err, crypto.ErrMissingHeaders) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		m := r.Message
		life := (m.ExpiresMs - r.TimestampMs) / 1000
		if crypto.CheckID(r.AgentID) != nil || crypto.CheckNonce(r.Nonce) != nil || r.TimestampMs < 1000 || life < 1 || life > MaxLifetime || len(m.KeyID) != keyIDDigits {
			t.Errorf("%+v %+v", r, m)
		}
		lines := strings.Split(string(m.Base), "\n")
		if len(lines) != len(components)+1 {
			t.Fatalf("a base of %d lines: %q", len(lines), m.Base)
		}
		have := strings.Join(lines, "\n") + "\n"
		path, query, _ := strings.Cut(r.Path, "?")
		for _, want := range []string{`"@method": ` + r.Method, `"@authority": ` + m.Authority, `"@path": ` + path, `"@query": ?` + query,
			fmt.Sprintf(";created=%d", r.TimestampMs/1000), fmt.Sprintf(";expires=%d", m.ExpiresMs/1000), ";tag=\"edgecoder\""} {
			if !strings.Contains(have, want) {
				t.Errorf("the base lacks %q:\n%s", want, m.Base)
			}
		}
		again, err := Parse(method, r.Path, s.with(HeaderHost, m.Authority).get)
		if err != nil || string(again.Canonical()) != string(r.Canonical()) || again.Path != r.Path {
			t.Errorf("read again: %v", err)
		}
	})
}
