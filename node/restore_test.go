package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// restore has the cluster take a backup as planned.
func (c *trio) restore(path string, lose bool) (client.RestorePlan, client.Restored) {
	c.t.Helper()
	cl := c.client(c.anyUp(), c.admin)
	plan, err := cl.RestorePlan(c.t.Context(), c.open(path))
	if err != nil {
		c.t.Fatalf("plan: %v", err)
	}
	done, err := cl.Restore(c.t.Context(), c.open(path), client.RestoreOrder{Confirm: plan.Confirm, LoseAcknowledged: lose})
	if err != nil {
		c.t.Fatalf("restore: %v", err)
	}
	return plan, done
}

func (c *trio) anyUp() int {
	for i, n := range c.nodes {
		if n != nil {
			return i
		}
	}
	c.t.Fatal("no node is up")
	return -1
}

// startEnded starts each node again that ended for that, as a server does with
// itself.
func (c *trio) startEnded() {
	c.t.Helper()
	for i, n := range c.nodes {
		if n != nil && n.fatal.Load() != nil && errors.Is(*n.fatal.Load(), ErrResync) {
			<-n.Done()
			c.nodes[i] = nil
			c.start(i)
		}
	}
}

// inEpoch waits until every node that is up serves in an epoch.
func (c *trio) inEpoch(epoch uint64) {
	c.t.Helper()
	c.eventually(fmt.Sprint("every node serves in epoch ", epoch), func() bool {
		c.startEnded()
		for _, n := range c.nodes {
			if n != nil && (n.Status().Epoch != epoch || n.Ready() != nil) {
				return false
			}
		}
		return true
	})
}

// digestsAgree waits for a mark of this moment or later that all nodes share.
func (c *trio) digestsAgree() {
	c.t.Helper()
	c.eventually("the nodes agree at a mark", func() bool {
		seen := map[client.Mark]int{}
		up := 0
		for _, n := range c.nodes {
			if n == nil {
				continue
			}
			up++
			for _, m := range n.Status().Digests {
				seen[m]++
			}
		}
		for _, k := range seen {
			if k == up {
				return true
			}
		}
		return false
	})
}

// TestRestoreReplaysNothing: what was admitted after the backup was taken is
// forgotten, and refused all the same, at every node, for ever.
func TestRestoreReplaysNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	admin := c.client(0, c.admin)
	c.setSkew(admin, 3_000)
	a := c.enroll(0, "replayer")
	verifier := c.token("verifier", -1)
	joinToken := c.token("agent", 1)
	path := c.save(1)
	r := a.request(t, "used")
	if got, err := c.client(2, verifier).Admit(t.Context(), r); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("before: %+v %v", got, err)
	}
	before := c.nodes[0].Status()
	plan, done := c.restore(path, false) // admissions are no loss: none of them can be repeated
	if plan.Older || plan.TokensEnd != 1 || plan.TokensVoid[0] == "" || plan.NewEpoch != 2 || done.Epoch != 2 || plan.AdmissionsPauseMs < 2_500 || plan.AdmissionsPauseMs > 60_000 {
		t.Errorf("plan %+v, done %+v", plan, done)
	}
	if done.Index <= before.AppliedIndex {
		t.Errorf("index %d after %d", done.Index, before.AppliedIndex)
	}
	once := func(i int) *client.Client {
		cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[i].APIAddr}, CAFile: filepath.Join(c.cfgs[i].DataDir, fileCA), Token: verifier, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	if done.AdmissionsPauseMs > 1_000 { // else this machine was too slow to see the pause
		var e *client.Error
		_, err := once(c.leader()).Admit(t.Context(), a.request(t, "too-early"))
		if !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != reasonRecovery || e.RetryAfter <= 0 {
			t.Errorf("within the pause: %v", err)
		}
	}
	c.inEpoch(2)
	// With the widest window the old timestamp is acceptable again, and its nonce is forgotten.
	c.setSkew(admin, fsm.MaxSkewMs)
	for i := range c.nodes {
		c.eventually("admissions go on", func() bool {
			got, err := once(i).Admit(t.Context(), r)
			if err == nil && got.Verdict != client.VerdictDenied {
				t.Fatalf("node %d admitted the replay: %+v", i, got)
			}
			return err == nil
		})
		if got, err := c.client(i, verifier).Admit(t.Context(), a.request(t, fmt.Sprint("fresh-", i))); err != nil || got.Verdict != client.VerdictAdmitted {
			t.Errorf("a fresh one at node %d: %+v %v", i, got, err)
		}
	}
	if _, err := c.client(0, "").Enroll(t.Context(), c.enrollRequest(a, joinToken)); code(err) != client.CodeUnauthorized {
		t.Errorf("an enrolment token of before: %v", err)
	}
	c.digestsAgree()
}

