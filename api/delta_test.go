package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// mirror is a list that somebody keeps by deltas.
type mirror map[string]uint64

func (m mirror) apply(d client.BlacklistDelta) {
	if d.Reset {
		clear(m)
	}
	for _, agent := range d.Deleted {
		delete(m, agent)
	}
	for _, b := range d.New {
		m[b.AgentID] = b.Seq
	}
}

func (m mirror) names() []string { return slices.Sorted(maps.Keys(m)) }

func TestDeltaKeepsAMirror(t *testing.T) {
	f := newFixture(t)
	have := mirror{}
	cursor := ""
	ask := func() client.BlacklistDelta {
		t.Helper()
		path := "/v1/blacklist/delta"
		if cursor != "" {
			path += "?cursor=" + cursor
		}
		d := decodeReply[client.BlacklistDelta](t, f.admin("GET", path, nil), http.StatusOK)
		have.apply(d)
		cursor = d.Cursor
		return d
	}
	want := func(names ...string) {
		t.Helper()
		if got := have.names(); !slices.Equal(got, names) {
			t.Errorf("%q, want %q", got, names)
		}
	}
	if d := ask(); !d.Reset || d.More || d.New == nil || d.Deleted == nil || d.Cursor == "" {
		t.Errorf("%+v", d)
	}
	f.banAgent("a")
	f.banAgent("b")
	f.banAgent("c")
	f.liftAgent("b")
	if d := ask(); d.Reset || len(d.New) != 2 || len(d.Deleted) != 1 || d.New[0].Seq != 1 || len(d.New[0].EventHash) != 64 {
		t.Errorf("%+v", d)
	}
	want("a", "c")
	before := cursor
	if d := ask(); len(d.New)+len(d.Deleted) != 0 || cursor != before {
		t.Errorf("of nothing new: %+v", d)
	}
	f.liftAgent("a")
	f.banAgent("a") // of one agent the last counts
	if d := ask(); len(d.New) != 1 || len(d.Deleted) != 0 || d.New[0].Seq != 6 {
		t.Errorf("%+v", d)
	}
	want("a", "c")

	epoch := f.node.leader.Meta().Epoch
	for name, other := range map[string]client.DeltaCursor{
		"another epoch":   {Epoch: epoch + 1, Seq: 2},
		"an older epoch":  {Epoch: epoch - 1, Seq: 2},
		"beyond the end":  {Epoch: epoch, Seq: 99},
		"another history": client.CursorAt(epoch, 2, crypto.Sum(nil).String()),
		"no beginning":    {Epoch: epoch},
	} {
		cursor = other.String()
		have["stale"] = 1
		if d := ask(); !d.Reset || cursor != d.Cursor {
			t.Errorf("%s: %+v", name, d)
		}
		want("a", "c")
	}
	for _, bad := range []string{"x", "1-1-1", "1-01-0-0000000000000000", "2-1-0-0000000000000000", "1-1-1-00"} {
		wantProblem(t, f.admin("GET", "/v1/blacklist/delta?cursor="+bad, nil), client.CodeInvalid, "cursor")
	}
}

func TestDeltaIsPaged(t *testing.T) {
	f := newFixture(t)
	for i := range maxDelta + 2 {
		f.banAgent(fmt.Sprintf("a-%04d", i))
	}
	first := decodeReply[client.BlacklistDelta](t, f.admin("GET", "/v1/blacklist/delta", nil), http.StatusOK)
	if len(first.New) != maxDelta || !first.More || !first.Reset {
		t.Fatalf("%d, %v %v", len(first.New), first.More, first.Reset)
	}
	rest := decodeReply[client.BlacklistDelta](t, f.admin("GET", "/v1/blacklist/delta?cursor="+first.Cursor, nil), http.StatusOK)
	if len(rest.New) != 2 || rest.More || rest.Reset {
		t.Errorf("%+v", rest)
	}
}
