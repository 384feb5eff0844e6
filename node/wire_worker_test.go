package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wireWorker is an existing agent written from WIRE.md 2 and 7 alone: it knows
// JSON, five headers and Ed25519, and nothing of this house.
type wireWorker struct {
	t      *testing.T
	http   *http.Client
	id     string
	key    ed25519.PrivateKey
	x25519 string
	token  string // registrationToken
	mesh   string // x-mesh-token, if it has one
}

// wireAnswer is what came back; status 0: nothing did.
type wireAnswer struct {
	status int
	text   string
	body   struct {
		Accepted  bool
		MeshToken string
		Error     string
		Reason    string
		OK        bool
		Blacklist struct{ Agents []string }
	}
}

// httpClient trusts the cluster's CA, as an agent's operator has set it up.
func (c *trio) httpClient() *http.Client {
	c.t.Helper()
	ca, err := os.ReadFile(filepath.Join(c.cfgs[0].DataDir, fileCA))
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	c.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 15 * time.Second}
}

func newWireWorker(t *testing.T, cl *http.Client, id, token string) *wireWorker {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &wireWorker{t: t, http: cl, id: id, key: key, x25519: b64(randomBytes(t)), token: token}
}

// randomBytes are 32 of them: a nonce, or an X25519 key.
func randomBytes(t *testing.T) []byte {
	t.Helper()
	out := make([]byte, 32)
	if _, err := rand.Read(out); err != nil {
		t.Fatal(err)
	}
	out[31] &= 0x7f
	return out
}

func (w *wireWorker) pem(key ed25519.PrivateKey) string {
	w.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign returns the five headers over a request, as of now.
func (w *wireWorker) sign(path, body string) map[string]string {
	w.t.Helper()
	nonce := hex.EncodeToString(randomBytes(w.t)[:16])
	return w.signWith(w.key, strconv.FormatInt(time.Now().UnixMilli(), 10), nonce, path, body)
}

func (w *wireWorker) signWith(key ed25519.PrivateKey, at, nonce, path, body string) map[string]string {
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	text := strings.Join([]string{at, nonce, "POST", path, hash}, "\n")
	return map[string]string{"x-agent-id": w.id, "x-timestamp-ms": at, "x-nonce": nonce, "x-body-sha256": hash,
		"x-signature": b64(ed25519.Sign(key, []byte(text)))}
}

// registerBody is what workers send on every loop, with members changed or added.
func (w *wireWorker) registerBody(more ...string) string {
	w.t.Helper()
	body := map[string]any{"agentId": w.id, "os": "debian", "version": "1.2.3", "mode": "swarm-only", "clientType": "edgecoder-native",
		"maxConcurrentTasks": 1, "publicKeyPem": w.pem(w.key), "x25519PublicKey": w.x25519, "registrationToken": w.token,
		"powerTelemetry": map[string]any{"onACPower": true, "cpuUsagePct": 12.5}, "sandboxMode": "docker"}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *wireWorker) call() string { return fmt.Sprintf(`{"agentId":%q,"sandboxMode":"docker"}`, w.id) }

// post sends one request to one coordinator.
func (w *wireWorker) post(ctx context.Context, addr, path, body string, headers map[string]string) (out wireAnswer) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Error(err)
		return out
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	if w.mesh != "" {
		r.Header.Set("x-mesh-token", w.mesh)
	}
	resp, err := w.http.Do(r)
	if err != nil {
		out.text = err.Error()
		return out
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &out.body)
	}
	if err != nil {
		out.text = err.Error()
		return out
	}
	out.status, out.text = resp.StatusCode, string(text)
	return out
}

// settle posts the same bytes until a node decides: an election on a busy machine
// is no answer.
func (w *wireWorker) settle(addr, path, body string, headers map[string]string) (out wireAnswer) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if out = w.post(w.t.Context(), addr, path, body, headers); out.status != 0 && out.status != 503 {
			return out
		}
		pause(w.t.Context(), 50*time.Millisecond)
	}
	return out
}

// enrolled registers a worker at one node and has it approved.
func (c *trio) enrolled(cl *http.Client, i int, id string) *wireWorker {
	c.t.Helper()
	w := newWireWorker(c.t, cl, id, c.token("agent", 1))
	body := w.registerBody()
	if a := w.settle(c.cfgs[i].APIAddr, "/register", body, w.sign("/register", body)); a.body.Reason != "node_pending_coordinator_approval" {
		c.t.Fatalf("%s: %+v", id, a)
	}
	if _, err := c.client(i, c.admin).ApproveAgent(c.t.Context(), id); err != nil {
		c.t.Fatal(err)
	}
	return w
}