// TestRestoreUndoesABan: the operator is shown the ban, must say that it may be
// lost, and everybody sees the new epoch and an unbroken chain.
func TestRestoreUndoesABan(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.setSkew(c.client(0, c.admin), 1_000)
	c.ban(0, "kept")
	c.enroll(0, "suspended-later")
	lifted := c.ban(1, "lifted-later")
	path := c.save(2)
	ban := c.ban(0, "lost")
	if _, err := c.client(1, c.admin).Lift(t.Context(), "lifted-later", "an error"); err != nil {
		t.Fatal(err)
	}
	c.enroll(1, "late")
	if _, err := c.client(0, c.admin).SuspendAgent(t.Context(), "suspended-later"); err != nil {
		t.Fatal(err)
	}
	cl := c.client(1, c.admin)
	plan, err := cl.RestorePlan(t.Context(), c.open(path))
	if err != nil {
		t.Fatal(err)
	}
	if plan.BansLost != 1 || plan.BansLostList[0].EventID != ban.EventID || plan.BansBack != 1 || plan.BansBackList[0].EventID != lifted.EventID ||
		plan.AgentsLost != 1 || plan.AgentsLostIDs[0] != "late" || plan.AgentsChanged != 1 || plan.AgentsList[0] != (client.AgentChange{AgentID: "suspended-later", State: "suspended", Then: "active"}) ||
		plan.EventsLost != 2 || plan.Forked || plan.OtherCluster || !plan.Older || plan.NewEpoch != 2 {
		t.Errorf("%+v", plan)
	}
	if _, err := cl.Restore(t.Context(), c.open(path), client.RestoreOrder{Confirm: plan.Confirm}); code(err) != client.CodeConflict || !strings.Contains(err.Error(), "lose_acknowledged") {
		t.Errorf("without a word about the loss: %v", err)
	}
	// A ban after the plan is not covered by it; a token is.
	c.token("viewer", -1)
	again, err := cl.RestorePlan(t.Context(), c.open(path))
	if err != nil || again.Confirm != plan.Confirm {
		t.Errorf("a token changed the plan: %v", err)
	}
	c.ban(0, "after the plan")
	if _, err := cl.Restore(t.Context(), c.open(path), client.RestoreOrder{Confirm: plan.Confirm, LoseAcknowledged: true}); code(err) != client.CodeConflict || !strings.Contains(err.Error(), "confirm") {
		t.Errorf("with a plan that is past: %v", err)
	}
	if e := c.nodes[0].Status().Epoch; e != 1 {
		t.Fatalf("epoch %d after refusals", e)
	}
	_, done := c.restore(path, true)
	c.inEpoch(done.Epoch)
	for i := range c.nodes {
		api := c.client(i, c.admin)
		if _, err := api.BanOn(t.Context(), "lost", client.Strong()); code(err) != client.CodeNotFound {
			t.Errorf("node %d: the ban that was undone: %v", i, err)
		}
		for _, id := range []string{"kept", "lifted-later"} {
			if _, err := api.BanOn(t.Context(), id); err != nil {
				t.Errorf("node %d: %s: %v", i, id, err)
			}
		}
		if _, err := api.Agent(t.Context(), "late"); code(err) != client.CodeNotFound {
			t.Errorf("node %d: the late agent: %v", i, err)
		}
	}
	c.ban(1, "goes on")
	c.chainVerifiesEverywhere(3)
	c.restoreIsOnRecord(plan.Present.ChainHead, done.Epoch)
	c.digestsAgree()
}

