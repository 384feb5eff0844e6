package node

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/store"
)

// TestP3Recover: three coordinators with traffic on them are stopped; each part
// loses some of them in its own way.
func TestP3Recover(t *testing.T) {
	heavy(t)
	t.Parallel()
	whole := newLostTrio(t)
	for _, part := range []struct {
		name string
		run  func(*lostTrio, *testing.T)
	}{
		{"one of three", (*lostTrio).recoverOneOfThree},
		{"two of three", (*lostTrio).recoverTwoOfThree},
		{"never damage", (*lostTrio).neverChoosesDamage},
		{"never damage by name", (*lostTrio).neverChoosesDamageByName},
		{"not while others answer", (*lostTrio).refusesWhileOthersAnswer},
		{"never beside a majority", (*lostTrio).refusesAMajority},
		{"old nodes stop serving", (*lostTrio).supersededNodesStopServing},
		{"a fork is seen", (*lostTrio).seesAFork},
		{"a rival is seen", (*lostTrio).seesARival},
		{"killed", (*lostTrio).killedAnywhere},
		{"tokens revoked", (*lostTrio).recoverRevokesTokens},
		{"older notes are void", (*lostTrio).recoveryOutranksNotes},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(whole.again(t), t) })
	}
}

func (c *lostTrio) recoverOneOfThree(t *testing.T) {
	old := make([]string, 3)
	for i := range 3 {
		old[i] = loadedIdentity(t, c.cfgs[i]).NodeID
	}
	for _, i := range []int{0, 1} {
		if err := os.RemoveAll(c.dir(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := bytesOf(t, c.dir(2))
	r := open(t, c.options(2))
	if after := bytesOf(t, c.dir(2)); !maps.Equal(before, after) {
		t.Errorf("a look changed the directory: %v, %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
	p := r.Plan()
	if !p.MayLose || !refusedFor(p, leaveLose) || p.ChosenName != "n3" || len(p.Reachable) != 0 || len(p.Copies[0].Voters) != 3 {
		t.Fatalf("plan: %+v", p)
	}
	if _, err := r.Execute(); !errors.Is(err, ErrRecovery) {
		t.Fatalf("recovered against its own refusal: %v", err)
	}
	if _, err := Start(t.Context(), c.cfgs[2]); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("started beside an open recovery: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	o := c.options(2)
	o.LoseAcknowledged = true
	done := execute(t, o)
	if done.Epoch != 2 || done.ChainHead != c.ban.ChainHead || len(done.Removed) != 2 || done.AdmissionsFromMs == 0 {
		t.Errorf("done: %+v", done)
	}
	if again := execute(t, o); !again.Finished || again.Epoch != 2 {
		t.Errorf("recovered twice: %+v", again)
	}
	c.start(2)
	c.checkRecovered(2)
	c.checkPaused(2)
	if got := c.nodes[2].id.NodeID; got != old[2] {
		t.Errorf("the survivor's id became %s", got)
	}
	c.checkRejoin(2, 0, 1)
	c.cosignersBeginAnew(2, c.trusted)
}

// bytesOf returns the contents of every file below a directory.
func bytesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func loadedIdentity(t *testing.T, cfg Config) *identity {
	t.Helper()
	id, err := loadIdentity(cfg.DataDir, cfg.Passphrase)
	if err != nil || id == nil {
		t.Fatalf("identity: %v", err)
	}
	return id
}

// checkRejoin: the others come back with empty directories, under their names.
func (c *lostTrio) checkRejoin(alone int, others ...int) {
	c.t.Helper()
	for _, i := range others {
		tok, err := c.client(alone, c.admin).CreateToken(c.t.Context(), client.TokenRequest{Role: "coordinator", Uses: 1})
		if err != nil {
			c.t.Fatal(err)
		}
		c.cfgs[i].Bootstrap, c.cfgs[i].Join, c.cfgs[i].JoinToken = false, []string{c.cfgs[alone].GossipAddr}, tok.Token
		c.start(i)
	}
	c.eventually("all vote again", func() bool { return len(voters(c.nodes[alone].servers())) == 3 && c.allReady() })
	for _, i := range others {
		c.eventually("the joiner has the chain", func() bool {
			page, err := c.client(i, c.admin).ChainEvents(c.t.Context(), 1, 100)
			return err == nil && len(page.Events) == 2 && page.ChainHead == c.ban.ChainHead
		})
		if e := c.nodes[i].epoch(); e != 2 {
			c.t.Errorf("node %d is in epoch %d", i, e)
		}
	}
	if next := c.trio.ban(others[0], "new-one"); next.Size != 3 {
		c.t.Errorf("the next ban is event %d of the chain, want 3", next.Size)
	}
}

// recoverTwoOfThree: with a majority here nothing is lost and no flag is
// needed, but the better way is told. The other copy is retired, and does not
// start.
func (c *lostTrio) recoverTwoOfThree(t *testing.T) {
	if err := os.RemoveAll(c.dir(0)); err != nil {
		t.Fatal(err)
	}
	r := open(t, c.options(1, 2))
	p := r.Plan()
	if p.MayLose || len(p.Refusals) != 0 || !strings.Contains(strings.Join(p.Why, "\n"), "without any recovery") {
		t.Fatalf("plan: %+v", p)
	}
	if newest := p.Copies[0]; newest.NodeID != p.Chosen {
		t.Errorf("%s was chosen, %s is the newest", p.Chosen, newest.NodeID)
	}
	done, err := r.Execute()
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	alone, other := 1, 2
	if done.Name == "n3" {
		alone, other = 2, 1
	}
	if len(done.Retired) != 1 || done.Retired[0] != c.dir(other) {
		t.Errorf("retired: %v", done.Retired)
	}
	if _, err := Start(t.Context(), c.cfgs[other]); !errors.Is(err, ErrRetired) {
		t.Fatalf("the copy that was left aside: %v", err)
	}
	c.start(alone)
	c.checkRecovered(alone)
}

// neverChoosesDamage: the copy with the newest log is damaged.
func (c *lostTrio) neverChoosesDamage(t *testing.T) {
	flipByte(t, filepath.Join(c.dir(0), fileRaft))
	p := open(t, c.options(0, 1)).Plan()
	if p.ChosenName != "n2" || !refusedFor(p, leaveLose) {
		t.Errorf("chosen %s, refusals %+v", p.ChosenName, p.Refusals)
	}
	damaged := 0
	for _, copied := range p.Copies {
		if len(copied.Damage) > 0 && copied.DataDir == c.dir(0) {
			damaged++
		}
	}
	if damaged != 1 {
		t.Errorf("copies: %+v", p.Copies)
	}
}

func (c *lostTrio) neverChoosesDamageByName(t *testing.T) {
	flipByte(t, filepath.Join(c.dir(0), fileRaft))
	o := c.options(0, 1, 2)
	o.Choose, o.LoseAcknowledged = c.dir(0), true
	r := open(t, o)
	if p := r.Plan(); p.Chosen != "" || len(p.Refusals) == 0 || p.Refusals[0].Flag != "" {
		t.Errorf("plan: %+v", p)
	}
	if _, err := r.Execute(); !errors.Is(err, ErrRecovery) {
		t.Errorf("recovered from a damaged copy: %v", err)
	}
}

// flipByte damages the entry of a ban.
func flipByte(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for at := 0; ; found++ { // bbolt may have older copies of the page
		i := bytes.Index(data[at:], []byte("outlaw"))
		if i < 0 {
			break
		}
		data[at+i] ^= 0x01
		at += i + 1
	}
	if found == 0 {
		t.Fatal("the entry to damage is not there")
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// refusesWhileOthersAnswer: a coordinator that is not among the
// copies is up.
func (c *lostTrio) refusesWhileOthersAnswer(t *testing.T) {
	c.start(0)
	o := c.options(1)
	o.LoseAcknowledged = true
	p := open(t, o).Plan()
	if len(p.Reachable) != 1 || p.Reachable[0].Name != "n1" || !refusedFor(p, leaveReach) {
		t.Fatalf("plan: %+v", p)
	}
	o.Dirs = c.options(2).Dirs
	o.IgnoreReachable = []string{"n1"}
	if p := open(t, o).Plan(); len(p.Refusals) != 0 {
		t.Errorf("refused against the flag: %+v", p.Refusals)
	}
}

// refusesAMajority: no flag recovers beside a quorum.
func (c *lostTrio) refusesAMajority(t *testing.T) {
	c.start(0)
	c.start(1)
	o := c.options(2)
	o.LoseAcknowledged, o.IgnoreReachable = true, []string{"n1", "n2"}
	p := open(t, o).Plan()
	if !refusedFor(p, "") {
		t.Fatalf("plan: %+v", p)
	}
}

var errKilled = errors.New("killed")

// killedAnywhere: cut off after each step, then started or recovered again:
// before the decision the directory is what it was, after it the recovered one.
func (c *lostTrio) killedAnywhere(t *testing.T) {
	for _, step := range []struct {
		name           string
		decided, start bool
	}{{"begin", false, false}, {"term raised", false, true}, {"state written", false, false}, {"history written", false, true},
		{"snapshot stands", true, true}, {"notes dropped", true, false}, {"history replaced", true, true}, {"log dropped", true, false}} {
		t.Run(step.name, func(t *testing.T) {
			one := c.again(t)
			o := one.options(0)
			o.LoseAcknowledged = true
			o.step = func(name string) error {
				if name == step.name {
					return errKilled
				}
				return nil
			}
			r := open(t, o)
			if _, err := r.Execute(); !errors.Is(err, errKilled) {
				t.Fatalf("it was to be cut off: %v", err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if found, err := store.Survey(one.dir(0)); err != nil || len(found.Damage) != 0 {
				t.Errorf("the kill left damage: %v %v", found.Damage, err)
			}
			if step.start {
				one.checkAfterKill(step.decided)
			}
			o.step = nil
			done := execute(t, o)
			if done.Epoch != 2 || done.Finished != step.decided {
				t.Errorf("the second time: %+v", done)
			}
		})
	}
}

// checkAfterKill starts a copy of what the kill left: it is the old member that
// waits for the others, or the recovered one.
func (c *lostTrio) checkAfterKill(decided bool) {
	t := c.t
	t.Helper()
	was := c.cfgs[0]
	c.cfgs[0].DataDir = filepath.Join(t.TempDir(), "started")
	copyDir(t, was.DataDir, c.cfgs[0].DataDir)
	c.start(0)
	if decided {
		c.checkRecovered(0)
		c.checkPaused(0)
	} else if n := c.nodes[0]; len(n.servers()) != 3 || n.epoch() == 2 {
		t.Errorf("%d servers in epoch %d before the decision", len(n.servers()), n.epoch())
	}
	c.stopAll()
	c.nodes[0], c.cfgs[0] = nil, was
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, fileKeys), 0o600); err != nil {
		t.Fatal(err)
	}
}

// supersededNodesStopServing: two old nodes come back with their old
// directories while the recovered one runs. They are a majority of what they
// believe in, and must not answer from there.
func (c *lostTrio) supersededNodesStopServing(t *testing.T) {
	o := c.options(2)
	o.LoseAcknowledged = true
	execute(t, o)
	c.start(2)
	c.eventually("it leads alone", func() bool { return c.nodes[2].Ready() == nil })
	c.start(0)
	c.start(1)
	for i := range 2 {
		c.eventually("an old node hears of the new epoch", func() bool {
			e := (*client.Error)(nil)
			return errors.As(c.nodes[i].Ready(), &e) && e.Reason == reasonSuperseded && strings.Contains(e.Detail, "n3")
		})
		once := c.once(i)
		if _, err := once.CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); code(err) != client.CodeUnavailable {
			t.Errorf("a superseded node took a write: %v", err)
		}
		if _, err := once.BanOn(t.Context(), "outlaw"); code(err) != client.CodeUnavailable {
			t.Errorf("a superseded node answered a read: %v", err)
		}
	}
	if n := c.nodes[2]; n.Ready() != nil || n.epoch() != 2 || len(n.servers()) != 1 {
		t.Errorf("the recovered node was disturbed: %+v, %v", n.Status(), n.Ready())
	}
}

// seesAFork: two copies were recovered without each other.
func (c *lostTrio) seesAFork(t *testing.T) {
	for _, i := range []int{1, 2} {
		o := c.options(i)
		o.LoseAcknowledged = true
		execute(t, o)
	}
	p := open(t, c.options(1, 2)).Plan()
	if !refusedFor(p, leaveChoose) || !refusedFor(p, leaveLose) || !p.MayLose {
		t.Fatalf("plan: %+v", p)
	}
}

// seesARival: two copies were recovered without each other, and both run. They
// count to the same epoch; each finds the other where the recovery left it.
func (c *lostTrio) seesARival(t *testing.T) {
	ids := map[int]string{}
	for _, i := range []int{1, 2} {
		o := c.options(i)
		o.LoseAcknowledged = true
		execute(t, o)
		c.cfgs[i].Join, c.cfgs[i].JoinToken = nil, ""
	}
	for _, i := range []int{1, 2} {
		c.start(i)
		ids[i] = c.nodes[i].Status().Recovery
	}
	if ids[1] == "" || ids[1] == ids[2] || c.nodes[1].epoch() != c.nodes[2].epoch() {
		t.Fatalf("recoveries %v in epochs %d and %d", ids, c.nodes[1].epoch(), c.nodes[2].epoch())
	}
	for _, i := range []int{1, 2} {
		other := 3 - i
		c.eventually("it names the other copy", func() bool {
			found := c.nodes[i].Status().Rivals
			return len(found) == 1 && found[0].ID == c.nodes[other].id.NodeID && found[0].Recovery == ids[other]
		})
	}
	// Nobody is stopped by the word of a node that was removed.
	c.eventually("both lead", func() bool { return c.nodes[1].Ready() == nil && c.nodes[2].Ready() == nil })
}
