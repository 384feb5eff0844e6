package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

var firstNode = Actor{NodeID: "n0"}

// levelWorld is a cluster of n0 and n1 at a feature level, whose binaries know the newest.
func levelWorld(t testing.TB, level uint32) *world {
	w := genesisWorld(t)
	n1 := nodeOf("n1", RoleCoordinator)
	n1.Level = LevelSupported
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n1}))
	w.must(w.do(firstNode, CoordinatorUpdate{ID: "n0", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: LevelSupported}))
	w.s.meta.v.Level = level
	return w
}

// TestLevelRises: only forwards, only on the word of a coordinator, from the
// level that it was asked at, and never past what a member's binary knows.
func TestLevelRises(t *testing.T) {
	w := levelWorld(t, LevelRecovery)
	raise := LevelRaise{From: LevelRecovery, To: LevelUpgrades, Version: "v5"}
	for name, c := range map[string]struct {
		actor Actor
		raise LevelRaise
		want  Code
	}{
		"an admin":            {admin, raise, CodeForbidden},
		"a stranger":          {Actor{NodeID: "n7"}, raise, CodeForbidden},
		"from another level":  {firstNode, LevelRaise{From: 1, To: LevelUpgrades}, CodeConflict},
		"to the same":         {firstNode, LevelRaise{From: LevelRecovery, To: LevelRecovery}, CodeInvalid},
		"down":                {firstNode, LevelRaise{From: LevelRecovery, To: 1}, CodeInvalid},
		"below what knows it": {firstNode, LevelRaise{From: LevelRecovery, To: LevelClients}, CodeInvalid},
		"a long version":      {firstNode, LevelRaise{From: LevelRecovery, To: LevelUpgrades, Version: strings.Repeat("v", MaxLabelBytes+1)}, CodeTooLarge},
	} {
		if res := w.do(c.actor, c.raise); res.Code != c.want {
			t.Errorf("%s: %+v, want %s", name, res, c.want)
		}
	}
	old := nodeOf("old", RoleObserver)
	old.Level = LevelClients
	w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: old})) // after the leader asked, before the raise
	w.want(w.do(firstNode, raise), CodeConflict)
	w.must(w.do(admin, CoordinatorRemove{ID: "old"}))
	w.must(w.do(firstNode, raise))
	if m := w.s.Meta(); m.Level != LevelUpgrades || m.LevelVersion != "v5" {
		t.Fatalf("%+v", m)
	}
	records := recordsOf(t, w.history, StreamAdmin)
	var last AdminRecord
	if err := Decode(records[len(records)-1].Data, &last); err != nil || last.Action != "level_raise" || last.Detail != "from=2 to=5 version=v5" {
		t.Errorf("%+v, %v", last, err)
	}
}

// TestLevelRefusesOlderMembers: from LevelUpgrades on; older logs were applied without.
func TestLevelRefusesOlderMembers(t *testing.T) {
	for level, want := range map[uint32]Code{LevelClients: CodeOK, LevelUpgrades: CodeConflict} {
		w := levelWorld(t, level)
		old := nodeOf("old", RoleCoordinator)
		old.Level = LevelUpgrades - 1
		if level == LevelClients {
			old.Level = LevelClients - 1
		}
		w.want(w.do(joiner, CoordinatorJoin{Coordinator: old}), want)
		w.want(w.do(Actor{NodeID: "n1"}, CoordinatorUpdate{ID: "n1", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: old.Level}), want)
	}
}

