package cmd

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/golden"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// signerFiles are a signer's key file, and its public key as base64 and in a PEM file.
type signerFiles struct{ key, public, pem string }

func newSigner(t *testing.T, name string) signerFiles {
	t.Helper()
	seed := crypto.Sum([]byte("manifest signer " + name))
	key, err := crypto.GenerateKey(strings.NewReader(string(seed[:])))
	if err != nil {
		t.Fatal(err)
	}
	pub := crypto.PublicOf(key)
	return signerFiles{writeTemp(t, name+".key", string(crypto.MarshalPrivateKeyPEM(key))), pub.String(), writeTemp(t, name+".pem", pub.PEM())}
}

const signFlags = "manifest sign --name bin --version 1.4.2 --source https://models.example/bin --expires 24h"

// signed signs an artifact with all signers and returns the envelope's file.
func signed(t *testing.T, artifact string, signers ...signerFiles) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bin.dsse.json")
	wantStatus(t, runArgs(t, "", append(strings.Fields(signFlags), "--key", signers[0].key, "--out", out, artifact)...), exitDone)
	for _, s := range signers[1:] {
		wantStatus(t, runArgs(t, "", "manifest", "sign", "--append", out, "--out", out, "--key", s.key, artifact), exitDone)
	}
	return out
}

func TestManifestSignAndVerify(t *testing.T) {
	cleanEnv(t)
	a, b, c := newSigner(t, "a"), newSigner(t, "b"), newSigner(t, "c")
	artifact := writeTemp(t, "bin", "the artifact")
	path := signed(t, artifact, a, b)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	envelope, st, err := parseManifest(path, text)
	if err != nil || len(envelope.Signatures) != 2 {
		t.Fatalf("%+v, %v", envelope, err)
	}
	want := manifest.Statement{Name: "bin", Version: "1.4.2", SHA256: crypto.Sum([]byte("the artifact")), Size: 12, Source: "https://models.example/bin",
		IssuedMs: testNowMs, ExpiresMs: testNowMs + 24*3_600_000}
	if st != want {
		t.Errorf("stated %+v", st)
	}
	other := writeTemp(t, "other", "another one!")
	longer := writeTemp(t, "longer", "the artifact and more")
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"one of its signers":         {[]string{"--trusted-key", a.public, path}, exitDone, ""},
		"a key in a file":            {[]string{"--trusted-key", b.pem, path}, exitDone, ""},
		"two of three":               {[]string{"--trusted-key", a.pem, "--trusted-key", b.public, "--trusted-key", c.public, "--threshold", "2", path}, exitDone, ""},
		"the artifact too":           {[]string{"--trusted-key", a.public, "--file", artifact, "--source", "https://models.example/", path}, exitDone, ""},
		"three of three":             {[]string{"--trusted-key", a.pem, "--trusted-key", b.public, "--trusted-key", c.public, "--threshold", "3", path}, exitRefused, "2 of the 3"},
		"a stranger's key":           {[]string{"--trusted-key", c.public, path}, exitRefused, "0 of the 1"},
		"another artifact":           {[]string{"--trusted-key", a.public, "--file", other, path}, exitRefused, "not the artifact"},
		"a longer artifact":          {[]string{"--trusted-key", a.public, "--file", longer, path}, exitRefused, "not the artifact"},
		"another source":             {[]string{"--trusted-key", a.public, "--source", "https://other.example/", path}, exitRefused, "does not begin with"},
		"a key twice":                {[]string{"--trusted-key", a.public, "--trusted-key", a.pem, path}, exitUsage, "twice"},
		"a threshold above the keys": {[]string{"--trusted-key", a.public, "--threshold", "2", path}, exitUsage, "--threshold"},
		"a threshold without keys":   {[]string{"--threshold", "2", path}, exitUsage, "--threshold"},
		"no such artifact":           {[]string{"--trusted-key", a.public, "--file", path + ".no", path}, exitUsage, "no such file"},
		"no such key":                {[]string{"--trusted-key", path + ".no", path}, exitUsage, "no such file"},
		"no envelope":                {[]string{"--trusted-key", a.public, artifact}, exitRefused, "no DSSE envelope"},
		"no cluster":                 {[]string{path}, exitUsage, "no cluster address"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runArgs(t, "", append([]string{"manifest", "verify"}, c.args...)...)
			wantStatus(t, r, c.status)
			if !strings.Contains(r.err, c.says) {
				t.Errorf("says %s, want %q", r.err, c.says)
			}
			if c.status == exitDone && !strings.Contains(r.out, "verified") || c.status == exitRefused && strings.Contains(r.out, " verified") && !strings.Contains(r.out, "NOT verified") {
				t.Errorf("prints %s", r.out)
			}
		})
	}
	r := runArgs(t, "", "manifest", "verify", "--format", "json", "--trusted-key", c.public, path)
	var report manifestReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Verified || report.Statement != want || len(report.Faults) != 1 || report.By != "keys" {
		t.Errorf("%s, %v", r.out, err)
	}
	envelope.Payload[len(envelope.Payload)-2] ^= 1 // a digit of the expiry
	forged := writeTemp(t, "forged", string(envelope.Encode()))
	wantStatus(t, runArgs(t, "", "manifest", "verify", "--trusted-key", a.public, forged), exitRefused)
}

