package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// yearOwner is an agent or a manifest signer, with all keys that it ever had: it tries the old ones too.
type yearOwner struct {
	y       *keyYears
	kind    string // agent, manifest
	name    string
	changed time.Time // when its key last changed: once an hour at most; owned by orders

	keys []crypto.PrivateKey // guarded by y.mu: the newest last, once it is asked for
}

func (o *yearOwner) subject() string { return o.kind + "/" + o.name }

func (o *yearOwner) all() []crypto.PrivateKey {
	o.y.mu.Lock()
	defer o.y.mu.Unlock()
	return slices.Clone(o.keys)
}

func (o *yearOwner) add(key crypto.PrivateKey) {
	o.y.mu.Lock()
	defer o.y.mu.Unlock()
	o.keys = append(o.keys, key)
}

// use acts with one of the keys by one of the servers: mostly the last two, for which it matters.
func (o *yearOwner) use(dice *mathrand.Rand) {
	keys := o.all()
	if n := len(keys); n > 2 && dice.IntN(4) > 0 {
		keys = keys[n-2:]
	}
	key := keys[dice.IntN(len(keys))]
	s := o.y.sorted()[dice.IntN(len(o.y.servers))]
	if s.running() == nil {
		return
	}
	from := nowMs()
	accepted, decided, what := o.try(o.y.client(s), key)
	if decided {
		o.y.book.used(keyUseSeen{subject: o.subject(), key: crypto.PublicOf(key).KeyID(), span: span{from, nowMs()}, accepted: accepted, what: s.name + ": " + what})
	}
}

func nowMs() int64 { return time.Now().UnixMilli() }

// try asks a server for one decision about a key.
func (o *yearOwner) try(cl *client.Client, key crypto.PrivateKey) (accepted, decided bool, what string) {
	nonce := o.y.fresh()
	if o.kind == "manifest" {
		_, err := cl.AcceptManifest(o.y.t.Context(), signedManifest(nonce, key))
		switch code(err) {
		case client.CodeForbidden, client.CodeInvalid, client.CodeConflict:
			return false, true, err.Error()
		}
		return err == nil, err == nil, "manifest " + nonce
	}
	r, err := signedRequest(o.name, key, nonce)
	if err != nil {
		o.y.book.find("%v", err)
		return false, false, ""
	}
	got, err := cl.Admit(o.y.t.Context(), r)
	if err != nil {
		return false, false, ""
	}
	switch got.Code {
	case client.VerdictOK, client.VerdictKeyExpired, client.VerdictInvalidSignature:
	default:
		o.y.book.find("%s: an honest request was denied: %+v", o.subject(), got)
		return false, false, ""
	}
	return got.Verdict == client.VerdictAdmitted, true, fmt.Sprintf("%+v", got)
}

func signedRequest(id string, key crypto.PrivateKey, nonce string) (client.AdmissionRequest, error) {
	r := client.AdmissionRequest{Method: "POST", Path: "/pull", Headers: map[string]string{}, ClaimID: nonce}
	s, err := crypto.SignRequest(key, id, r.Method, r.Path, []byte("{}"), nowMs(), nonce)
	if err == nil {
		for _, h := range s.Headers() {
			r.Headers[h[0]] = h[1]
		}
	}
	return r, err
}

func signedManifest(name string, key crypto.PrivateKey) []byte {
	st := manifest.Statement{Name: name, Version: "1", SHA256: crypto.Sum([]byte(name)), Size: 1, Source: "https://models.example/x", IssuedMs: nowMs() - 1000, ExpiresMs: nowMs() + 3_600_000}
	e := dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}
	if err := e.Sign(key); err != nil {
		panic(err) // a key of ours on a statement of ours
	}
	return e.Encode()
}

