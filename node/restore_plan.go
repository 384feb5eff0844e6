package node

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// taken is a backup that was read and verified, ready to become the state.
type taken struct {
	readBackup
	file    *os.File
	records *spool
	common  map[fsm.Stream]uint64 // records that begin this cluster's streams as well
}

// take reads a backup from a caller, verifies all of it, and keeps its history
// on disk.
func (n *Node) take(in io.Reader) (*taken, error) {
	f, err := n.tempFile("history")
	if err != nil {
		return nil, fmt.Errorf("room for the history of the backup: %w", err)
	}
	t := &taken{file: f, records: newSpool(n.guard(f), f)}
	same := map[fsm.Stream]*prefix{}
	t.common = map[fsm.Stream]uint64{}
	for _, stream := range fsm.Streams() {
		same[stream] = &prefix{history: n.store.History}
	}
	t.readBackup, err = loadBackup(in, &chainWalk{wallMs: n.wallMs()}, func(r fsm.Record) error {
		if p := same[r.Stream]; p != nil {
			if err := p.next(r); err != nil {
				return err
			}
		}
		return t.records.add(r)
	})
	if err == nil {
		err = t.records.done()
	}
	if err != nil {
		_ = f.Close() // it holds nothing that anybody wants
		return nil, err
	}
	for stream, p := range same {
		t.common[stream] = p.n
	}
	return t, nil
}

func (t *taken) close() { _ = t.file.Close() } // likewise

// prefix counts the records of a stream that are those of this cluster's too, up
// to the first that differs: what comes after that is another past.
type prefix struct {
	history fsm.History
	n       uint64
	parted  bool
	page    []fsm.Record
}

const prefixPage = 512

func (p *prefix) next(r fsm.Record) (err error) {
	if p.parted {
		return nil
	}
	if len(p.page) == 0 {
		if p.page, err = p.history.Read(r.Stream, r.Seq, prefixPage); err != nil {
			return err
		}
	}
	if len(p.page) == 0 || !bytes.Equal(p.page[0].Data, r.Data) {
		p.parted = true
		return nil
	}
	p.page, p.n = p.page[1:], r.Seq
	return nil
}

