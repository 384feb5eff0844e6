package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// head is the fake's tree, and the one checkpoint that its coordinator cosigned.
func (n *fakeNode) head(log string) (checkpoint.Checkpoint, *client.Error) {
	stream, known := map[string]fsm.Stream{checkpoint.LogBlacklist: fsm.StreamBlacklist, checkpoint.LogLedger: fsm.StreamLedger}[log]
	if !known {
		return checkpoint.Checkpoint{}, &client.Error{Code: client.CodeNotFound, Detail: "no such log"}
	}
	var edge checkpoint.Frontier
	_, totals := n.history.Totals()
	for _, r := range must(n.history.Read(stream, 1, int(totals[stream]-n.unsealed))) {
		edge.Append(checkpoint.LeafHash(r.Data))
	}
	return edge.Checkpoint(checkpoint.Origin{ClusterID: n.leader.Meta().ClusterID, Log: log, Epoch: n.leader.Meta().Epoch}), nil
}

func (n *fakeNode) Checkpoint(log string) ([]byte, error) {
	c, e := n.head(log)
	if e != nil {
		return nil, e
	}
	note := checkpoint.Note{Checkpoint: c, Signatures: []checkpoint.Signature{checkpoint.SignLog(n.key, c), checkpoint.Cosign(n.key, c, n.nowMs/1000)}}
	return note.Encode(), nil
}

func (n *fakeNode) ProveInclusion(_ context.Context, log string, seq, size uint64) (client.InclusionProof, error) {
	c, e := n.head(log)
	if e != nil {
		return client.InclusionProof{}, e
	}
	if seq > c.Size || size > c.Size {
		return client.InclusionProof{}, &client.Error{Code: client.CodeInvalid, Field: "seq", Detail: "beyond the end"}
	}
	return client.InclusionProof{Origin: c.Origin.String(), Seq: seq, Size: c.Size, Root: c.Root.String(), Hashes: []string{}}, nil
}

func (n *fakeNode) ProveConsistency(_ context.Context, log string, from, to uint64) (client.ConsistencyProof, error) {
	c, e := n.head(log)
	if e != nil {
		return client.ConsistencyProof{}, e
	}
	return client.ConsistencyProof{Origin: c.Origin.String(), From: from, To: c.Size, ToRoot: c.Root.String(), Hashes: []string{}}, nil
}

// putSet brings a set of the fake's coordinator and others into force, signed by all who vouch for it.
func (n *fakeNode) putSet(known []crypto.PrivateKey, cosigners ...crypto.PrivateKey) {
	var keys []crypto.PublicKey
	for _, key := range append(cosigners, n.key) {
		keys = append(keys, crypto.PublicOf(key))
	}
	cluster := n.leader.Meta().ClusterID
	now, some := n.leader.CosignerSet()
	previous := crypto.Hash{}
	if some {
		previous = now.Signed(cluster).Hash()
	}
	set := must(checkpoint.NewSet(cluster, now.Version+1, n.leader.Meta().Epoch, previous, keys))
	by := set
	if some {
		by = now.Signed(cluster).Set
	}
	signed := checkpoint.SignedSet{Set: set}
	for _, key := range append(known, n.key) {
		if by.Has(crypto.PublicOf(key)) {
			signed.Signatures = append(signed.Signatures, set.Sign(key))
		}
	}
	n.mustApply(fsm.Actor{NodeID: "node-1"}, fsm.CosignerSetPut{Set: fsm.NewCosignerSet(signed)})
}

// TestCheckpointIsServedAsANote: a client that holds the sets needs nothing else to believe what any node serves.
func TestCheckpointIsServedAsANote(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelCheckpoints)
	other := []crypto.PrivateKey{must(crypto.GenerateKey(rand.Reader))}
	join := f.node.coordinator("node-2", "n2", crypto.PublicOf(other[0]))
	join.Level = fsm.LevelSupported
	f.node.mustApply(fsm.Actor{TokenID: must(crypto.ParseTokenText(f.tokens[fsm.RoleCoordinator])).ID}, fsm.CoordinatorJoin{Coordinator: join})
	f.node.putSet(other, other...)
	f.node.putSet(other)
	f.node.putSet(other, other...)
	rec := f.admin("GET", "/v1/blacklist/checkpoint", nil)
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") || rec.Header().Get(client.HeaderIndex) == "" {
		t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	var sets client.CosignerSets
	page := f.admin("GET", "/v1/blacklist/cosigners?limit=2", nil)
	if err := json.Unmarshal(page.Body.Bytes(), &sets); err != nil || len(sets.Sets) != 2 || sets.Next != 3 {
		t.Fatalf("%s, %v", page.Body, err)
	}
	signed := must(checkpoint.ParseSet([]byte(sets.Sets[0].Note)))
	next := must(checkpoint.ParseSet([]byte(sets.Sets[1].Note)))
	if err := signed.VerifyRoot(); err != nil {
		t.Error(err)
	}
	set, err := signed.Follow([]checkpoint.SignedSet{next})
	if err != nil || set.Hash().String() != sets.Sets[1].Hash || sets.Sets[1].Previous != sets.Sets[0].Hash {
		t.Errorf("%+v, %v", sets, err)
	}
	if _, err := set.OpenFinal(rec.Body.Bytes()); err != nil {
		t.Error(err)
	}
}

func TestProofQueriesAreHeldToNumbers(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelCheckpoints)
	for path, field := range map[string]string{
		"/v1/blacklist/proof/inclusion":                         "seq",
		"/v1/blacklist/proof/inclusion?seq=0":                   "seq",
		"/v1/blacklist/proof/inclusion?seq=x":                   "seq",
		"/v1/blacklist/proof/inclusion?seq=1&size=-1":           "size",
		"/v1/blacklist/proof/inclusion?seq=1":                   "seq",
		"/v1/blacklist/proof/consistency?from=9007199254740992": "from",
		"/v1/blacklist/proof/consistency?to=1&to=2":             "to",
		"/v1/blacklist/cosigners?from=zero":                     "from",
	} {
		rec := f.admin("GET", path, nil)
		var p client.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code != client.CodeInvalid || p.Field != field {
			t.Errorf("%s: %s, %v", path, rec.Body, err)
		}
	}
}
