package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// fakeCoordinators answers in place of the coordinators.
type fakeCoordinators struct {
	mu           sync.Mutex    // guards deltas
	hold         chan struct{} // deltas wait for it to be closed; nil: they do not
	deltas       []string      // cursors that were asked about
	delta        client.BlacklistDelta
	asked        []client.AdmissionRequest
	err          error
	enter, leave chan struct{} // nil: it answers at once
}

func (f *fakeCoordinators) Admit(ctx context.Context, req client.AdmissionRequest, _ ...client.Option) (client.Admission, error) {
	if f.enter != nil {
		f.enter <- struct{}{}
		<-f.leave
		return client.Admission{}, f.err
	}
	f.asked = append(f.asked, req)
	return client.Admission{Verdict: client.VerdictAdmitted, Code: "ok", ClaimID: req.ClaimID}, f.err
}

func (f *fakeCoordinators) AdmitBatch(ctx context.Context, requests []client.AdmissionRequest, _ ...client.Option) (client.AdmissionResults, error) {
	return client.AdmissionResults{Results: make([]client.Admission, len(requests))}, f.err
}

func (f *fakeCoordinators) BlacklistDelta(_ context.Context, cursor string, _ ...client.Option) (client.BlacklistDelta, error) {
	f.mu.Lock()
	f.deltas = append(f.deltas, cursor)
	f.mu.Unlock()
	if f.hold != nil {
		<-f.hold
	}
	return f.delta, f.err
}

// face is the HTTP face of a rig.
type face struct {
	*rig
	judge        *edge.Judge
	coordinators *fakeCoordinators
	handler      http.Handler
}

func faceOf(r *rig, mode string) *face {
	f := &face{rig: r, coordinators: &fakeCoordinators{}}
	f.judge = &edge.Judge{Mode: mode, Set: r.set, Lease: r.lease, Allow: &edge.AllowList{}, Sync: r.Syncer}
	s := &edge.Server{Judge: f.judge, Coordinators: f.coordinators, Node: client.NodeRef{ID: "e1", Name: "e1"}, Cluster: edgetest.ClusterID, Version: "v", Log: slog.New(slog.DiscardHandler)}
	f.handler = s.HTTP().Handler
	return f
}

func (f *face) do(method, path, body string, change ...func(*http.Request)) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Net: "unix"}))
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (f *face) allowed(t *testing.T, agent string) client.Allowed {
	t.Helper()
	status, text := f.do("GET", "/v1/allowed/"+agent, "")
	var out client.Allowed
	if err := json.Unmarshal([]byte(text), &out); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, text, err)
	}
	return out
}

func TestP2EdgeModes(t *testing.T) {
	for _, mode := range []string{client.EdgeStrict, client.EdgeBestEffort} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(3)
				var down atomic.Bool
				down.Store(true)
				m := &edgetest.Member{ID: "c1", Cluster: c, Before: func(context.Context, string) error {
					if down.Load() {
						return edgetest.ErrDown
					}
					return nil
				}}
				f := faceOf(startRig(t, t.TempDir(), c, m), mode)
				if a := f.allowed(t, "good"); a.Allowed || a.Code != client.AllowedUnknown || a.Freshness.AgeMs != -1 {
					t.Errorf("before any list: %+v", a)
				}
				down.Store(false)
				c.Ban("bad", 3, 0)
				c.Ban("soon", 1, time.Now().UnixMilli()+20_000)
				c.Cosign(3)
				pass(edge.DefaultEvery * 2)
				if a := f.allowed(t, "bad-1"); a.Allowed || a.Code != client.AllowedBlacklisted || a.Seq != 2 {
					t.Errorf("%+v", a)
				}
				if a := f.allowed(t, "good"); !a.Allowed || !a.Freshness.Fresh || a.Freshness.Size != 4 || a.Freshness.Mode != mode {
					t.Errorf("%+v", a)
				}
				if status, _ := f.do("GET", "/readyz", ""); status != http.StatusOK {
					t.Errorf("ready: %d", status)
				}
				if f.allowed(t, "soon-0").Allowed {
					t.Error("soon ends early")
				}
				down.Store(true)
				pass(time.Minute)
				strict := mode == client.EdgeStrict
				a := f.allowed(t, "good")
				if a.Allowed == strict || a.Freshness.Fresh || strict && a.Code != client.AllowedStale || f.allowed(t, "bad-1").Code != client.AllowedBlacklisted {
					t.Errorf("%+v", a)
				}
				if f.allowed(t, "soon-0").Code == client.AllowedBlacklisted {
					t.Error("an expired ban is in force")
				}
				status, text := f.do("GET", "/readyz", "")
				if (status == http.StatusOK) == strict {
					t.Errorf("ready: %d %s", status, text)
				}
			})
		})
	}
}

