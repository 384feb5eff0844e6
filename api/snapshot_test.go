package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// served is the fixture behind a real socket, with a client of its admin.
func (f *fixture) served(t *testing.T) *client.Client {
	t.Helper()
	srv := httptest.NewServer(f.server.Handler())
	t.Cleanup(srv.Close)
	f.node.mu.Lock()
	f.node.leads = &client.Leader{ID: "node-1", Name: "n1", API: srv.URL}
	f.node.mu.Unlock()
	return must(client.New(client.Config{Addrs: []string{srv.URL}, Token: f.tokens[fsm.RoleAdmin], Attempts: 1}))
}

func TestSnapshotIsStreamedWhole(t *testing.T) {
	f := newFixture(t)
	for i := range 50 {
		f.agent(fmt.Sprint("agent-", i), fsm.AgentActive)
	}
	var out bytes.Buffer
	index, err := f.served(t).Snapshot(t.Context(), &out)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fsm.ScanSnapshot(&out)
	if err != nil || info.Index != index || index != f.node.index || info.HistoryBytes == 0 {
		t.Errorf("%+v of index %d: %v", info, index, err)
	}
	rec := f.admin("GET", "/v1/snapshot", nil)
	if rec.Code != 200 || rec.Header().Get("Content-Type") != client.SnapshotType || rec.Header().Get("X-Edgecoder-Index") != fmt.Sprint(index) ||
		!strings.Contains(rec.Header().Get("Content-Disposition"), "edgecoder-test.snapshot") {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// A backup that fails in the middle must not look like a whole one.
func TestSnapshotThatBreaksOff(t *testing.T) {
	f := newFixture(t)
	f.node.backupErr = errors.New("the disk is gone")
	c := f.served(t)
	for i := range 90 {
		f.agent(fmt.Sprint("agent-", i), fsm.AgentActive)
	}
	var out bytes.Buffer
	_, err := c.Snapshot(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "broke off") || out.Len() == 0 {
		t.Errorf("%d bytes: %v", out.Len(), err)
	}
}

func TestRestoreRoutes(t *testing.T) {
	f := newFixture(t)
	c := f.served(t)
	backup := client.Backup{ReaderAt: strings.NewReader("backup"), Size: 6}
	plan, err := c.RestorePlan(t.Context(), backup)
	if err != nil || plan.Confirm != "c-backup" || plan.Backup.Bytes != 6 {
		t.Fatalf("%+v: %v", plan, err)
	}
	done, err := c.Restore(t.Context(), backup, client.RestoreOrder{Confirm: plan.Confirm, LoseAcknowledged: true})
	if err != nil || done.Epoch != 2 {
		t.Fatalf("%+v: %v", done, err)
	}
	order := f.node.orders[0]
	if order.Actor.TokenID == "" || order.Actor != f.actor() || !order.LoseAcknowledged || order.Confirm != plan.Confirm {
		t.Errorf("order %+v", order)
	}
	var e *client.Error
	if _, err := c.Restore(t.Context(), backup, client.RestoreOrder{Confirm: "other"}); !errors.As(err, &e) || e.Code != client.CodeConflict || e.Field != "confirm" {
		t.Errorf("another plan: %v", err)
	}
	empty := decodeReply[client.RestorePlan](t, f.do(ask{method: "POST", path: "/v1/snapshot/restore?plan=true", token: f.tokens[fsm.RoleAdmin], body: "x"}), 200)
	if empty.BansLostList == nil || empty.AgentsList == nil || empty.TokensVoid == nil {
		t.Error("an empty list is null")
	}
}

func TestRestoreRefusesBeforeItReads(t *testing.T) {
	f := newFixture(t)
	for query, field := range map[string]string{
		"": "confirm", "plan=true&confirm=x": "confirm", "plan=maybe": "plan", "plan=true&lose_acknowledged=true": "lose_acknowledged",
		"confirm=x&lose_acknowledged=1": "lose_acknowledged", "plan=true&force=true": "force",
	} {
		wantProblem(t, f.admin("POST", "/v1/snapshot/restore?"+query, nil), client.CodeInvalid, field)
	}
	rec := f.do(ask{method: "POST", path: "/v1/snapshot/restore?plan=true", token: f.tokens[fsm.RoleAdmin], body: "x", header: map[string]string{"Content-Type": "application/json"}})
	wantProblem(t, rec, client.CodeInvalid, "Content-Type")
	f.node.restoreErr = &client.Error{Code: client.CodeUnavailable, Reason: "not_leader", Detail: "send it to n2 at https://127.0.0.1:1"}
	// The client shows what it would send, and sends nothing to who refuses.
	sent := &counting{ReaderAt: strings.NewReader(strings.Repeat("x", 1<<20))}
	var e *client.Error
	_, err := f.served(t).RestorePlan(t.Context(), client.Backup{ReaderAt: sent, Size: 1 << 20})
	if !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != "not_leader" || !strings.Contains(e.Detail, "n2") {
		t.Errorf("%v", err)
	}
	if sent.n > 0 {
		t.Errorf("%d bytes were read from the backup", sent.n)
	}
}

type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.n += n
	return n, err
}

// The body is bounded whether or not its length is told, and a body that ends
// early is refused as such.
func TestUploadIsBounded(t *testing.T) {
	f := newFixture(t)
	f.server.router.fixed["/v1/snapshot/restore"][0].upload = 1000
	wantProblem(t, f.admin("POST", "/v1/snapshot/restore?plan=true", strings.Repeat("x", 1001)), client.CodeTooLarge, "body")
	wantProblem(t, f.streamed("POST", "/v1/snapshot/restore?plan=true", strings.NewReader(strings.Repeat("x", 5000))), client.CodeTooLarge, "body")
	torn := io.MultiReader(strings.NewReader("half"), brokenReader{})
	wantProblem(t, f.streamed("POST", "/v1/snapshot/restore?plan=true", torn), client.CodeInvalid, "body")
	if rec := f.streamed("POST", "/v1/snapshot/restore?plan=true", strings.NewReader(strings.Repeat("x", 1000))); rec.Code != 200 {
		t.Errorf("at the bound: %d %s", rec.Code, rec.Body)
	}
}

// streamed sends a body of untold length.
func (f *fixture) streamed(method, path string, body io.Reader) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, body)
	req.ContentLength = -1
	req.Header.Set("Authorization", "Bearer "+f.tokens[fsm.RoleAdmin])
	rec := httptest.NewRecorder()
	f.server.Handler().ServeHTTP(rec, req)
	return rec
}