// plan tells what a restore into the present state would do.
func (n *Node) plan(t *taken, present *fsm.State) (client.RestorePlan, error) {
	next, _, err := fsm.Restored(t.state, present, fsm.Recovery{AtMs: n.wallMs(), Action: actionRestore})
	if err != nil {
		return client.RestorePlan{}, &client.Error{Code: client.CodeConflict, Detail: err.Error()}
	}
	m := present.Meta()
	if need := t.state.NeedsLevel(); need > m.Level {
		return client.RestorePlan{}, &client.Error{Code: client.CodeConflict, Reason: reasonLevel, Detail: fmt.Sprintf(
			"what the backup holds needs feature level %d, this cluster is at %d: upgrade every server first", need, m.Level)}
	}
	u := fsm.CompareRestore(t.state, present)
	p := client.RestorePlan{
		Backup: client.SnapshotRef{ClusterID: t.ClusterID, Epoch: t.Epoch, Index: t.Index, ClockMs: t.ClockMs,
			ChainHead: t.ChainHead, ChainSize: t.ChainSize, Bytes: t.Bytes, SHA256: t.SHA256},
		Present:      client.SnapshotRef{ClusterID: m.ClusterID, Epoch: m.Epoch, Index: m.Index, ClockMs: m.ClockMs, ChainHead: m.ChainHead, ChainSize: m.ChainSize},
		OtherCluster: t.ClusterID != m.ClusterID, NewEpoch: present.NextEpoch(t.Epoch),
		AdmissionsPauseMs: max(0, next.Recovering()-next.ClockMs()),
	}
	p.BansLost, p.BansLostList = len(u.BansLost), rowsOf(u.BansLost, banRow)
	p.BansBack, p.BansBackList = len(u.BansBack), rowsOf(u.BansBack, banRow)
	p.AgentsLost, p.AgentsLostIDs = len(u.AgentsLost), rowsOf(u.AgentsLost, func(a fsm.Agent) string { return a.ID })
	after := func(id string) (fsm.Agent, bool) { return present.AfterRestore(t.state, id) }
	p.AgentsChanged, p.AgentsList = len(u.AgentsOther), rowsOf(u.AgentsOther, func(a fsm.Agent) client.AgentChange { return changeOf(after, a) })
	p.AgentsRekeyed = rekeyed(after, u.AgentsOther)
	var void []string
	for _, tok := range present.Tokens() {
		if _, in := present.TokenInForce(tok.ID, m.ClockMs); in && tok.Role.SingleUse() {
			void = append(void, tok.ID)
		}
	}
	p.TokensEnd, p.TokensVoid = len(void), rowsOf(void, func(id string) string { return id })
	p.AgentsAdded, p.AgentsAddedIDs = len(u.AgentsAdded), rowsOf(u.AgentsAdded, func(a fsm.Agent) string { return a.ID })
	p.KeysAdded, p.KeysAddedList = len(u.KeysAdded), rowsOf(u.KeysAdded, keyRow)
	planManifests(&p, u, t.state, present)
	text := func(s string) string { return s }
	p.RulesKept, p.RulesKeptList = len(u.RulesKept), rowsOf(u.RulesKept, text)
	p.RulesNew, p.RulesNewList = len(u.RulesNew), rowsOf(u.RulesNew, text)
	p.GoneAdded, p.GoneAddedIDs = len(u.GoneAdded), rowsOf(u.GoneAdded, func(r fsm.Removal) string { return r.ID })
	was := next.Meta()
	closed := max(m.NonceFloorMs, m.ClockMs-present.Policy().MaxSkewMs) // what is older is refused already
	p.ClockJumpMs, p.FloorJumpMs = max(0, was.ClockMs-m.ClockMs), max(0, was.NonceFloorMs-closed)
	p.Closed, p.ClosedMs = newlyClosed(next.Meta(), m)
	events, records := t.common[fsm.StreamBlacklist], t.common[fsm.StreamAdmin]
	p.EventsLost = m.ChainSize - min(m.ChainSize, events)
	money := t.common[fsm.StreamLedger]
	p.LedgerLost, p.LedgerThen = u.LedgerNow-min(u.LedgerNow, money), u.LedgerThen
	if !p.OtherCluster {
		p.RecordsLost = m.AdminSize - min(m.AdminSize, records)
		// A past of this cluster has nothing that the present never had.
		p.Forked = t.ChainSize > events || t.AdminRecords > records || u.LedgerThen > money || p.AgentsAdded > 0 || p.KeysAdded > 0 || p.GoneAdded > 0 || p.ManifestsAdded > 0 || u.ManifestsForked
	}
	same, err := samePolicy(t.state.Policy(), present.Policy())
	if err != nil {
		return p, err
	}
	p.PolicyLost = !same
	p.Older = olderThan(p)
	p.Confirm, err = confirmOf(t, present, u, void)
	return p, err
}

// planManifests tells what becomes of manifests: what was accepted stays so, and
// the trust policy is the backup's.
func planManifests(p *client.RestorePlan, u fsm.Undone, backup, present *fsm.State) {
	row := func(other *fsm.State) func(fsm.Manifest) client.ManifestRow {
		return func(m fsm.Manifest) client.ManifestRow {
			st := m.Newest().Statement
			then, _ := other.Manifest(m.Name)
			return client.ManifestRow{Name: m.Name, Version: st.Version, SHA256: st.SHA256.String(), Then: then.Newest().Statement.Version}
		}
	}
	p.ManifestsKept, p.ManifestsKeptList = len(u.ManifestsKept), rowsOf(u.ManifestsKept, row(backup))
	p.ManifestsAdded, p.ManifestsAddedList = len(u.ManifestsAdded), rowsOf(u.ManifestsAdded, row(present))
	changed, back, gone := u.TrustChanged()
	p.TrustLost, p.TrustBackList, p.TrustGoneList = changed, append([]string{}, back...), append([]string{}, gone...)
}