func TestEdgeAllowListOutranks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 2, 0)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		path := filepath.Join(t.TempDir(), "allow")
		write := func(text string) error {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return f.judge.Allow.Load(path)
		}
		if err := write("# never locked out\n\nbad-0 \n"); err != nil {
			t.Fatal(err)
		}
		if a := f.allowed(t, "bad-0"); !a.Allowed || a.Code != client.AllowedListed || a.Seq != 1 {
			t.Errorf("%+v", a)
		}
		if err := write("bad-1\nbad\x01\n"); err == nil || !strings.Contains(err.Error(), "line 2") || !f.allowed(t, "bad-0").Allowed {
			t.Errorf("a bad list: %v", err)
		}
		if err := write(strings.Repeat("x", 3<<20)); err == nil {
			t.Error("a list of 3 MiB")
		}
		if err := write(""); err != nil || f.allowed(t, "bad-0").Allowed {
			t.Errorf("an empty list: %v", err)
		}
		if f.judge.Allow.Load(path+"x") == nil {
			t.Error("no list")
		}
	})
}

func TestEdgeBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 2, 0)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		_, text := f.do("POST", "/v1/allowed", `{"agent_ids":["bad-1","good","."]}`)
		var out client.AllowedResults
		if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Results) != 3 || out.Results[0].Allowed || !out.Results[1].Allowed || !out.Results[2].Allowed {
			t.Errorf("%s, %v", text, err)
		}
		if got := f.judge.Checks(); got[client.AllowedOK] != 2 || got[client.AllowedBlacklisted] != 1 {
			t.Errorf("%v", got)
		}
	})
}

func TestEdgeRefusesBadRequests(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := faceOf(startRig(t, t.TempDir(), newCluster(3)), client.EdgeStrict)
		many, err := json.Marshal(client.AllowedBatch{AgentIDs: slices.Repeat([]string{"a"}, client.MaxBatch+1)})
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			method, path, body string
			change             func(*http.Request)
			status             int
			want               string
		}{
			"no such route":    {"GET", "/v1/blacklist", "", nil, 404, "not_found"},
			"wrong method":     {"DELETE", "/v1/allowed/a", "", nil, 404, "not_found"},
			"control in id":    {"GET", "/v1/allowed/a%01", "", nil, 422, "agent_id"},
			"long id":          {"GET", "/v1/allowed/" + strings.Repeat("a", 129), "", nil, 422, "agent_id"},
			"no agents":        {"POST", "/v1/allowed", `{"agent_ids":[]}`, nil, 422, "agent_ids"},
			"too many":         {"POST", "/v1/allowed", string(many), nil, 422, "agent_ids"},
			"unknown member":   {"POST", "/v1/allowed", `{"agents":[]}`, nil, 422, "unknown field"},
			"two values":       {"POST", "/v1/allowed", `{"agent_ids":["a"]}{}`, nil, 422, "follows"},
			"cut":              {"POST", "/v1/allowed", `{"agent_ids":["a"`, nil, 422, "body"},
			"too large":        {"POST", "/v1/allowed", `{"agent_ids":["` + strings.Repeat("a", 5<<20), nil, 413, "too_large"},
			"a page of a site": {"GET", "/v1/allowed/a", "", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403, "forbidden"},
			"fetched":          {"GET", "/v1/allowed/a", "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "forbidden"},
			"rebound name":     {"GET", "/v1/allowed/a", "", func(r *http.Request) { r.Host = "evil.example:4501" }, 403, "forbidden"},
		} {
			var changes []func(*http.Request)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			if status, text := f.do(c.method, c.path, c.body, changes...); status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%s: %d %.200s", name, status, text)
			}
		}
		for _, host := range []string{"localhost", "localhost:4501", "127.0.0.1:4501", "[::1]:4501", "127.9.9.9"} {
			if status, _ := f.do("GET", "/healthz", "", func(r *http.Request) { r.Host = host }); status != http.StatusOK {
				t.Errorf("host %s: %d", host, status)
			}
		}
	})
}