// Copies of everything have slots of their own, and few.
func TestBackupsAreFew(t *testing.T) {
	f := newFixture(t)
	for i := range classSizes[classBackup][rankRule] {
		if !f.server.slots.tokens[classBackup][rankRule].Take(fmt.Sprint(i)) {
			t.Fatal(i)
		}
	}
	wantProblem(t, f.admin("GET", "/v1/snapshot", nil), client.CodeOverloaded, "")
	if rec := f.admin("GET", "/v1/agents", nil); rec.Code != http.StatusOK {
		t.Errorf("a small call beside: %d", rec.Code)
	}
}

// While a recovery pauses admissions, callers are told until when.
func TestAdmissionsPauseAfterARecovery(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	next, _, err := fsm.Restored(f.node.leader, f.node.leader, fsm.Recovery{AtMs: f.node.nowMs, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	f.node.leader, f.node.replica = next, next
	f.node.held = true // one state for both: applied once
	var e *client.Error
	_, err = f.served(t).Admit(t.Context(), a.request(f.node.nowMs, "body"))
	if !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != "recovery" || e.ClaimID == "" {
		t.Fatalf("got %v", err)
	}
	if want := time.Duration(next.Policy().MaxSkewMs) * time.Millisecond; e.RetryAfter < want || e.RetryAfter > want+2*time.Second {
		t.Errorf("retry after %s, the skew is %s", e.RetryAfter, want)
	}
}

// A sender that trickles holds the one place that there is: only time spent
// waiting for it counts, and a slow line is given its time.
func TestTooSlow(t *testing.T) {
	for _, c := range []struct {
		got    int64
		waited time.Duration
		want   bool
	}{
		{0, uploadGrace, false},
		{0, uploadGrace + time.Second, true},
		{minUpload, uploadGrace + time.Second, false},
		{minUpload - 1, uploadGrace + time.Second, true},
		{100 * minUpload, uploadGrace + 100*time.Second, false},
		{99 * minUpload, uploadGrace + 100*time.Second, true},
	} {
		if got := tooSlow(c.got, c.waited); got != c.want {
			t.Errorf("%d bytes in %s: %t", c.got, c.waited, got)
		}
	}
}