func TestManifestExpired(t *testing.T) {
	cleanEnv(t)
	a := newSigner(t, "a")
	for expires, status := range map[int64]int{testNowMs: exitDone, testNowMs - 1: exitRefused} {
		st := manifest.Statement{Name: "bin", Version: "1", SHA256: crypto.Sum(nil), Size: 1, Source: "https://h/x", IssuedMs: 1_767_000_000_000, ExpiresMs: expires}
		e := dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}
		key, err := crypto.ParsePrivateKeyPEM(readTemp(t, a.key))
		if err != nil || e.Sign(key) != nil {
			t.Fatal(err)
		}
		wantStatus(t, runArgs(t, "", "manifest", "verify", "--trusted-key", a.public, writeTemp(t, "e", string(e.Encode()))), status)
	}
}

// A signer that states another size than the artifact of its digest has is not
// believed either.
func TestManifestWrongSize(t *testing.T) {
	cleanEnv(t)
	a, artifact := newSigner(t, "a"), writeTemp(t, "bin", "the artifact")
	for size, status := range map[int64]int{12: exitDone, 11: exitRefused} {
		st := manifest.Statement{Name: "bin", Version: "1", SHA256: crypto.Sum([]byte("the artifact")), Size: size, Source: "https://h/x", IssuedMs: testNowMs, ExpiresMs: testNowMs + 1}
		e := dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}
		key, err := crypto.ParsePrivateKeyPEM(readTemp(t, a.key))
		if err != nil || e.Sign(key) != nil {
			t.Fatal(err)
		}
		wantStatus(t, runArgs(t, "", "manifest", "verify", "--trusted-key", a.public, "--file", artifact, writeTemp(t, "e", string(e.Encode()))), status)
	}
}