func TestEdgeForwardsAdmissions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := faceOf(startRig(t, t.TempDir(), newCluster(3)), client.EdgeStrict)
		body := `{"method":"POST","path":"/pull","headers":{"x-agent-id":"a"},"claim_id":"mine"}`
		if status, text := f.do("POST", "/v1/admissions", body); status != http.StatusOK || !strings.Contains(text, `"claim_id":"mine"`) || f.coordinators.asked[0].Path != "/pull" {
			t.Errorf("%d %s", status, text)
		}
		if status, text := f.do("POST", "/v1/admissions/batch", `{"requests":[`+body+`]}`); status != http.StatusOK || !strings.Contains(text, `"results":[{`) {
			t.Errorf("%d %s", status, text)
		}
		for _, c := range []struct {
			err  error
			code string
		}{
			{&client.Error{Code: client.CodeUnknownOutcome, ClaimID: "mine"}, `"code":"unknown_outcome"`},
			{&client.Error{Code: client.CodeUnavailable}, `"code":"unavailable"`},
			{&client.Error{Code: client.CodeUnauthorized, Detail: "secret of the house"}, `"reason":"edge_credential"`},
			{errors.New("torn"), `"code":"internal"`},
		} {
			f.coordinators.err = c.err
			if status, text := f.do("POST", "/v1/admissions", body); status < 500 || !strings.Contains(text, c.code) || strings.Contains(text, "secret of the house") {
				t.Errorf("%v: %d %s", c.err, status, text)
			}
		}
		// A full house is told at once.
		f.coordinators.err, f.coordinators.enter, f.coordinators.leave = nil, make(chan struct{}), make(chan struct{})
		for range 256 {
			go f.do("POST", "/v1/admissions", body)
			<-f.coordinators.enter
		}
		if status, text := f.do("POST", "/v1/admissions", body); status != http.StatusServiceUnavailable || !strings.Contains(text, "overloaded") {
			t.Errorf("%d %s", status, text)
		}
		close(f.coordinators.leave)
		synctest.Wait()
	})
}

func TestEdgeMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 2, 0)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		f.Hint(edge.Hint{Epoch: 1, Size: 7})
		pass(2 * time.Second)
		f.allowed(t, "bad-0")
		_, text := f.do("GET", "/metrics", "")
		for _, want := range []string{"edgecoder_edge_bans 2", "edgecoder_edge_chain_size 2", "edgecoder_edge_chain_lag 5", "edgecoder_edge_fresh 1",
			`edgecoder_edge_checks_total{code="agent_blacklisted"} 1`, "edgecoder_edge_halted 0", "edgecoder_edge_list_age_seconds 2"} {
			if !strings.Contains(text, want+"\n") && !strings.Contains(text, want+".") {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		status, text := f.do("GET", "/v1/status", "")
		var st client.EdgeStatus
		if err := json.Unmarshal([]byte(text), &st); err != nil || status != http.StatusOK || st.Wanted != 7 || st.CosignerSet != 1 || len(st.Cosigners) != 3 || st.Bans != 2 {
			t.Errorf("%s, %v", text, err)
		}
	})
}

// Another edge is as good a source as a coordinator for what is recent.
func TestEdgePagesAreASource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		before := c.Pinned()
		c.Replace(2, 0, 3, 4)
		c.Ban("bad", 30, 0)
		c.Cosign(3)
		pass(edge.DefaultEvery * 2)
		pages := edge.Pages(r.Syncer)
		api, err := client.New(client.Config{Addrs: []string{"https://node"}, Attempts: 1, Transport: inMemory{pages}})
		if err != nil {
			t.Fatal(err)
		}
		store, _, _, err := edge.OpenStore(t.TempDir(), edgetest.ClusterID, edgetest.Seal)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		other := edge.NewSyncer(edge.Config{ClusterID: edgetest.ClusterID, Store: store, Set: edge.NewSet(), Lease: edge.NewLease(edge.NewClock(), edge.DefaultLease),
			Sources: func(uint64) []edge.Source { return []edge.Source{edge.ClientSource{ID: "edge", Client: api}} }}, before)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		other.Run(ctx)
		if st := other.Status(); st.Position.Head.Size != 30 || st.Position.Trusted.Version != 2 {
			t.Error(brief(st))
		}
		for path, want := range map[string]int{"/v1/blacklist/events?from=x&limit=1": 422, "/v1/blacklist/events?from=1": 422, "/v1/blacklist/cosigners?from=-1": 422, "/other": 404} {
			w := httptest.NewRecorder()
			if pages.ServeHTTP(w, httptest.NewRequest("GET", path, nil)); w.Code != want {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
	})
}

