package fsm

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestMembersAreToldApart: whoever joins, leaves and comes back, in any order, no two members share an id, a name or a key, no key changes hands,
// and what comes of it is a state that a backup may hold.
func TestMembersAreToldApart(t *testing.T) {
	texts := []string{"n0", "name-n0", "a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		w := genesisWorld(t)
		w.s.meta.v.Level = LevelCheckpoints
		owners := map[crypto.PublicKey]string{}
		for i := range 40 {
			id, name, key := pick(t, "id", texts), pick(t, "name", texts), publicKey(pick(t, "key", texts))
			via := Actor{TokenID: "edge", Via: pick(t, "via", []string{"", "n0"})}
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0, 1, 2:
				w.do(via, EdgeJoin{ID: fmt.Sprintf("cred-%d", i), Hash: crypto.Sum([]byte{1}), Edge: Edge{NodeID: id, Name: name, SigningKey: key, TLSKey: crypto.Sum([]byte{2})}})
			case 3, 4:
				n := newNode(id, name)
				n.Coordinator.SigningKey = key
				via.TokenID = "coordinator"
				w.do(via, n)
			case 5:
				if cred, known := w.s.EdgeCredential(id); known {
					w.must(w.do(admin, TokenRevoke{ID: cred}))
				}
			case 6:
				w.do(admin, CoordinatorRemove{ID: id, Compromised: i%2 == 0})
			case 7:
				w.s.meta.v.ClockMs += tokenKeepMs + 1 // ended edges are forgotten
				w.wallMs = w.s.meta.v.ClockMs
				w.mark()
			}
			w.membersApart(t, owners)
		}
		if err := w.s.Validate(0); err != nil {
			t.Fatal(err)
		}
		s, _ := restored(t, snapshotOf(t, w.s, w.history))
		if s.Digest() != w.s.Digest() || s.Digest() != s.FullDigest() || len(s.edges) != len(w.s.edges) {
			t.Fatal("the snapshot reads as another state")
		}
	})
}

func (w *world) membersApart(t *rapid.T, owners map[crypto.PublicKey]string) {
	names := map[string]string{}
	member := func(id, name string, key crypto.PublicKey) {
		for _, text := range []string{id, name} {
			if by, taken := names[text]; taken && by != id {
				t.Fatalf("%q is %s and %s", text, by, id)
			}
			names[text] = id
		}
		if by, taken := owners[key]; taken && by != id {
			t.Fatalf("a key of %s came to %s", by, id)
		}
		owners[key] = id
		if w.s.IsRemoved(id) {
			t.Fatalf("%s is a member, and was removed", id)
		}
	}
	for _, n := range w.s.Coordinators() {
		member(n.ID, n.Name, n.SigningKey)
	}
	for id := range w.s.edges {
		if e, live := w.s.Edge(id); live {
			member(e.NodeID, e.Name, e.SigningKey)
		}
	}
}
