package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// sets returns the cosigner sets that a node knows.
func (n *Node) sets() (out []checkpoint.SignedSet) {
	n.machine.Read(func(s *fsm.State) {
		for _, v := range s.CosignerSets(1, 1000) {
			out = append(out, v.Signed(s.Meta().ClusterID))
		}
	})
	return out
}

// newestCheckpoint returns a node's final checkpoint, verified from the first set on as a stranger would.
func (c *trio) newestCheckpoint(i int) (checkpoint.Opened, []byte, bool) {
	c.t.Helper()
	n := c.nodes[i]
	sets := n.sets()
	if len(sets) == 0 {
		return checkpoint.Opened{}, nil, false
	}
	if err := sets[0].VerifyRoot(); err != nil {
		c.t.Fatal(err)
	}
	set, err := sets[0].Follow(sets)
	if err != nil {
		c.t.Fatal(err)
	}
	e := n.epochNow()
	note, _, ok := n.logs.named[checkpoint.LogBlacklist].Newest(e.origin(checkpoint.LogBlacklist))
	if !ok {
		return checkpoint.Opened{}, nil, false
	}
	o, err := set.OpenFinal(note)
	return o, note, err == nil
}

func (c *trio) allHave(size uint64, cosigners int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("a checkpoint of %d records by %d of %d at every node", size, cosigners, len(c.nodes)), func() bool {
		for i, n := range c.nodes {
			if n == nil {
				continue
			}
			o, _, ok := c.newestCheckpoint(i)
			sets := n.sets()
			if !ok || o.Size != size || len(sets) == 0 || len(sets[len(sets)-1].Cosigners) != cosigners {
				return false
			}
		}
		return true
	})
}

// verifyAt asks one node over HTTP for the proofs of some checkpoints and events, and has transparency-dev's code judge.
func (c *trio) verifyAt(i int, seen []checkpoint.Opened) {
	t := c.t
	t.Helper()
	api := c.client(i, c.admin)
	for a, older := range seen {
		for _, newer := range seen[a:] {
			p, err := api.ProveConsistency(t.Context(), older.Size, newer.Size)
			if err == nil && older.Size > 0 {
				err = proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, hashBytes(t, p.Hashes), older.Root[:], newer.Root[:])
			}
			if err != nil {
				t.Fatalf("node %d, from %d to %d: %v", i, older.Size, newer.Size, err)
			}
		}
		for seq := uint64(1); seq <= older.Size; seq++ {
			page, err := api.ChainEvents(t.Context(), seq, 1)
			if err != nil {
				t.Fatal(err)
			}
			p, err := api.ProveInclusion(t.Context(), seq, older.Size)
			if err == nil {
				err = proof.VerifyInclusion(rfc6962.DefaultHasher, seq-1, older.Size, rfc6962.DefaultHasher.HashLeaf(page.Events[0].Event), hashBytes(t, p.Hashes), older.Root[:])
			}
			if err != nil {
				t.Fatalf("node %d, event %d of %d: %v", i, seq, older.Size, err)
			}
		}
	}
}