// inMemory is a transport to a handler.
type inMemory struct{ h http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	m.h.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestEdgeClientGuard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 1, 0)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		api, err := client.New(client.Config{Addrs: []string{"http://localhost"}, Attempts: 1, Transport: inMemory{f.handler}})
		if err != nil {
			t.Fatal(err)
		}
		guard := (&client.EdgeClient{Client: api}).Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }),
			func(r *http.Request) string { return r.Header.Get("agent") })
		ask := func(agent string) (int, string) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("agent", agent)
			w := httptest.NewRecorder()
			guard.ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		for agent, want := range map[string]int{"good": 200, "bad-0": 403, "": 401, "..": 200, "a/b": 200} {
			if status, text := ask(agent); status != want {
				t.Errorf("%q: %d %s", agent, status, text)
			}
		}
		f.members[0].Change(func(m *edgetest.Member) { m.Before = func(context.Context, string) error { return edgetest.ErrDown } })
		pass(time.Minute)
		if status, text := ask("good"); status != http.StatusServiceUnavailable || !strings.Contains(text, client.AllowedStale) {
			t.Errorf("stale: %d %s", status, text)
		}
	})
}

// TestEdgeSocketAnswers asks over a real unix socket, as a service does.
func TestEdgeSocketAnswers(t *testing.T) {
	f, addr := overSocket(t, 1000)
	c, err := client.NewEdge(client.EdgeConfig{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a, err := c.Allowed(t.Context(), "bad-7"); err != nil || a.Code != client.AllowedBlacklisted {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.AllowedBatch(t.Context(), []string{"bad-7", "good"}); err != nil || !a.Results[1].Allowed {
		t.Errorf("%+v, %v", a, err)
	}
	if st, err := c.EdgeStatus(t.Context()); err != nil || st.Bans != 1000 {
		t.Errorf("%+v, %v", st, err)
	}
	if got, err := c.Admit(t.Context(), client.AdmissionRequest{Method: "GET", Path: "/"}); err != nil || got.Verdict != client.VerdictAdmitted || f.coordinators.asked[0].ClaimID == "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"unix:", "https://127.0.0.1:1", "http://10.0.0.1:1", ""} {
		if _, err := client.NewEdge(client.EdgeConfig{Addr: bad}); err == nil {
			t.Errorf("address %q", bad)
		}
	}
}

// overSocket is a face on a unix socket, with a real clock.
func overSocket(t testing.TB, bans int) (*face, string) {
	t.Helper()
	c := newCluster(1)
	c.Ban("bad", bans, 0)
	c.Cosign(1)
	store, view, _, err := edge.OpenStore(t.TempDir(), edgetest.ClusterID, edgetest.Seal)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{set: edge.NewSet(), lease: edge.NewLease(edge.NewClock(), edge.DefaultLease), cluster: c}
	r.set.Restore(view)
	r.Syncer = edge.NewSyncer(edge.Config{ClusterID: edgetest.ClusterID, Store: store, Set: r.set, Lease: r.lease,
		Sources: func(uint64) []edge.Source { return []edge.Source{&edgetest.Member{ID: "c1", Cluster: c}} }}, c.Pinned())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	f := faceOf(r, client.EdgeStrict)
	path := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f.handler}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); cancel(); <-done; _ = store.Close() })
	for deadline := time.Now().Add(time.Minute); r.set.View().Len() < bans; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(brief(r.Status()))
		}
	}
	return f, "unix:" + path
}

func FuzzAllowedBatch(f *testing.F) {
	f.Add([]byte(`{"agent_ids":["a","b"]}`))
	f.Add([]byte(`{"agent_ids":null}`))
	s := &edge.Server{Judge: &edge.Judge{Mode: client.EdgeStrict, Set: edge.NewSet(), Lease: edge.NewLease(edge.NewClock(), time.Second), Allow: &edge.AllowList{},
		Sync: edge.NewSyncer(edge.Config{}, edge.Position{})}, Coordinators: &fakeCoordinators{}, Log: slog.New(slog.DiscardHandler)}
	handler := s.HTTP().Handler
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/v1/allowed", bytes.NewReader(body))
		r.Host = "localhost"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Net: "unix"}))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusUnprocessableEntity && w.Code != http.StatusRequestEntityTooLarge || strings.Contains(w.Body.String(), `"allowed":true`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