func readTemp(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestManifestSignRefuses(t *testing.T) {
	cleanEnv(t)
	a := newSigner(t, "a")
	artifact, empty := writeTemp(t, "bin", "x"), writeTemp(t, "empty", "")
	there := signed(t, artifact, a)
	base := func(flag, value string) []string {
		args := strings.Fields(signFlags + " --key " + a.key)
		for i := range args {
			if args[i] == "--"+flag {
				args[i+1] = value
			}
		}
		return append(args, artifact)
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"a version without order": {base("version", "latest"), exitUsage, "--version"},
		"plain http":              {base("source", "http://models.example/bin"), exitUsage, "--source"},
		"a source with a query":   {base("source", "https://models.example/x.exe?f=.gguf"), exitUsage, "--source"},
		"no name":                 {base("name", ""), exitUsage, "--name"},
		"eleven years":            {base("expires", "4015d"), exitUsage, "--expires"},
		"no key":                  {base("key", ""), exitUsage, "--key"},
		"no artifact":             {strings.Fields(signFlags + " --key " + a.key), exitUsage, "ARTIFACT"},
		"an empty artifact":       {append(strings.Fields(signFlags+" --key "+a.key), empty), exitUsage, "size"},
		"a directory":             {append(strings.Fields(signFlags+" --key "+a.key), filepath.Dir(artifact)), exitUsage, "regular"},
		"over a file":             {append(base("name", "bin"), "--out", artifact), exitUsage, "--force"},
		"twice by one key":        {[]string{"manifest", "sign", "--append", there, "--key", a.key}, exitRefused, "already"},
		"append under a name":     {[]string{"manifest", "sign", "--append", there, "--name", "x", "--key", a.key}, exitUsage, "--name"},
		"append for another file": {[]string{"manifest", "sign", "--append", there, "--key", newSigner(t, "b").key, empty}, exitRefused, "not the artifact"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runArgs(t, "", c.args...)
			wantStatus(t, r, c.status)
			if !strings.Contains(r.err, c.says) || r.out != "" {
				t.Errorf("says %s, prints %s; want %q", r.err, r.out, c.says)
			}
		})
	}
	r := runArgs(t, "", base("name", "piped")...)
	wantStatus(t, r, exitDone)
	if _, _, err := parseManifest("stdout", []byte(r.out)); err != nil {
		t.Errorf("standard output: %v", err)
	}
	unseen := runArgs(t, "", "manifest", "sign", "--append", there, "--key", newSigner(t, "b").key)
	if wantStatus(t, unseen, exitDone); !strings.Contains(unseen.err, "warning") {
		t.Errorf("appended unseen without a warning: %s", unseen.err)
	}
}

// clusterOf answers as a cluster that trusts the signers and accepted versions.
func clusterOf(t *testing.T, threshold int64, versions []client.ManifestVersion, signers ...signerFiles) *fakeAPI {
	t.Helper()
	trust := client.ManifestTrust{Version: 3, Threshold: threshold, Sources: []string{"https://models.example/"}, Signers: []client.ManifestSigner{}}
	for i, s := range signers {
		key, err := crypto.ParsePublicKey(s.public)
		if err != nil {
			t.Fatal(err)
		}
		trust.Signers = append(trust.Signers, client.ManifestSigner{Name: string(rune('a' + i)), PublicKey: s.public, KeyID: key.KeyID(), AddedMs: testNowMs})
	}
	row := func(call) any {
		if versions == nil {
			return &client.Error{Code: client.CodeNotFound, Detail: "none"}
		}
		return client.Manifest{Name: "bin", Versions: versions}
	}
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/manifests/trust":        always(trust),
		"GET /v1/manifests/accepted/bin": row,
		"GET /v1/manifests":              always(client.Manifests{Manifests: []client.Manifest{{Name: "bin", Versions: versions}}}),
		"POST /v1/manifests":             always(client.ManifestAccepted{Name: "bin", Version: "1.4.2", SHA256: hashText, Index: 9, Signers: []string{"k1"}}),
		"PUT /v1/manifests/trust": func(c call) any {
			var u client.ManifestTrustUpdate
			if err := json.Unmarshal([]byte(c.body), &u); err != nil {
				return &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
			}
			return client.ManifestTrust{Version: 4, Threshold: u.Threshold, Signers: u.Signers, Sources: u.Sources}
		},
	})
	pointAt(t, f)
	return f
}

