package edge_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
)

// mirror is a list that a service keeps by the deltas of an edge.
type mirror struct {
	*face
	t      *testing.T
	bans   map[string]uint64 // seq by agent
	cursor string
}

func (m *mirror) ask() client.BlacklistDelta {
	m.t.Helper()
	status, text := m.do("GET", "/v1/blacklist/delta?cursor="+m.cursor, "")
	var d client.BlacklistDelta
	if err := json.Unmarshal([]byte(text), &d); err != nil || status != http.StatusOK {
		m.t.Fatalf("%d %s: %v", status, text, err)
	}
	if d.Reset {
		clear(m.bans)
	}
	for _, agent := range d.Deleted {
		delete(m.bans, agent)
	}
	for _, b := range d.New {
		m.bans[b.AgentID] = b.Seq
	}
	m.cursor = d.Cursor
	return d
}

func (m *mirror) want(agents ...string) {
	m.t.Helper()
	if got := slices.Sorted(maps.Keys(m.bans)); !slices.Equal(got, agents) {
		m.t.Errorf("%q, want %q", got, agents)
	}
}

// here is the cursor behind all that the edge has.
func (m *mirror) here() string {
	at := m.Status().Position.Head
	return client.CursorAt(at.Epoch, at.Size, at.Chain).String()
}

// TestEdgeServesDeltas: what came lately from the edge itself, the rest from a coordinator.
func TestEdgeServesDeltas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("a", 1, 0)
		c.Cosign(3)
		m := &mirror{face: faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict), t: t, bans: map[string]uint64{"of before": 1}}
		asked := func(times int) {
			t.Helper()
			if got := len(m.coordinators.deltas); got != times {
				t.Fatalf("the coordinators were asked %d times, want %d: %q", got, times, m.coordinators.deltas)
			}
		}
		m.coordinators.delta = client.BlacklistDelta{New: []client.Ban{{AgentID: "a-0", Seq: 1}}, Cursor: m.here(), Reset: true}
		m.ask() // without a cursor
		asked(1)
		m.want("a-0")
		if d := m.ask(); d.Cursor != m.here() || len(d.New)+len(d.Deleted) != 0 || d.New == nil || d.Deleted == nil {
			t.Errorf("of nothing new: %+v", d)
		}
		c.Ban("b", 2, 0)
		c.Lift("a-0")
		c.Lift("b-0")
		c.Ban("b", 1, 0) // of one agent the last counts
		m.tell()
		pass(time.Second)
		m.ask()
		m.want("a-0") // no majority vouched for the rest
		c.Cosign(2)
		pass(edge.DefaultEvery)
		if d := m.ask(); d.More || d.Reset || len(d.New) != 2 || d.New[1].Seq != 6 || d.Cursor != m.here() {
			t.Errorf("%+v", d)
		}
		m.want("b-0", "b-1")
		asked(1)
		c.Ban("c", 1500, 0)
		c.Cosign(3)
		pass(2 * edge.DefaultEvery)
		if first, second := m.ask(), m.ask(); !first.More || second.More || len(m.bans) != 1502 {
			t.Errorf("%d bans by pages of %d and %d", len(m.bans), len(first.New), len(second.New))
		}
		asked(1)
		for i, foreign := range []string{client.CursorAt(1, 7, crypto.Sum(nil).String()).String(), client.CursorAt(2, 7, crypto.BlacklistGenesis).String(), client.CursorAt(1, 9999, crypto.BlacklistGenesis).String()} {
			m.cursor = foreign
			m.ask()
			asked(2 + i)
		}
	})
}

// TestEdgeDeltasAreFresh: who mirrors the list must not take an old one for the newest.
func TestEdgeDeltasAreFresh(t *testing.T) {
	for _, mode := range []string{client.EdgeStrict, client.EdgeBestEffort} {
		inBubble(t, func(t *testing.T) {
			c := newCluster(3)
			c.Ban("a", 3, 0)
			c.Cosign(3)
			f := faceOf(startRig(t, t.TempDir(), c), mode)
			m := &mirror{face: f, t: t, bans: map[string]uint64{}}
			f.coordinators.err = &client.Error{Code: client.CodeUnavailable}
			path := "/v1/blacklist/delta?cursor=" + m.here()
			if status, text := f.do("GET", path, ""); status != http.StatusOK {
				t.Errorf("%s, fresh: %d %s", mode, status, text)
			}
			pass(edge.DefaultLease + time.Second)
			if status, text := f.do("GET", path, ""); status != http.StatusServiceUnavailable {
				t.Errorf("%s, after the lease: %d %s", mode, status, text)
			}
			for _, bad := range []string{"x", "1-1-1", "1-01-0-0000000000000000", fmt.Sprintf("2%s", m.here()[1:])} {
				if status, text := f.do("GET", "/v1/blacklist/delta?cursor="+bad, ""); status != http.StatusUnprocessableEntity {
					t.Errorf("%s: %d %s", bad, status, text)
				}
			}
		})
	}
}
