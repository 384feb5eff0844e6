package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// standing returns where the artifact of a name stands now.
func (w *world) standing(name, artifact string) ManifestState {
	m, _ := w.s.Manifest(name)
	_, state := m.Standing(crypto.Sum([]byte(artifact)), w.s.ManifestTrust(), w.s.ClockMs())
	return state
}

func (w *world) wantStanding(name, artifact string, want ManifestState) {
	w.t.Helper()
	if got := w.standing(name, artifact); got != want {
		w.t.Errorf("%s of %s is %q, want %q", artifact, name, got, want)
	}
}

// acceptedWorld has accepted versions 1 to n of "bin", whose artifacts are "v1" and so on.
func acceptedWorld(t testing.TB, n int) *world {
	w := trustedWorld(t, 1, "a", "b")
	for i := range n {
		w.must(w.do(operator, acceptOf(w.statementOf("bin", fmt.Sprint(i+1), fmt.Sprint("v", i+1)), "a")))
	}
	return w
}

// What was revoked is in force no more, under no version, and is a floor still.
func TestManifestRevoked(t *testing.T) {
	w := acceptedWorld(t, 2)
	w.want(w.do(operator, ManifestRevoke{Name: "bin", Version: "1"}), CodeForbidden)
	w.want(w.do(Actor{}, ManifestRevoke{Name: "bin", Version: "1"}), CodeUnauthorized)
	w.want(w.do(admin, ManifestRevoke{Name: "other", Version: "1"}), CodeNotFound)
	w.want(w.do(admin, ManifestRevoke{Name: "bin", Version: "7"}), CodeNotFound)
	w.want(w.do(admin, ManifestRevoke{Name: "bin", Version: "x"}), CodeInvalid)
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "v1.0"}))
	w.wantStanding("bin", "v1", ManifestRevoked)
	w.wantStanding("bin", "v2", ManifestActive)
	records := recordsOf(t, w.history, StreamAdmin)
	var last AdminRecord
	if err := Decode(records[len(records)-1].Data, &last); err != nil || last.Action != "manifest_revoke" || !strings.Contains(last.Detail, "version=1 ") || !strings.Contains(last.Detail, `floor="2"`) {
		t.Errorf("history has %+v, %v", last, err)
	}
	if again := w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "1"})); !again.Repeated {
		t.Errorf("again: %+v", again)
	}
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "3", "v1"), "a")), CodeConflict) // the same artifact under another version
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "2"}))
	for _, version := range []string{"1.9", "2"} {
		w.want(w.do(operator, acceptOf(w.statementOf("bin", version, "v2"), "a")), CodeConflict)
	}
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "2.1", "mended"), "a")))
	if err := w.s.Validate(0); err != nil || w.s.Digest() != w.s.FullDigest() {
		t.Errorf("the state: %v", err)
	}
	again, _ := restored(t, snapshotOf(t, w.s, w.history))
	if again.Digest() != w.s.Digest() {
		t.Error("a snapshot loses it")
	}
}

// A slip is undone without a way back below what came before it.
func TestManifestForgotten(t *testing.T) {
	w := acceptedWorld(t, 2)
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "20260101", "v3"), "a")))
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "3", "v3"), "a")), CodeConflict)
	w.want(w.do(admin, ManifestRevoke{Name: "bin", Version: "2", Forget: true}), CodeConflict)
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "20260101"})) // and as if that were not enough
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "20260101", Forget: true}))
	w.wantStanding("bin", "v3", "")
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1.9", "old"), "a")), CodeConflict)
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "3", "v3"), "a")))
	w.wantStanding("bin", "v3", ManifestActive)
	for _, version := range []string{"3", "2", "1"} {
		w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: version, Forget: true}))
	}
	if n := w.s.Sizes()["manifests"]; n != 0 || w.s.Digest() != w.s.FullDigest() {
		t.Errorf("%d names are left", n)
	}
}

// Once older versions are kept no more, the last one is not forgotten: they could come back.
func TestManifestForgetStopsAtWhatWasTrimmed(t *testing.T) {
	w := acceptedWorld(t, MaxManifestVersions+1)
	for i := MaxManifestVersions + 1; i > 2; i-- {
		w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: fmt.Sprint(i), Forget: true}))
	}
	w.want(w.do(admin, ManifestRevoke{Name: "bin", Version: "2", Forget: true}), CodeConflict)
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1", "v1"), "a")), CodeConflict)
}

// What only a signer vouched for whose key was stolen is in force no more; another one can vouch for it anew.
func TestManifestOfASignerThatIsTrustedNoMore(t *testing.T) {
	w := acceptedWorld(t, 1)
	w.s.meta.v.Level = LevelClients
	st := w.statementOf("bin", "1", "v1")
	w.must(w.trust(trustOf(1, "b")))
	w.wantStanding("bin", "v1", ManifestUntrusted)
	st.ExpiresMs -= 10 // not later, and yet no repetition
	if res := w.must(w.do(operator, acceptOf(st, "b"))); res.Repeated {
		t.Errorf("%+v", res)
	}
	w.wantStanding("bin", "v1", ManifestActive)
	w.must(w.trust(trustOf(2, "a", "b")))
	w.wantStanding("bin", "v1", ManifestUntrusted)
	w.must(w.do(operator, acceptOf(st, "a", "b")))
	w.wantStanding("bin", "v1", ManifestActive)
	w.must(w.trust(ManifestTrust{}))
	w.wantStanding("bin", "v1", ManifestUntrusted)
}

// No restore makes good what was revoked here or in the backup.
func TestManifestRevocationsSurviveARestore(t *testing.T) {
	w := acceptedWorld(t, 2)
	w.must(w.do(operator, acceptOf(w.statementOf("late", "1", "l1"), "a")))
	backup, _ := restored(t, snapshotOf(t, w.s, w.history))
	ahead := backup.manifests.m["late"]
	newer := ahead.Versions[0]
	newer.Statement.Version, newer.Statement.SHA256 = "2", crypto.Sum([]byte("l2"))
	ahead.Versions = append(ahead.Versions[:1:1], newer)
	backup.manifests.put("late", ahead)
	then := backup.manifests.m["bin"]
	then.Versions = append([]AcceptedVersion{}, then.Versions...)
	then.Versions[1].RevokedMs = 7
	backup.manifests.put("bin", then)
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "1"}))
	w.must(w.do(admin, ManifestRevoke{Name: "late", Version: "1"}))
	next, _, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	for artifact, want := range map[string]ManifestState{"bin v1": ManifestRevoked, "bin v2": ManifestRevoked, "late l1": ManifestRevoked, "late l2": ManifestActive} {
		name, text, _ := strings.Cut(artifact, " ")
		m, _ := next.Manifest(name)
		if _, got := m.Standing(crypto.Sum([]byte(text)), next.ManifestTrust(), next.ClockMs()); got != want {
			t.Errorf("%s is %q, want %q", artifact, got, want)
		}
	}
	if err := next.Validate(0); err != nil || next.Digest() != next.FullDigest() {
		t.Errorf("the restored state: %v", err)
	}
}