// chainVerifiesEverywhere walks the chain of each node with the verifier that
// knows nothing of ours.
func (c *trio) chainVerifiesEverywhere(events int) {
	c.t.Helper()
	for i := range c.nodes {
		cl := c.client(i, c.admin)
		if _, err := cl.Policy(c.t.Context(), client.Strong()); err != nil {
			c.t.Fatal(err)
		}
		peers, err := cl.MeshPeers(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		keys := map[string]ed25519.PublicKey{}
		for _, p := range peers.Peers {
			keys[p.PeerID] = parsePEM(c.t, p.PublicKeyPEM)
		}
		me, err := cl.Identity(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		keys[me.PeerID] = parsePEM(c.t, me.PublicKeyPEM)
		var all []json.RawMessage
		audit, err := cl.Audit(c.t.Context(), func(e json.RawMessage) error {
			all = append(all, append(json.RawMessage(nil), e...))
			return nil
		})
		if err != nil || len(all) != events {
			c.t.Fatalf("node %d: %d events, want %d: %v", i, len(all), events, err)
		}
		if err := walkChain(all, audit.ChainHead, keys); err != nil {
			c.t.Errorf("node %d: %v", i, err)
		}
	}
}

// restoreIsOnRecord: the history of each node says what the old head was.
func (c *trio) restoreIsOnRecord(head string, epoch uint64) {
	c.t.Helper()
	for i, n := range c.nodes {
		found := false
		records, err := n.Records(fsm.StreamAdmin, 1, 1000)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range records {
			var rec fsm.AdminRecord
			if err := fsm.Decode(r.Data, &rec); err != nil {
				c.t.Fatal(err)
			}
			found = found || rec.Action == actionRestore && rec.Actor.TokenID != "" && strings.Contains(rec.Detail, "bans_lost=")
		}
		if !found {
			c.t.Errorf("node %d: no record of the restore (head before %s, epoch %d)", i, head, epoch)
		}
	}
}

// TestRestoreIntoAnotherCluster: all is lost but a backup. A new cluster, whose
// log is much shorter, takes it and keeps its own members and tokens.
func TestRestoreIntoAnotherCluster(t *testing.T) {
	heavy(t)
	t.Parallel()
	old := newTrio(t, 1)
	old.setSkew(old.client(0, old.admin), 1_000)
	a := old.enroll(0, "survivor")
	for i := range 80 {
		old.ban(0, fmt.Sprint("banned-", i))
	}
	path := old.save(0)
	cluster := old.nodes[0].id.ClusterID
	old.stopAll()
	c := newTrio(t, 3)
	c.setSkew(c.client(0, c.admin), 1_000)
	plan, done := c.restore(path, false)
	if !plan.OtherCluster || plan.Older || plan.Forked || plan.Backup.ClusterID != cluster || plan.Backup.ChainSize != 80 || plan.Present.ClusterID == cluster {
		t.Errorf("%+v", plan)
	}
	if plan.Backup.Index <= plan.Present.Index {
		t.Errorf("the new cluster's log is at %d, the backup's at %d: nothing is shown", plan.Present.Index, plan.Backup.Index)
	}
	c.inEpoch(done.Epoch)
	verifier := c.token("verifier", -1) // the new cluster's admin token stands
	// The old cluster may have widened its window since: what it admitted then must be too old before anything is admitted here.
	if p := done.AdmissionsPauseMs; p < fsm.MaxSkewMs-600_000 || p > fsm.MaxSkewMs+1 || plan.AdmissionsPauseMs < p {
		t.Errorf("admissions pause for %d ms, the plan said %d", p, plan.AdmissionsPauseMs)
	}
	var e *client.Error
	if _, err := c.client(1, verifier).Admit(t.Context(), a.request(t, "early")); !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != reasonRecovery {
		t.Errorf("within the pause: %v", err)
	}
	c.ban(2, "the first of here")
	c.chainVerifiesEverywhere(81)
	c.digestsAgree()
	for i := range c.nodes { // what raft keeps must be what it starts from
		_ = c.nodes[i].shutdown()
		c.nodes[i] = nil
		c.start(i)
	}
	c.inEpoch(done.Epoch)
	if _, err := c.client(0, c.admin).BanOn(t.Context(), "banned-79", client.Strong()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if report, err := VerifyBackup(c.save(0), nil); err != nil || report.Events != 81 {
		t.Errorf("a backup of the restored: %+v %v", report.Events, err)
	}
}

// TestRestoreWithANodeDown: a majority is enough. Who was away serves nothing of
// before once it is back, and an epoch that was confirmed is served without a
// majority, even after a restart.
func TestRestoreWithANodeDown(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	c.ban(0, "undone")
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	away := (c.leader() + 1) % 3
	_ = c.nodes[away].shutdown()
	c.nodes[away] = nil
	_, done := c.restore(path, true)
	c.inEpoch(done.Epoch)
	c.start(away)
	c.inEpoch(done.Epoch)
	if _, err := c.client(away, c.admin).BanOn(t.Context(), "undone"); code(err) != client.CodeNotFound {
		t.Errorf("who was away: %v", err)
	}
	c.digestsAgree()
	note := filepath.Join(c.cfgs[away].DataDir, fileEpoch)
	c.eventually("the epoch is noted", func() bool {
		text, err := os.ReadFile(note)
		return err == nil && strings.TrimSpace(string(text)) == fmt.Sprint(done.Epoch)
	})
	c.stopAll()
	for i := range c.nodes {
		c.nodes[i] = nil
	}
	c.start(away)
	if _, err := c.client(away, c.admin).BanOn(t.Context(), "undone"); code(err) != client.CodeNotFound {
		t.Errorf("alone after a restart: %v", err)
	}
	_ = c.nodes[away].shutdown()
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	c.start(away)
	if err := c.nodes[away].Serving(); code(err) != client.CodeUnavailable {
		t.Errorf("alone with an epoch that nobody confirmed: %v", err)
	}
	for i := range c.nodes {
		if c.nodes[i] == nil {
			c.start(i)
		}
	}
	c.inEpoch(done.Epoch)
}

// What a restore refuses, before it reads anything.
func TestRestoreOnlyAtTheLeaderAndOneAtATime(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	follower := c.nodes[(lead+1)%3]
	var e *client.Error
	_, err := follower.PlanRestore(t.Context(), strings.NewReader("never read"))
	if !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != reasonNotLeader || !strings.Contains(e.Detail, c.cfgs[lead].APIAddr) {
		t.Errorf("at a follower: %v", err)
	}
	done, _, err := c.nodes[lead].beginRestore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cl := c.client(0, c.admin)
	if _, err := cl.RestorePlan(t.Context(), c.open(path)); code(err) != client.CodeConflict || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a second one: %v", err)
	}
	done()
	plan, err := cl.RestorePlan(t.Context(), c.open(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.RestorePlan(t.Context(), client.Backup{ReaderAt: strings.NewReader("not a backup"), Size: 12}); code(err) != client.CodeInvalid {
		t.Errorf("something else: %v", err)
	}
	viewer := c.token("viewer", -1)
	if _, err := c.client(0, viewer).Restore(t.Context(), c.open(path), client.RestoreOrder{Confirm: plan.Confirm}); code(err) != client.CodeForbidden {
		t.Errorf("a viewer: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(c.cfgs[lead].DataDir, dirRestore)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// The gate holds back what is proposed, and says why.
func TestGateHoldsProposals(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	open := c.nodes[0].gate.close()
	cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[0].APIAddr}, CAFile: filepath.Join(c.cfgs[0].DataDir, fileCA), Token: c.admin, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	var e *client.Error
	if _, err := cl.CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != reasonRecovery {
		t.Errorf("behind the gate: %v", err)
	}
	open()
	open() // once more is nothing
	c.token("viewer", -1)
}

// TestRestoreNeedsAJudgedClock: the restore's own stamp is no better than any
// other one.
func TestRestoreNeedsAJudgedClock(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	path := c.save(0)
	n := c.nodes[0]
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	taken, err := n.take(in)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.close()
	present, err := n.copyOf()
	if err != nil {
		t.Fatal(err)
	}
	taken.state.Rebase(present.Index())
	plan, err := n.plan(taken, present)
	if err != nil {
		t.Fatal(err)
	}
	l := &leadership{term: n.raft.CurrentTerm()} // its clock was not judged
	_, file, err := n.prepare(l, taken, orderOf(plan, ""))
	var e *client.Error
	if !errors.As(err, &e) || e.Detail != errClockMoves().Detail {
		t.Errorf("prepared: %v", err)
	}
	if file != nil {
		_ = file.Close()
	}
	l.clock.Store(&clockVerdict{})
	l.drift.Store(int64(n.drift()))
	_, file, err = n.prepare(l, taken, orderOf(plan, ""))
	if err != nil {
		t.Fatalf("with a good clock: %v", err)
	}
	_ = file.Close()
}