// rotate has the owner's key replaced, at once or in a moment.
func (o *yearOwner) rotate(dice *mathrand.Rand) {
	if time.Since(o.changed) < 61*time.Minute {
		return
	}
	current, next := o.newest(), o.y.newKey()
	beginMs := int64(0)
	if dice.IntN(2) == 0 {
		beginMs = nowMs() + 20_000 + dice.Int64N(60_000)
	}
	o.add(next)
	at, ok := o.y.insist(o.subject()+" is rotated", func(cl *client.Client) error {
		_, err := cl.RotateKey(o.y.t.Context(), o.subject(), client.SignRotation(o.y.cluster, o.subject(), current, next, beginMs, nowMs()))
		return err
	})
	if ok {
		o.changed = time.Now()
		o.y.book.begins(o.subject(), crypto.PublicOf(next).KeyID(), span{max(at.lo, beginMs), max(at.hi, beginMs)})
	}
}

// lose revokes a key: the one before the newest, or an agent's newest, which an operator replaces then.
func (o *yearOwner) lose(dice *mathrand.Rand) {
	keys := o.all()
	newest := o.kind == "agent" && dice.IntN(2) == 0 && time.Since(o.changed) > 10*time.Minute
	if !newest && len(keys) < 2 {
		return
	}
	victim := keys[max(0, len(keys)-2)]
	if newest {
		victim = keys[len(keys)-1]
	}
	if !o.y.revoke(o.subject(), crypto.PublicOf(victim).KeyID()) || !newest {
		return
	}
	time.Sleep(time.Duration(20+dice.IntN(30)) * time.Second)
	next := o.y.newKey()
	o.add(next)
	at, ok := o.y.insist(o.subject()+" is recovered", func(cl *client.Client) error {
		_, err := cl.RotateKey(o.y.t.Context(), o.subject(), client.SignRecovery(o.y.cluster, o.subject(), next, nowMs(), "its key was stolen"))
		return err
	})
	if ok {
		o.changed = time.Now()
		o.y.book.recovers(o.subject(), crypto.PublicOf(next).KeyID(), at)
	}
}

func (o *yearOwner) newest() crypto.PrivateKey { all := o.all(); return all[len(all)-1] }

// revoke ends a key, and tells whether it did: one that left its ring long ago is not there.
func (y *keyYears) revoke(subject, keyID string) bool {
	gone := false
	at, ok := y.insist(subject+": "+keyID+" is revoked", func(cl *client.Client) error {
		_, err := cl.RevokeKey(y.t.Context(), subject, client.RevokeKeyRequest{KeyID: keyID, Reason: "a test"})
		if gone = code(err) == client.CodeNotFound; gone {
			return nil
		}
		return err
	})
	if ok && !gone {
		y.book.revokes(subject, keyID, at)
	}
	return ok && !gone
}

// insist asks one server after the other until something is done; what is refused for good is a finding.
func (y *keyYears) insist(what string, do func(*client.Client) error) (at span, ok bool) {
	at.lo = nowMs()
	var err error
	for i := range 90 {
		s := y.sorted()[i%len(y.servers)]
		if s.running() == nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err = do(y.client(s)); err == nil {
			at.hi = nowMs()
			return at, true
		}
		switch code(err) {
		case client.CodeForbidden, client.CodeUnauthorized, client.CodeInvalid, client.CodeNotFound:
			y.book.find("%s: refused: %v", what, err)
			return at, false
		}
		time.Sleep(time.Second)
	}
	y.book.find("%s: not in 90 tries: %v", what, err)
	return at, false
}

