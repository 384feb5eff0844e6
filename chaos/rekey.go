package chaos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// Agents change their keys as they go, by POST /register (WIRE.md section 7.1):
// each change is signed by the key that is replaced, and by the one that comes.

// rekeyPause is how long an agent keeps a key: the server allows a change an hour.
const rekeyPause = time.Hour

// oldKeyShare of an agent's requests are signed by the key before the newest, be
// its overlap over or not.
const oldKeyShare = 0.25

// keyring holds the keys of the traffic's agents, by id.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*agentKeys // guarded by mu, as what it holds
}

// agentKeys are those of one agent.
type agentKeys struct {
	newest, before, next crypto.PrivateKey // before: nil until a change; next: of a change whose outcome is not known
	changed              time.Time         // zero: never
	busy                 bool              // a worker asks for the change right now
}

func newKeyring(agents []agent) *keyring {
	k := &keyring{keys: map[string]*agentKeys{}}
	for _, a := range agents {
		k.keys[a.id] = &agentKeys{newest: a.key}
	}
	return k
}

// newest returns the agent with the key that is known to be its newest.
func (k *keyring) newest(a agent) agent {
	k.mu.Lock()
	defer k.mu.Unlock()
	return agent{id: a.id, key: k.keys[a.id].newest}
}

// drawn returns the agents with keys that each may sign with: now and then the
// one before the newest.
func (k *keyring) drawn(agents []agent, rng *mathrand.Rand) []agent {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]agent, len(agents))
	for i, a := range agents {
		keys := k.keys[a.id]
		out[i] = agent{id: a.id, key: keys.newest}
		if keys.before != nil && rng.Float64() < oldKeyShare {
			out[i].key = keys.before
		}
	}
	return out
}

// begin returns the change to ask for: the one whose outcome is open, or a new
// one. False when the agent may not change its key now.
func (k *keyring) begin(id string) (current, next crypto.PrivateKey, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.keys[id]
	if keys.busy || !keys.changed.IsZero() && time.Since(keys.changed) < rekeyPause {
		return nil, nil, false
	}
	if keys.next == nil {
		fresh, err := crypto.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, false
		}
		keys.next = fresh
	}
	keys.busy = true
	return keys.newest, keys.next, true
}

// done notes how a change went. One that was refused may still be under way from
// an earlier try, so the next is asked for again, never another one.
func (k *keyring) done(id string, made bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.keys[id]
	if keys.busy = false; made {
		keys.before, keys.newest, keys.next, keys.changed = keys.newest, keys.next, nil, time.Now()
	}
}

// rekey changes the key of an agent; never of the first one, which signs reports.
func (w *worker) rekey(ctx context.Context) {
	a := w.agents[1+w.rng.IntN(len(w.agents)-1)]
	current, next, ok := w.keys.begin(a.id)
	if !ok {
		return
	}
	from, to := crypto.PublicOf(current), crypto.PublicOf(next)
	op := judge.Op{Kind: judge.KindRekey, Node: w.node(""), Rekey: &judge.Rekey{Agent: a.id, From: from.String(), To: to.String()}}
	done := w.ask(ctx, op, func(ctx context.Context, _ *client.Client, op *judge.Op) error {
		return w.register(ctx, op.Node, client.RegisterRequest{AgentID: a.id, OS: "linux", Version: "1", Mode: "swarm-only", PublicKeyPEM: to.PEM(),
			PublicKeyProof: base64.StdEncoding.EncodeToString(crypto.SignKeyChange(next, a.cluster, a.id, from))}, current)
	})
	w.keys.done(a.id, done.Outcome == judge.OK)
}

// register sends a registration that a key signed.
func (w *worker) register(ctx context.Context, node string, req client.RegisterRequest, key crypto.PrivateKey) error {
	const path = "/register"
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	s, err := crypto.SignRequest(key, req.AgentID, http.MethodPost, path, body, time.Now().UnixMilli(), client.NewClaimID())
	if err != nil {
		return err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, w.field.addrs[node]+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	for _, h := range s.Headers() {
		post.Header.Set(h[0], h[1])
	}
	once := http.Client{Transport: w.field.transport(node), Timeout: askTimeout}
	defer once.CloseIdleConnections()
	resp, err := once.Do(post)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return registered(resp)
}

// maxRegistered bounds the answer.
const maxRegistered = 64 << 10

// registered reads an answer as far as the judge cares: whether it was done.
func registered(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRegistered))
	if err != nil {
		return err
	}
	var said struct {
		Accepted                    bool
		Code, Error, Reason, Detail string
	}
	if json.Unmarshal(text, &said) == nil && resp.StatusCode == http.StatusOK && said.Accepted {
		return nil
	}
	e := &client.Error{Code: cmp.Or(said.Code, said.Error), Detail: fmt.Sprintf("status %d: %s %s", resp.StatusCode, said.Reason, said.Detail)}
	switch {
	case client.KnownCode(e.Code):
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		e.Code = client.CodeForbidden
	default:
		return errors.New(e.Detail)
	}
	return e
}