func TestManifestVerifyByTheCluster(t *testing.T) {
	a, b := newSigner(t, "a"), newSigner(t, "b")
	artifact := writeTemp(t, "bin", "the artifact")
	path := signed(t, artifact, a)
	digest := crypto.Sum([]byte("the artifact")).String()
	row := func(version, sum, state string) []client.ManifestVersion {
		return []client.ManifestVersion{{Version: "9", SHA256: hashText, State: "active"}, {Version: version, SHA256: sum, State: state}}
	}
	for name, c := range map[string]struct {
		threshold int64
		rows      []client.ManifestVersion
		signers   []signerFiles
		status    int
		says      string
	}{
		"accepted":                      {1, row("1.4.2", digest, "active"), []signerFiles{a, b}, exitDone, ""},
		"accepted by another spelling":  {1, row("v1.4.2.0", digest, "active"), []signerFiles{a}, exitDone, ""},
		"not accepted":                  {1, row("1.4.1", digest, "active"), []signerFiles{a}, exitRefused, "not accepted version"},
		"nothing accepted":              {1, nil, []signerFiles{a}, exitRefused, "accepted nothing"},
		"accepted with another digest":  {1, row("1.4.2", hashText, "active"), []signerFiles{a}, exitRefused, "another digest"},
		"expired since":                 {1, row("1.4.2", digest, "expired"), []signerFiles{a}, exitRefused, "expired since"},
		"too few signers":               {2, row("1.4.2", digest, "active"), []signerFiles{a, b}, exitRefused, "it takes 2"},
		"its signer is trusted no more": {1, row("1.4.2", digest, "active"), []signerFiles{b}, exitRefused, "0 of the 1"},
		"nobody is trusted":             {0, row("1.4.2", digest, "active"), nil, exitRefused, "no signers"},
	} {
		t.Run(name, func(t *testing.T) {
			clusterOf(t, c.threshold, c.rows, c.signers...)
			r := runArgs(t, "", "manifest", "verify", "--file", artifact, path)
			wantStatus(t, r, c.status)
			if !strings.Contains(r.err, c.says) {
				t.Errorf("says %s, want %q", r.err, c.says)
			}
		})
	}
}

func TestManifestAcceptAndList(t *testing.T) {
	a := newSigner(t, "a")
	path := signed(t, writeTemp(t, "bin", "the artifact"), a)
	f := clusterOf(t, 1, []client.ManifestVersion{{Version: "1.4.2", SHA256: hashText, State: "active", ExpiresMs: testNowMs + 60_000, AcceptedMs: testNowMs, Signers: []string{"k1", "k2"}}}, a)
	r := runArgs(t, "", "manifest", "accept", path)
	wantStatus(t, r, exitDone)
	calls := f.asked("POST /v1/manifests")
	var sent client.ManifestRequest
	if len(calls) != 1 || json.Unmarshal([]byte(calls[0].body), &sent) != nil || calls[0].header.Get(client.HeaderIdempotencyKey) == "" {
		t.Fatalf("asked %+v", calls)
	}
	if e, err := dsse.Parse(sent.Envelope); err != nil || len(e.Signatures) != 1 {
		t.Errorf("sent %s, %v", sent.Envelope, err)
	}
	piped := runArgs(t, string(readTemp(t, path)), "manifest", "accept", "-", "--format", "json")
	if wantStatus(t, piped, exitDone); !strings.Contains(piped.out, `"index": 9`) {
		t.Errorf("prints %s", piped.out)
	}
	wantStatus(t, runArgs(t, "{}", "manifest", "accept", "-"), exitRefused)
	list := runArgs(t, "", "manifest", "list")
	wantStatus(t, list, exitDone)
	for _, word := range []string{"bin", "1.4.2", "active", hashText[:16], "k1 k2"} {
		if !strings.Contains(list.out, word) {
			t.Errorf("the list lacks %q:\n%s", word, list.out)
		}
	}
}