// settleIn enrols whoever acts and sets what schedules there are.
func (y *keyYears) settleIn() {
	ctx := y.t.Context()
	var skew, window = int64(30_000), client.RateLimit{Requests: 1_000_000, WindowMs: 1000}
	p, err := y.client(y.leader()).Policy(ctx)
	if err == nil {
		_, err = y.client(y.leader()).SetPolicy(ctx, p.Version, client.PolicyUpdate{RateLimit: &window, MaxSkewMs: &skew})
	}
	st, statusErr := y.client(y.leader()).Status(ctx)
	if err := errors.Join(err, statusErr); err != nil {
		y.t.Fatal(err)
	}
	y.cluster = st.ClusterID
	trust := client.ManifestTrustUpdate{Threshold: 1, Sources: []string{"https://models.example/"}}
	for _, name := range []string{"a", "b", "c"} {
		o := &yearOwner{y: y, kind: "agent", name: name, keys: []crypto.PrivateKey{y.newKey()}}
		y.enroll(o)
		y.owners = append(y.owners, o)
	}
	for _, name := range []string{"s", "t"} {
		o := &yearOwner{y: y, kind: "manifest", name: name, keys: []crypto.PrivateKey{y.newKey()}}
		trust.Signers = append(trust.Signers, client.ManifestSigner{Name: name, PublicKey: crypto.PublicOf(o.keys[0]).String()})
		y.owners = append(y.owners, o)
	}
	if _, err := y.client(y.leader()).SetManifestTrust(ctx, 0, trust); err != nil {
		y.t.Fatal(err)
	}
	y.schedules()
	for _, o := range y.owners {
		y.book.begins(o.subject(), crypto.PublicOf(o.keys[0]).KeyID(), span{0, nowMs()})
	}
}

func (y *keyYears) enroll(o *yearOwner) {
	ctx, cl := y.t.Context(), y.client(y.leader())
	token, err := cl.CreateToken(ctx, client.TokenRequest{Role: "agent"})
	if err == nil {
		proof := crypto.EnrollProofText(y.cluster, o.name, token.Token)
		_, err = cl.Enroll(ctx, client.EnrollRequest{AgentID: o.name, PublicKey: crypto.PublicOf(o.keys[0]).PEM(), Token: token.Token, Proof: base64.StdEncoding.EncodeToString(ed25519.Sign(o.keys[0], proof))})
	}
	if err == nil {
		_, err = cl.ApproveAgent(ctx, o.name)
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func (y *keyYears) newKey() crypto.PrivateKey {
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // never: crypto/rand
	}
	return key
}

func (y *keyYears) fresh() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.nonces++
	return fmt.Sprint("n", y.nonces)
}

// client returns an administrator's client of one server, which trusts the CAs of the file that servers write for clients.
func (y *keyYears) client(s *simServer) *client.Client {
	var all []string
	for _, s := range y.sorted() {
		if text, err := os.ReadFile(filepath.Join(s.data(), fileCA)); err == nil && !slices.Contains(all, string(text)) {
			all = append(all, string(text))
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if cas := strings.Join(all, "\n"); cas != y.trusted {
		y.dropClients()
		y.trusted = cas
	}
	if cl := y.clients[s.name]; cl != nil {
		return cl
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(y.trusted))
	cl, err := client.New(client.Config{Addrs: []string{s.url()}, Token: y.admin, Attempts: 1, Timeout: 5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: y.dial}})
	if err != nil {
		panic(err) // an address and a pool of ours
	}
	y.clients[s.name] = cl
	return cl
}

func (y *keyYears) closeClients() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.dropClients()
}

// dropClients closes all clients. The caller holds mu.
func (y *keyYears) dropClients() {
	for name, cl := range y.clients {
		cl.Close()
		delete(y.clients, name)
	}
}

// shakeHands tells whether a server shows a certificate that a client believes who trusts one CA alone.
func (y *keyYears) shakeHands(s *simServer, ca []byte) (accepted, decided bool) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	ctx, cancel := context.WithTimeout(y.t.Context(), 5*time.Second)
	defer cancel()
	raw, err := y.dial(ctx, "tcp", s.api())
	if err != nil {
		return false, false
	}
	defer raw.Close()
	err = tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: s.ip}).HandshakeContext(ctx)
	var wrong *tls.CertificateVerificationError
	return err == nil, err == nil || errors.As(err, &wrong)
}
