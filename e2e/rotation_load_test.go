package e2e

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// signingPatience is how long a client asks for one signed request before it signs
	// another: a signature is good for rotationSkew.
	signingPatience = rotationSkew / 2
	signingPause    = 20 * time.Millisecond // one agent at three nodes: some hundred requests a second
	banPause        = 200 * time.Millisecond
)

// signing is clients of all nodes through which one agent has requests admitted all the
// time, and one that bans. Whatever is refused fails the test.
type signing struct {
	m    *mesh
	stop context.CancelFunc
	all  sync.WaitGroup

	mu        sync.Mutex // guards the rest
	agent     agent      // that signs
	byNode    map[string]int
	byKey     map[string]int // admitted, by key id
	undecided int
	banned    int
}

// sign begins; it ends with the test at the latest.
func (m *mesh) sign(a agent) *signing {
	ctx, stop := context.WithCancel(m.t.Context())
	s := &signing{m: m, stop: stop, agent: a, byNode: map[string]int{}, byKey: map[string]int{}}
	m.t.Cleanup(s.end)
	for _, name := range m.names() {
		cl := m.client(m.verifier, 1, name)
		s.all.Go(func() {
			for k := 0; sleep(ctx, signingPause); k++ {
				s.one(ctx, name, cl, fmt.Sprintf("%s-%d", name, k))
			}
		})
	}
	admin := m.any(m.admin)
	s.all.Go(func() {
		for k := 0; sleep(ctx, banPause); k++ {
			s.ban(ctx, admin, fmt.Sprintf("outlaw-%d", k))
		}
	})
	return s
}

func (s *signing) end() { s.stop(); s.all.Wait() }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// use has further requests signed with another key.
func (s *signing) use(a agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = a
}

// one signs a request and asks until it is decided.
func (s *signing) one(ctx context.Context, node string, cl *client.Client, nonce string) {
	s.mu.Lock()
	a := s.agent
	s.mu.Unlock()
	r := a.request(s.m.t, nonce)
	for begun := time.Now(); time.Since(begun) < signingPatience; {
		got, err := cl.Admit(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if got.Verdict != client.VerdictAdmitted {
				s.m.t.Errorf("%s refused a legitimate request, signed with key %s: %+v", node, keyID(a), got)
			}
			s.count(node, a)
			return
		}
		if e := refusalOf(err); e != "" {
			s.m.t.Errorf("%s refused a legitimate client: %s: %v", node, e, err)
		}
		sleep(ctx, signingPause)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undecided++
}

// refusalOf is the code of an error that refuses who asks; a node that is down, or
// without a leader, refuses nobody.
func refusalOf(err error) string {
	switch code := codeOf(err); code {
	case client.CodeUnauthorized, client.CodeForbidden, client.CodeInvalid, client.CodeConflict, client.CodeNotFound:
		return code
	}
	return ""
}

func (s *signing) count(node string, a agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byNode[node]++
	s.byKey[keyID(a)]++
}

func (s *signing) ban(ctx context.Context, cl *client.Client, id string) {
	_, err := cl.Ban(ctx, banOf(id))
	if ctx.Err() != nil {
		return
	}
	if e := refusalOf(err); e != "" {
		s.m.t.Errorf("a legitimate ban was refused: %s: %v", e, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.banned++
	}
}

// flows waits until clients of every node get admissions, also of one that was just
// started again, and bans are made.
func (s *signing) flows(when string) {
	s.m.t.Helper()
	s.mu.Lock()
	seen, banned := maps.Clone(s.byNode), s.banned
	s.mu.Unlock()
	for _, name := range s.m.names() {
		s.m.eventually("traffic flows at "+name+" "+when, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.byNode[name] > seen[name]+20 && s.banned > banned
		})
	}
}

func keyID(a agent) string { return crypto.PublicOf(a.key).KeyID() }