// newlyClosed lists the ranges that a restore closes, and how much of them is
// still to come: time in which nothing will be admitted.
func newlyClosed(next, present fsm.Meta) (out []client.Closed, aheadMs int64) {
	out = []client.Closed{}
	for _, r := range next.Closed {
		if !slices.Contains(present.Closed, r) {
			out = append(out, client.Closed{FromMs: r.FromMs, ToMs: r.ToMs})
			aheadMs += max(0, r.ToMs-max(r.FromMs, next.ClockMs))
		}
	}
	return out, aheadMs
}

// agreed holds an order against the plan of this moment.
func agreed(p client.RestorePlan, o client.RestoreOrder) error {
	switch {
	case o.Confirm != p.Confirm:
		return &client.Error{Code: client.CodeConflict, Field: "confirm",
			Detail: "this is not what was planned: the backup is another, or what the restore would undo has changed since; nothing was done, plan again"}
	case p.Older && !o.LoseAcknowledged:
		return &client.Error{Code: client.CodeConflict, Field: "lose_acknowledged",
			Detail: "nothing was done: " + lossText(p) + "; say that this may be (--lose-acknowledged)"}
	}
	return nil
}

// lossText names what makes a plan Older, for people.
func lossText(p client.RestorePlan) string {
	var all []string
	count := func(n uint64, what string) {
		if n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(uint64(p.BansLost), "bans in force now that the backup lacks")
	count(uint64(p.BansBack), "lifted bans that come back")
	count(uint64(p.AgentsLost), "agents that the backup lacks")
	count(uint64(p.AgentsChanged), "agents that were otherwise then")
	count(uint64(p.AgentsRekeyed), "of them with other keys")
	count(uint64(p.AgentsAdded), "agents that only the backup has")
	count(uint64(p.KeysAdded), "signing keys that only the backup has")
	count(uint64(p.GoneAdded), "removed nodes that only the backup knows, refused for ever")
	count(p.EventsLost, "events of the chain that end")
	count(p.RecordsLost, "administrative records that end")
	count(p.LedgerLost, "records of the ledger that end, with what they moved")
	if p.PolicyLost {
		all = append(all, "another policy")
	}
	if p.TrustLost {
		all = append(all, "other signers or sources of manifests")
	}
	if p.Forked {
		all = append(all, "a past that this cluster did not have")
	}
	if p.AdmissionsPauseMs > maxPauseMs {
		all = append(all, fmt.Sprintf("no admission for %s", time.Duration(p.AdmissionsPauseMs)*time.Millisecond))
	}
	if p.ClosedMs > maxPauseMs {
		all = append(all, fmt.Sprintf("%s to come in which nothing is admitted", time.Duration(p.ClosedMs)*time.Millisecond))
	}
	return "the backup means " + strings.Join(all, ", ")
}

// maxPauseMs is the longest pause that an honest backup makes by itself: its
// clock an hour ahead, and the widest window. It may close far more, for ever even.
const maxPauseMs = 3 * fsm.MaxSkewMs

// maxGoneOfAnother is how many removed nodes of another cluster need no word: few
// remove more, and what is remembered of them leaves all the others their room.
const maxGoneOfAnother = fsm.MaxRemoved / 100

// olderThan tells whether the present holds what was acknowledged and the backup
// lacks, or whether admissions would be gone for long. A new cluster's own
// beginnings are no loss.
func olderThan(p client.RestorePlan) bool {
	lost := p.BansLost > 0 || p.AgentsLost > 0 || p.AgentsChanged > 0 || p.EventsLost > 0 || p.LedgerLost > 0 || p.AdmissionsPauseMs > maxPauseMs || p.ClosedMs > maxPauseMs
	if p.OtherCluster {
		return lost || p.GoneAdded > maxGoneOfAnother
	}
	return lost || p.BansBack > 0 || p.RecordsLost > 0 || p.PolicyLost || p.TrustLost || p.Forked
}

// confirmOf names the backup and everything of the present that the restore
// undoes: epoch, chain, the bans and agents that differ, policy, and the tokens
// that end. It leaves out what moves by itself, index and clock, and what the
// restore keeps: admissions, members, other tokens.
func confirmOf(t *taken, present *fsm.State, u fsm.Undone, void []string) (string, error) {
	m := present.Meta()
	text := []byte("edgecoder restore confirm v1\n")
	for _, part := range []any{t.SHA256, m.ClusterID, m.Epoch, m.ChainHead, m.ChainSize, u.BansLost, u.BansBack, u.AgentsLost, u.AgentsOther,
		u.AgentsAdded, u.KeysAdded, u.GoneAdded, present.Policy(), void, u.ManifestsKept, u.ManifestsAdded, u.Trust} {
		data, err := fsm.Encode(part)
		if err != nil {
			return "", err
		}
		text = append(text, data...)
	}
	return crypto.Sum(text).String(), nil
}

func samePolicy(a, b fsm.Policy) (bool, error) {
	x, err := fsm.Encode(a)
	if err != nil {
		return false, err
	}
	y, err := fsm.Encode(b)
	return bytes.Equal(x, y), err
}

func rowsOf[A, B any](all []A, row func(A) B) []B {
	out := make([]B, 0, min(len(all), client.MaxPlanRows))
	for _, a := range all[:min(len(all), client.MaxPlanRows)] {
		out = append(out, row(a))
	}
	return out
}

func banRow(b fsm.Ban) client.Ban {
	return client.Ban{AgentID: b.AgentID, EventID: b.EventID, EventHash: b.EventHash.String(), Seq: b.Seq, ReasonCode: b.ReasonCode,
		TimestampMs: b.TimestampMs, ExpiresAtMs: b.ExpiresMs}
}

func keyRow(k fsm.SigningKey) client.KeyRow {
	return client.KeyRow{PeerID: k.Public.CoordinatorID(), NodeID: k.NodeID, PublicKey: k.Public.String()}
}

// agentsThen finds agents as they will be.
type agentsThen func(id string) (fsm.Agent, bool)

func changeOf(then agentsThen, now fsm.Agent) client.AgentChange {
	out := client.AgentChange{AgentID: now.ID, State: string(now.State)}
	if then, ok := then(now.ID); ok {
		out.Then = string(then.State)
		out.NewKeys = newKeys(then, now)
		if then.Key() != now.Key() {
			out.KeyID, out.ThenKeyID = now.Key().KeyID(), then.Key().KeyID()
		}
	}
	return out
}

func newKeys(then, now fsm.Agent) bool {
	return !then.Keys.Same(now.Keys) || !bytes.Equal(then.EncryptionKey, now.EncryptionKey)
}

// rekeyed counts the agents whose keys will be others.
func rekeyed(then agentsThen, all []fsm.Agent) (n int) {
	for _, now := range all {
		if then, ok := then(now.ID); ok && newKeys(then, now) {
			n++
		}
	}
	return n
}

// lossOf says in one line what is known to be lost, for the history.
func lossOf(t *taken, p client.RestorePlan) string {
	text := fmt.Sprintf("sha256=%s of_index=%d taken=%s bans_lost=%d bans_back=%d agents_lost=%d agents_changed=%d agents_rekeyed=%d agents_added=%d manifests_kept=%d manifests_added=%d manifest_trust_changed=%t signature_rules_kept=%d signature_rules_new=%d events_lost=%d admin_records_lost=%d forked=%t",
		t.SHA256, t.Index, time.UnixMilli(t.ClockMs).UTC().Format(time.RFC3339), p.BansLost, p.BansBack, p.AgentsLost, p.AgentsChanged, p.AgentsRekeyed, p.AgentsAdded, p.ManifestsKept, p.ManifestsAdded, p.TrustLost, p.RulesKept, p.RulesNew, p.EventsLost, p.RecordsLost, p.Forked)
	if p.LedgerLost > 0 || p.LedgerThen > 0 {
		text += fmt.Sprintf(" ledger_lost=%d ledger_size=%d", p.LedgerLost, p.LedgerThen)
	}
	return text
}

// copyOf returns the present state for somebody who takes long over it.
func (n *Node) copyOf() (*fsm.State, error) {
	f := n.machine.Freeze()
	out, in := io.Pipe()
	go func() { in.CloseWithError(f.Write(in)) }() // ends when all is read, or when out is closed
	defer out.Close()
	s, _, err := fsm.ReadSnapshot(out)
	return s, err
}