// encodedAnyway is the log entry of a command that this binary would not write.
func encodedAnyway(t testing.TB, kind Kind, body any) []byte {
	t.Helper()
	raw, err := Encode(body)
	if err != nil {
		t.Fatal(err)
	}
	data, err := Encode(Command{Version: commandVersion, Kind: kind, AtMs: worldStart, Actor: firstNode, Body: raw})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLevelOfANewerLogStopsTheReplica: at the entry, with the state as it was
// before it, and for good.
func TestLevelOfANewerLogStopsTheReplica(t *testing.T) {
	newerKind := KindLevelRaise
	for kind := range tenants {
		newerKind = max(newerKind, kind+1)
	}
	newerEnvelope, err := Encode(Command{Version: commandVersion + 1, Kind: KindTick, Body: []byte{0xa0}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"level":    encodedAnyway(t, KindLevelRaise, LevelRaise{From: LevelUpgrades, To: LevelSupported + 1, Version: "v9"}),
		"genesis":  encodedAnyway(t, KindGenesis, Genesis{Level: LevelSupported + 1}),
		"kind":     encodedAnyway(t, newerKind, Tick{}),
		"envelope": newerEnvelope,
	} {
		t.Run(name, func(t *testing.T) {
			w := levelWorld(t, LevelUpgrades)
			m := NewMachine(w.history, nil)
			var told []error
			m.OnNewerLog(func(err error) { told = append(told, err) })
			m.state = w.s
			index, digest := w.s.Index(), w.s.Digest()
			m.Apply(&raft.Log{Index: index + 1, Data: data})
			tick, err := New(Actor{}, Tick{})
			if err != nil {
				t.Fatal(err)
			}
			tick.AtMs = w.wallMs
			next, err := EncodeCommand(tick)
			if err != nil {
				t.Fatal(err)
			}
			m.Apply(&raft.Log{Index: index + 2, Data: next})
			if len(told) != 1 || !errors.Is(told[0], ErrLevel) || w.s.Index() != index || w.s.Digest() != digest {
				t.Errorf("told %v; index %d, was %d", told, w.s.Index(), index)
			}
			if name == "level" && !strings.Contains(told[0].Error(), fmt.Sprintf("feature level %d is needed (version \"v9\" or newer), this binary knows %d", LevelSupported+1, LevelSupported)) {
				t.Errorf("it does not say what is needed: %v", told)
			}
			if _, err := m.Snapshot(); !errors.Is(err, ErrLevel) {
				t.Errorf("a snapshot is taken: %v", err)
			}
			if cmd, err := DecodeCommand(data); err == nil {
				if _, err := EncodeCommand(cmd); err == nil {
					t.Error("this binary would propose it")
				}
			}
		})
	}
}

// TestLevelOfASnapshot: binaries from before LevelUpgrades know no levels of
// states, so the number of the format keeps them out; this one looks.
func TestLevelOfASnapshot(t *testing.T) {
	for level, version := range map[uint32]int{LevelClients: 2, LevelUpgrades: 3} {
		if got := levelWorld(t, level).s.Freeze().header.Version; got != version {
			t.Errorf("level %d is written in version %d, want %d", level, got, version)
		}
	}
	type newerMeta struct {
		Level   uint32 `cbor:"7,keyasint"`
		Version string `cbor:"17,keyasint"`
		More    string `cbor:"99,keyasint"`
	}
	type newerHeader struct {
		Version int    `cbor:"1,keyasint"`
		More    string `cbor:"99,keyasint"`
	}
	meta, err := Encode(newerMeta{Level: LevelSupported + 1, Version: "v9", More: "x"})
	if err != nil {
		t.Fatal(err)
	}
	p := takeApart(t, levelWorld(t, LevelUpgrades))
	p.field("meta").rows[0] = meta
	var header bytes.Buffer
	f := newFrameWriter(&header)
	f.raw([]byte(snapshotMagic))
	f.value(newerHeader{Version: snapshotVersion + 1, More: "x"})
	if err := f.finish(); err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{fmt.Sprintf("level %d is needed (version \"v9\" or newer)", LevelSupported+1): p.sealed(t), "version 4, this binary reads up to 3": header.Bytes()} {
		_, _, err := ReadSnapshot(bytes.NewReader(data))
		if !errors.Is(err, ErrLevel) || !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	w := levelWorld(t, LevelUpgrades)
	m := NewMachine(NewMemoryHistory(), nil)
	if err := m.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, w.s, w.history)))); err != nil {
		t.Error(err)
	}
}