func hashBytes(t *testing.T, texts []string) (out [][]byte) {
	t.Helper()
	for _, text := range texts {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

// TestCheckpointsOfOneNode: a majority of one.
func TestCheckpointsOfOneNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.allHave(0, 1)
	c.ban(0, "agent-1")
	c.allHave(1, 1)
	o, note, _ := c.newestCheckpoint(0)
	if served, err := c.client(0, c.admin).Checkpoint(t.Context()); err != nil || !bytes.Equal(served, note) {
		t.Errorf("served %q, %v", served, err)
	}
	st := c.nodes[0].Status()
	if len(st.Logs) != 1 || st.Logs[0].Size != 1 || st.Logs[0].Root != o.Root.String() || st.Logs[0].Cosigned != 1 || st.Logs[0].LeaseMs != 30_000 {
		t.Errorf("%+v", st.Logs)
	}
	if _, err := c.client(0, c.admin).ProveInclusion(t.Context(), 2, 0); code(err) != client.CodeInvalid {
		t.Errorf("an event that is not there: %v", err)
	}
	if _, err := c.client(0, c.admin).ProveConsistency(t.Context(), 0, 7); code(err) != client.CodeInvalid {
		t.Errorf("a size that is not there: %v", err)
	}
}

// TestP3ProofsOutliveLeadersMembersAndEpochs: every checkpoint that was final stays provable against every later one, at
// any node, whoever leads and whoever is a member; a restore is another log.
func TestP3ProofsOutliveLeadersMembersAndEpochs(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	var seen []checkpoint.Opened
	bans := 0
	grow := func(n int) {
		t.Helper()
		for range n {
			bans++
			c.ban(c.anyUp(), fmt.Sprintf("agent-%d", bans))
		}
		c.allHave(uint64(bans), 3)
		o, _, _ := c.newestCheckpoint(c.anyUp())
		seen = append(seen, o)
	}
	c.allHave(0, 3)
	grow(3)
	grow(2)
	dead := c.leader()
	gone := c.nodes[dead]
	if err := gone.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[dead] = nil
	c.eventually("another leads", func() bool { return c.leader() >= 0 })
	grow(3) // two of three are a majority
	if _, err := c.client(c.leader(), c.admin).RemovePeer(t.Context(), gone.id.NodeID, false); err != nil {
		t.Fatal(err)
	}
	c.eventually("the set has let it go", func() bool { s := c.nodes[c.anyUp()].sets(); return len(s[len(s)-1].Cosigners) == 2 })
	c.cfgs[dead] = testConfig(t, "n4")
	c.cfgs[dead].Join, c.cfgs[dead].JoinToken = []string{c.cfgs[c.anyUp()].GossipAddr}, c.tokenAt(c.anyUp(), "coordinator")
	c.start(dead)
	grow(2)
	if o := seen[len(seen)-1]; o.Log == gone.id.publicKey() || slices.ContainsFunc(o.Cosignatures, func(s checkpoint.Cosignature) bool { return s.Key == gone.id.publicKey() }) {
		t.Error("who was removed still signs")
	}
	for i := range c.nodes {
		c.verifyAt(i, seen)
	}
	backup := c.save(c.leader())
	c.ban(0, "lost")
	c.allHave(uint64(bans+1), 3)
	before := c.nodes[0].epochNow()
	_, done := c.restore(backup, true)
	c.inEpoch(done.Epoch)
	c.allHave(uint64(bans), 3)
	o, _, _ := c.newestCheckpoint(0)
	if o.Origin.Epoch != done.Epoch || o.Origin.Epoch == before.epoch || o.Root != seen[len(seen)-1].Root {
		t.Errorf("after the restore: %+v", o.Checkpoint)
	}
	if err := checkpoint.VerifyConsistency(seen[0].Checkpoint, o.Checkpoint, nil); err == nil {
		t.Error("two epochs pass for one log")
	}
	c.ban(1, "goes on")
	c.allHave(uint64(bans+1), 3)
}

// TestCosignerIsNoFool: a leader that lies gets no cosignature, raises the alarm at whom it asks, and stops nobody.
func TestCosignerIsNoFool(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	for i := range 3 {
		c.ban(0, fmt.Sprint("agent-", i))
	}
	c.allHave(3, 3)
	lead := c.leader()
	leads, asked := c.nodes[lead], c.nodes[(lead+1)%3]
	key := leads.id.signingKey()
	good, _, _ := c.newestCheckpoint(lead)
	ask := func(from string, by crypto.PrivateKey, change func(*checkpoint.Checkpoint)) (cosignReply, error) {
		head := good.Checkpoint
		change(&head)
		note := checkpoint.Note{Checkpoint: head, Signatures: []checkpoint.Signature{checkpoint.SignLog(by, head)}}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return asked.serveCosign(ctx, from, cosignRequest{Note: note.Encode()})
	}
	same := func(*checkpoint.Checkpoint) {}
	if r, err := ask(leads.id.NodeID, key, same); err != nil || r.Refused != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := ask(c.nodes[(lead+2)%3].id.NodeID, key, same); err == nil {
		t.Errorf("asked by another than the leader: %+v", r)
	}
	stranger, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	two, err := asked.logs.named[checkpoint.LogBlacklist].tree.TreeRoot(2)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]struct {
		by      crypto.PrivateKey
		change  func(*checkpoint.Checkpoint)
		refused string
	}{
		"a stranger's":  {stranger, same, refusedLater},
		"a smaller one": {key, func(h *checkpoint.Checkpoint) { h.Size, h.Root = 2, two }, refusedLater},
		"another epoch": {key, func(h *checkpoint.Checkpoint) { h.Origin.Epoch++ }, refusedLater},
		"a larger one":  {key, func(h *checkpoint.Checkpoint) { h.Size++ }, refusedLater},
		"another root":  {key, func(h *checkpoint.Checkpoint) { h.Root[0] ^= 1 }, refusedFork},
	} {
		if r, err := ask(leads.id.NodeID, w.by, w.change); err != nil || r.Refused != w.refused {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	c.wantEvent((lead+1)%3, typeLogFork, audit.LevelCritical)
	if err := asked.Serving(); err != nil {
		t.Errorf("the word of one stopped it: %v", err)
	}
	forged := good.Checkpoint
	forged.Root[0] ^= 1
	alone := checkpoint.Note{Checkpoint: forged, Signatures: []checkpoint.Signature{checkpoint.SignLog(key, forged), checkpoint.Cosign(key, forged, time.Now().Unix())}}
	if err := asked.takeCheckpoint(alone.Encode()); err == nil || asked.Serving() != nil {
		t.Errorf("a checkpoint by one coordinator only: %v", err)
	}
	other := c.nodes[(lead+2)%3].id.signingKey()
	alone.Signatures = append(alone.Signatures, checkpoint.Cosign(other, forged, time.Now().Unix()))
	if err := asked.takeCheckpoint(alone.Encode()); err == nil {
		t.Error("a majority's second head was taken")
	}
	wantReason(t, asked.Serving(), reasonForked)
	c.eventually("evidence is kept", func() bool { return len(forksKept(asked)) > 0 })
	if asked.Status().Logs[0].ForkedWhy == "" {
		t.Errorf("status %+v", asked.Status().Logs)
	}
}

// TestTamperedHistoryStopsTheNode: somebody changed an old record of a node that was down, checksums, tree and all. It
// starts, finds that this is not what it signed, says so and does not serve; the others go on.
func TestTamperedHistoryStopsTheNode(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	for i := range 4 {
		c.ban(0, fmt.Sprint("agent-", i))
	}
	c.allHave(4, 3)
	at := (c.leader() + 1) % 3
	n := c.nodes[at]
	c.snapshot(n) // else the log, which is not tampered with, would tell
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	tamper(t, n.cfg.DataDir, func(r *fsm.Record) {
		if r.Stream == fsm.StreamBlacklist && r.Seq == 2 {
			r.Data = bytes.Replace(r.Data, []byte("agent-1"), []byte("agent-x"), 1)
		}
	})
	c.nodes[at] = nil
	c.start(at)
	c.eventually("it does not serve", func() bool { return c.nodes[at].logs.forked() != nil })
	wantReason(t, c.nodes[at].Serving(), reasonForked)
	c.eventually("evidence is kept", func() bool { return len(forksKept(n)) == 1 }) // a node stops serving first, and writes then
	c.ban((at+1)%3, "others go on")
	c.eventually("the others' checkpoint", func() bool { o, _, ok := c.newestCheckpoint((at + 1) % 3); return ok && o.Size == 5 })
}

// forksKept lists the files with both heads of a fork that a node kept.
func forksKept(n *Node) []string {
	kept, _ := filepath.Glob(filepath.Join(n.cfg.DataDir, dirLogs, "fork-*"))
	return kept
}

// tamper writes the history of a stopped node anew with some records changed, sound in itself.
func tamper(t *testing.T, dir string, change func(*fsm.Record)) {
	t.Helper()
	fresh := t.TempDir()
	was, err := store.Open(dir, store.Options{Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	made, err := store.Open(fresh, store.Options{Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	epoch, totals := was.History.Totals()
	for s, n := range totals {
		records, err := was.History.Read(s, 1, int(n))
		if err != nil || uint64(len(records)) != n {
			t.Fatal(len(records), err)
		}
		for i := range records {
			change(&records[i])
		}
		if err := made.History.Append(epoch, records); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(made.History.KeepTree(t.Context(), fsm.StreamBlacklist), was.Close(), made.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(fresh, "history.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "history.db"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoQuorumNoCosignature: a coordinator that is alone signs nothing, so no lease is renewed.
func TestNoQuorumNoCosignature(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.ban(0, "agent-1")
	c.allHave(1, 3)
	lead := c.leader()
	for i, n := range c.nodes {
		if i != lead {
			if err := n.shutdown(); err != nil {
				t.Fatal(err)
			}
			c.nodes[i] = nil
		}
	}
	alone := c.nodes[lead]
	c.eventually("it leads nobody", func() bool { return alone.lead.Load() == nil })
	was, note, _ := c.newestCheckpoint(lead)
	if _, err := alone.followsNow(t.Context(), c.cfgs[(lead+1)%3].Name); err == nil {
		t.Error("it follows whoever asks")
	}
	if _, err := alone.reads.get(t.Context()); err == nil {
		t.Error("somebody confirmed that it leads")
	}
	served, err := c.client(lead, c.admin).Checkpoint(t.Context())
	if err != nil || !bytes.Equal(served, note) || was.Size != 1 {
		t.Errorf("it serves what it has, with its age: %v", err)
	}
}

// TestCheckBlacklistRecord: each thing that makes an event unsound is found by every coordinator for itself.
func TestCheckBlacklistRecord(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	for i := range 3 {
		c.ban(0, fmt.Sprint("agent-", i))
	}
	n := c.nodes[0]
	rows, err := n.Records(fsm.StreamBlacklist, 1, 3)
	if err != nil || len(rows) != 3 {
		t.Fatal(len(rows), err)
	}
	for i, r := range rows {
		var before *fsm.Record
		if i > 0 {
			before = &rows[i-1]
		}
		if err := n.checkBlacklistRecord(before, r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	good, err := crypto.ParseBlacklistEvent(rows[1].Data)
	if err != nil {
		t.Fatal(err)
	}
	key := n.id.signingKey()
	stranger, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(index uint64, change func(*crypto.BlacklistEvent)) fsm.Record {
		e := good
		change(&e)
		return fsm.Record{Stream: fsm.StreamBlacklist, Seq: 2, Index: index, Data: e.WireJSON()}
	}
	for name, w := range map[string]struct {
		r    fsm.Record
		want string
	}{
		"junk":              {fsm.Record{Seq: 2, Data: []byte("{}")}, "missing"},
		"another link":      {with(rows[1].Index, func(e *crypto.BlacklistEvent) { e.Link(crypto.BlacklistGenesis, key) }), "links to"},
		"changed":           {with(rows[1].Index, func(e *crypto.BlacklistEvent) { e.AgentID = "other" }), "is not signed by"},
		"by a stranger":     {with(rows[1].Index, func(e *crypto.BlacklistEvent) { e.Link(e.PrevEventHash, stranger) }), "was ever enrolled"},
		"before its key":    {with(0, func(*crypto.BlacklistEvent) {}), "signs from"},
		"reporter unproven": {with(rows[1].Index, func(e *crypto.BlacklistEvent) { e.EvidenceSignatureVerified = true; e.Link(e.PrevEventHash, key) }), "reporter evidence"},
	} {
		if err := n.checkBlacklistRecord(&rows[0], w.r); err == nil || !strings.Contains(err.Error(), w.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckpointsAreCosignedAndSpread(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.allHave(0, 3)
	for i := range 5 {
		c.ban(i%3, fmt.Sprintf("agent-%d", i))
	}
	began := time.Now()
	c.allHave(5, 3)
	t.Logf("final everywhere %s after the last ban", time.Since(began))
}

// cosignersBeginAnew wants what a recovery that lost the majority of cosigners leads to: a set that none before vouches
// for, which nobody follows unasked who trusted one before, and checkpoints of the new epoch by those who came since.
func (c *trio) cosignersBeginAnew(i int, before checkpoint.SignedSet) {
	t := c.t
	t.Helper()
	n := c.nodes[i]
	c.eventually("three cosign again", func() bool {
		sets := n.sets()
		set := sets[len(sets)-1].Set
		note, err := c.client(i, c.admin).Checkpoint(t.Context())
		if err != nil || len(set.Cosigners) != 3 {
			return false
		}
		o, err := set.OpenFinal(note)
		return err == nil && o.Origin.Epoch == 2 && o.Origin.Recovery != "" // else another copy, recovered too, would have the same log
	})
	sets := n.sets()
	at := slices.IndexFunc(sets, func(s checkpoint.SignedSet) bool { return s.Root() && s.Version > 1 })
	if at < 0 || sets[at].Epoch != 2 { // of the survivor alone, or with those that were faster to join
		t.Fatalf("no set begins anew: %+v", sets)
	}
	if _, err := before.Follow(sets); at != 0 || !errors.Is(err, checkpoint.ErrNewRoot) {
		t.Errorf("who trusted one before follows unasked: %v", err)
	}
	if err := sets[at].VerifyRoot(); err != nil {
		t.Error(err)
	}
	if _, err := sets[at].Follow(sets); err != nil {
		t.Errorf("who was told to trust it: %v", err)
	}
}
