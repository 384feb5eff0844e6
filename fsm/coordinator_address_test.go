package fsm

import (
	"slices"
	"testing"
)

// observerWorld has the observer "watcher" beside n0 and n1, which are at
// coordinator-N.example.
func observerWorld(t *testing.T, level uint32, api string) *world {
	w := levelWorld(t, level)
	for _, id := range []string{"n0", "n1"} {
		n, _ := w.s.coordinators.get(id)
		n.API, n.Raft = "Coordinator-"+id+".example:443", "192.0.2.1:4302"
		w.s.coordinators.put(id, n)
	}
	watcher := nodeOf("watcher", RoleObserver)
	watcher.Level, watcher.API, watcher.Raft, watcher.Hosts = LevelSupported, api, "127.0.0.1:2", []string{"forged.example"}
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: watcher}))
	return w
}

func describe(w *world, api, version string) Result {
	return w.do(Actor{NodeID: "watcher"}, CoordinatorUpdate{ID: "watcher", API: api, Raft: "127.0.0.1:2", Gossip: "127.0.0.1:3", Level: LevelSupported, Version: version})
}

// TestObserverCertificateNamesItsOwnHosts: those of its join, and never one that
// a coordinator has on record, in no spelling.
func TestObserverCertificateNamesItsOwnHosts(t *testing.T) {
	want := []string{"watcher.example", "127.0.0.1"}
	w := observerWorld(t, LevelUpgrades, "watcher.example:443")
	if got := w.s.CertificateHosts("watcher"); !slices.Equal(got, want) {
		t.Errorf("after its join: %q", got)
	}
	for _, api := range []string{"coordinator-n1.example:443", "balancer.example:443", "192.0.2.1:443"} {
		w.must(describe(w, api, "test"))
		if got := w.s.CertificateHosts("watcher"); !slices.Equal(got, want) {
			t.Errorf("once it called itself %s: %q", api, got)
		}
		w.pass(UpdatePauseMs)
	}
	for _, level := range []uint32{LevelClients, LevelUpgrades} {
		for _, api := range []string{"coordinator-n1.example:443", "COORDINATOR-n1.example.:1", "192.0.2.1:443", "[::ffff:192.0.2.1]:443"} {
			if got := observerWorld(t, level, api).s.CertificateHosts("watcher"); !slices.Equal(got, want[1:]) {
				t.Errorf("level %d, joined as %s: %q", level, api, got)
			}
		}
	}
	if got := w.s.CertificateHosts("n1"); !slices.Equal(got, []string{"coordinator-n1.example", "192.0.2.1"}) {
		t.Errorf("a coordinator: %q", got)
	}
}

// TestMemberDescribesItselfRarely: each change stays in history for ever.
func TestMemberDescribesItselfRarely(t *testing.T) {
	w := observerWorld(t, LevelUpgrades, "watcher.example:443")
	before := w.s.Meta().AdminSize
	w.must(describe(w, "watcher.example:443", "test"))
	if now := w.s.Meta().AdminSize; now != before {
		t.Errorf("an unchanged description is in history: %d records, then %d", before, now)
	}
	w.must(describe(w, "watcher.example:443", "v2"))
	w.want(describe(w, "watcher.example:443", "v3"), CodeOverloaded)
	w.pass(UpdatePauseMs)
	w.must(describe(w, "watcher.example:443", "v3"))
	if now := w.s.Meta().AdminSize; now != before+2 {
		t.Errorf("%d records, then %d", before, now)
	}
	old := observerWorld(t, LevelClients, "watcher.example:443")
	for range 2 { // older logs were applied without
		old.must(describe(old, "no port = none", "v2\n"))
	}
}

// TestAddressesAreHostAndPort: they go into history, certificates and dials.
func TestAddressesAreHostAndPort(t *testing.T) {
	for _, bad := range []string{"x", ":443", "x:", "a b:1", "a=b:1", "*.example:1", "a/b:1", "a@b:1", "x:1 version=9", "::1:443", "[::1]443", "[x]:1", "[192.0.2.1]:1", "x\n:1", "x:-\x00", "[fe80::1%a b]:1"} {
		w := observerWorld(t, LevelUpgrades, "watcher.example:443")
		w.want(describe(w, bad, "test"), CodeInvalid)
		n := nodeOf("n9", RoleCoordinator)
		n.Level, n.Gossip = LevelSupported, bad
		w.want(w.do(joiner, CoordinatorJoin{Coordinator: n}), CodeInvalid)
	}
	w := observerWorld(t, LevelUpgrades, "watcher.example:443")
	w.want(describe(w, "watcher.example:443", "v2\x1b"), CodeInvalid)
	for _, good := range []string{"node_1.example:https", "[::1]:443", "[fe80::1%eth0]:443", "192.0.2.7:1", "EXAMPLE.:80"} {
		w.must(describe(w, good, "test"))
		w.pass(UpdatePauseMs)
	}
}