func TestManifestTrustCommands(t *testing.T) {
	a, b, c := newSigner(t, "a"), newSigner(t, "b"), newSigner(t, "c")
	for name, tc := range map[string]struct {
		args    []string
		signers []signerFiles
		status  int
		want    string // threshold, signers and sources as they are sent
	}{
		"add a signer by file":       {[]string{"add", "--signer", "new=" + c.pem, "--prefix", "m-"}, []signerFiles{a}, exitDone, "1 a new:m- https://models.example/"},
		"add a signer by key":        {[]string{"add", "--signer", "new=" + c.public, "--threshold", "2"}, []signerFiles{a}, exitDone, "2 a new https://models.example/"},
		"the first signer":           {[]string{"add", "--signer", "new=" + c.public}, nil, exitDone, "1 new https://models.example/"},
		"add a source":               {[]string{"add", "--source", "https://h/x/"}, []signerFiles{a}, exitDone, "1 a https://models.example/ https://h/x/"},
		"add a source again":         {[]string{"add", "--source", "https://models.example/"}, []signerFiles{a}, exitDone, "1 a https://models.example/"},
		"remove a signer":            {[]string{"remove", "--signer", "b"}, []signerFiles{a, b}, exitDone, "1 a https://models.example/"},
		"remove the last":            {[]string{"remove", "--signer", "a", "--threshold", "0"}, []signerFiles{a}, exitDone, "0 https://models.example/"},
		"remove a source":            {[]string{"remove", "--source", "https://models.example/"}, []signerFiles{a}, exitDone, "1 a"},
		"remove whom nobody trusts":  {[]string{"remove", "--signer", "x"}, []signerFiles{a}, exitRefused, ""},
		"remove where nobody trusts": {[]string{"remove", "--source", "x"}, []signerFiles{a}, exitRefused, ""},
		"nothing":                    {[]string{"add"}, nil, exitUsage, ""},
		"a prefix alone":             {[]string{"add", "--prefix", "x", "--source", "https://h/"}, nil, exitUsage, ""},
		"a signer without a key":     {[]string{"add", "--signer", "x"}, nil, exitUsage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := clusterOf(t, min(1, int64(len(tc.signers))), nil, tc.signers...)
			wantStatus(t, runArgs(t, "", append([]string{"manifest", "trust"}, tc.args...)...), tc.status)
			puts := f.asked("PUT /v1/manifests/trust")
			if tc.want == "" {
				if len(puts) > 0 {
					t.Errorf("asked %+v", puts)
				}
				return
			}
			var u client.ManifestTrustUpdate
			if len(puts) != 1 || puts[0].header.Get("If-Match") != `"3"` || json.Unmarshal([]byte(puts[0].body), &u) != nil {
				t.Fatalf("asked %+v", puts)
			}
			words := []string{number(u.Threshold)}
			for _, g := range u.Signers {
				words = append(words, strings.TrimSuffix(g.Name+":"+g.Prefix, ":"))
			}
			if got := strings.Join(append(words, u.Sources...), " "); got != tc.want {
				t.Errorf("sent %s, want %s", got, tc.want)
			}
		})
	}
	clusterOf(t, 1, nil, a)
	list := runArgs(t, "", "manifest", "trust", "list")
	if wantStatus(t, list, exitDone); !strings.Contains(list.out, "1 of 1") || !strings.Contains(list.out, "https://models.example/") {
		t.Errorf("prints %s", list.out)
	}
}

// TestManifestOlderFormats: the two formats of WIRE 20.1 and 21, with the keys
// and signatures of the vectors.
func TestManifestOlderFormats(t *testing.T) {
	cleanEnv(t)
	var v struct {
		Keys struct {
			Ed25519 map[string]struct {
				PublicKeyPEM string `json:"publicKeyPem"`
			} `json:"ed25519"`
		} `json:"keys"`
		Model struct {
			Signed json.RawMessage `json:"signed"`
		} `json:"modelManifest"`
		Release struct {
			DistFiles map[string]string `json:"distFiles"`
			Manifest  json.RawMessage   `json:"manifest"`
			Signature string            `json:"signatureOverVerifierPreimage"`
			CI        string            `json:"signatureOverCiPreimage"`
		} `json:"releaseManifest"`
	}
	golden.Load(t, &v)
	model := writeTemp(t, "model.json", string(v.Model.Signed))
	release := writeTemp(t, "release-manifest.json", string(v.Release.Manifest))
	signature, ci := writeTemp(t, "sig", v.Release.Signature+"\n"), writeTemp(t, "ci", v.Release.CI)
	modelKey := writeTemp(t, "m.pem", v.Keys.Ed25519["modelSigner"].PublicKeyPEM)
	releaseKey := writeTemp(t, "r.pem", v.Keys.Ed25519["releaseSigner"].PublicKeyPEM)
	dist := t.TempDir()
	for name, text := range v.Release.DistFiles {
		path := filepath.Join(dist, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const source = "https://models.edgecoder.io/qwen-small-q4.gguf"
	for name, c := range map[string]struct {
		args   []string
		status int
	}{
		"model":                       {[]string{"--as", "model", "--trusted-key", modelKey, "--source", source, model}, exitDone},
		"model from another place":    {[]string{"--as", "model", "--trusted-key", modelKey, "--source", "https://huggingface.co/evil/backdoor.gguf", model}, exitRefused},
		"model by another key":        {[]string{"--as", "model", "--trusted-key", releaseKey, "--source", source, model}, exitRefused},
		"model without its source":    {[]string{"--as", "model", "--trusted-key", modelKey, model}, exitUsage},
		"model, another file":         {[]string{"--as", "model", "--trusted-key", modelKey, "--source", source, "--file", signature, model}, exitRefused},
		"release":                     {[]string{"--as", "release", "--trusted-key", modelKey, "--trusted-key", releaseKey, "--signature", signature, release}, exitDone},
		"release with its tree":       {[]string{"--as", "release", "--trusted-key", releaseKey, "--signature", signature, "--file", dist, release}, exitDone},
		"release with another tree":   {[]string{"--as", "release", "--trusted-key", releaseKey, "--signature", signature, "--file", filepath.Join(dist, "a"), release}, exitRefused},
		"release with another file":   {[]string{"--as", "release", "--trusted-key", releaseKey, "--signature", signature, "--file", model, release}, exitRefused},
		"release as CI signed it":     {[]string{"--as", "release", "--trusted-key", releaseKey, "--signature", ci, release}, exitRefused},
		"model, two must sign":        {[]string{"--as", "model", "--trusted-key", modelKey, "--trusted-key", releaseKey, "--threshold", "2", "--source", source, model}, exitUsage},
		"model unasked":               {[]string{"--trusted-key", modelKey, "--source", source, model}, exitUsage},
		"model unasked, two must":     {[]string{"--trusted-key", modelKey, "--trusted-key", releaseKey, "--threshold", "2", "--source", source, model}, exitUsage},
		"model as a release":          {[]string{"--as", "release", "--trusted-key", modelKey, "--signature", signature, model}, exitRefused},
		"release, two must sign":      {[]string{"--as", "release", "--trusted-key", modelKey, "--trusted-key", releaseKey, "--threshold", "2", "--signature", signature, release}, exitUsage},
		"release unasked":             {[]string{"--trusted-key", releaseKey, "--signature", signature, release}, exitUsage},
		"release from a source":       {[]string{"--as", "release", "--trusted-key", releaseKey, "--signature", signature, "--source", source, release}, exitUsage},
		"an unknown format":           {[]string{"--as", "dsse", "--trusted-key", releaseKey, release}, exitUsage},
		"release without a signature": {[]string{"--as", "release", "--trusted-key", releaseKey, release}, exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			r := runArgs(t, "", append([]string{"manifest", "verify"}, c.args...)...)
			wantStatus(t, r, c.status)
		})
	}
	if err := os.Symlink("elsewhere.js", filepath.Join(dist, "evil.js")); err != nil {
		t.Fatal(err)
	}
	if r := runArgs(t, "", "manifest", "verify", "--as", "release", "--trusted-key", releaseKey, "--signature", signature, "--file", dist, release); r.status != exitRefused || !strings.Contains(r.err, "evil.js is no regular file") {
		t.Errorf("a link beside the files: %+v", r)
	}
}

// TestManifestAppendKeepsTheOldOneWhenItFails: what cannot be written as a whole leaves the signatures that were there.
func TestManifestAppendKeepsTheOldOneWhenItFails(t *testing.T) {
	cleanEnv(t)
	a, b, artifact := newSigner(t, "a"), newSigner(t, "b"), writeTemp(t, "bin", "the artifact")
	path := signed(t, artifact, a)
	before := string(readTemp(t, path))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--append", link, "--out", link}, {"--append", path, "--out", link, "--force"}} {
		r := runArgs(t, "", append([]string{"manifest", "sign", "--key", b.key, artifact}, args...)...)
		if r.status != exitUsage || !strings.Contains(r.err, "no regular file") || string(readTemp(t, path)) != before {
			t.Errorf("%v: %+v", args, r)
		}
	}
	full := errors.New("disk full")
	if err := intoFile(path, true, func(f *os.File) error {
		_, _ = f.WriteString(before[:10])
		return full
	}); !errors.Is(err, full) || string(readTemp(t, path)) != before {
		t.Errorf("%v, and the file is another", err)
	}
	wantNames(t, filepath.Dir(path), filepath.Base(path))
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	wantStatus(t, runArgs(t, "", "manifest", "sign", "--append", path, "--out", path, "--key", b.key, artifact), exitDone)
	if was, err := io.ReadAll(old); err != nil || string(was) != before { // replaced, not written over
		t.Errorf("the file that was open reads as %q, %v", was, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o044 != 0o044 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestManifestRevokeCommand(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/manifests/accepted/bin/revoke": always(client.ManifestRevoked{Name: "bin", Version: "1.4.2", Forgotten: true, Index: 9})})
	pointAt(t, f)
	r := runArgs(t, "", "manifest", "revoke", "bin", "1.4.2", "--forget")
	wantStatus(t, r, exitDone)
	calls := f.asked("POST /v1/manifests/accepted/bin/revoke")
	if len(calls) != 1 || calls[0].body != `{"version":"1.4.2","forget":true}` || !strings.Contains(r.out, "floor again") {
		t.Errorf("asked %+v, prints %s", calls, r.out)
	}
	wantStatus(t, runArgs(t, "", "manifest", "revoke", "bin"), exitUsage)
}

// TestProgressOfALongRead: the last line says that all was read.
func TestProgressOfALongRead(t *testing.T) {
	var out strings.Builder
	r := &progressReader{in: strings.NewReader("0123456789"), out: &out, name: "bin", size: 10}
	buf := make([]byte, 3)
	for {
		if _, err := r.Read(buf); err != nil {
			break
		}
	}
	if got := out.String(); !strings.HasPrefix(got, "\rreading \"bin\": 30 %") || !strings.HasSuffix(got, ": 100 %\n") {
		t.Errorf("wrote %q", got)
	}
}

// The only copy of the signatures before is never written over: the new envelope
// takes its name when it is whole, and no link leads it elsewhere.
func TestManifestAppendInPlaceIsWhole(t *testing.T) {
	cleanEnv(t)
	a, b := newSigner(t, "a"), newSigner(t, "b")
	artifact := writeTemp(t, "bin", "the artifact")
	out := signed(t, artifact, a)
	before, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	kept, link := out+".kept", out+".link"
	if err := errors.Join(os.Link(out, kept), os.Symlink(out, link)); err != nil {
		t.Fatal(err)
	}
	r := runArgs(t, "", "manifest", "sign", "--append", link, "--out", link, "--force", "--key", b.key, artifact)
	if wantStatus(t, r, exitUsage); !strings.Contains(r.err, "no regular file") {
		t.Errorf("through a link: %s", r.err)
	}
	wantStatus(t, runArgs(t, "", "manifest", "sign", "--append", out, "--out", out, "--key", b.key, artifact), exitDone)
	if after, err := os.ReadFile(kept); err != nil || string(after) != string(before) {
		t.Errorf("the old envelope was written over: %v", err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if envelope, _, err := parseManifest(out, text); err != nil || len(envelope.Signatures) != 2 {
		t.Errorf("%d signatures, %v", len(envelope.Signatures), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".edgecoder-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
