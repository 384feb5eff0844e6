package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestP5RetiredSignerKeysStayRetired: a key whose window is over is not taken as that of
// another signer, nor by a restore; the one that followed it is.
func TestP5RetiredSignerKeysStayRetired(t *testing.T) {
	m := Subject{SubjectManifest, "m"}
	w := keysWorld(t)
	first := snapshotOf(t, w.s, w.history)
	w.must(w.do(admin, w.order(m, "signer m", "m2", 0)))
	w.jump(w.wallMs + 100*keyDayMs)
	w.mark()
	renamed := trustOf(1, "n")
	renamed.Signers[0].Key = publicKey("signer m")
	if res := w.want(w.trust(renamed), CodeConflict); !strings.Contains(res.Detail, "was replaced") {
		t.Errorf("%+v", res)
	}
	w.must(w.trust(trustOf(1, "other")))
	w.want(w.trust(renamed), CodeConflict)
	w.want(w.do(admin, w.order(Subject{SubjectManifest, "other"}, "signer other", "signer m", 0)), CodeConflict)
	next := w.restoredFrom(first)
	ring, known := next.KeyRing(m)
	if !known || ring.Verifies(publicKey("signer m"), next.ClockMs()) {
		t.Errorf("a restore brought it back: %+v", ring)
	}
	if got := next.ManifestTrust().KeysFor("x"); !slices.Contains(got, publicKey("signer m")) {
		t.Error("what it vouched for in its time counts no more")
	}
	if err := next.Validate(0); err != nil || next.NeedsLevel() != LevelKeys {
		t.Errorf("level %d, %v", next.NeedsLevel(), err)
	}
	renamed.Signers[0].Key = publicKey("m2")
	w.must(w.trust(renamed))
	w.must(w.do(operator, ManifestAccept{Statement: w.statementOf("bin", "1.0.0", "x"), Signers: []KeyRef{keyRef("m2")}}))
}

// TestP5BothKeysOfASigner: a version that both keys of a signer signed outlives the
// revocation of either, and counts one signer.
func TestP5BothKeysOfASigner(t *testing.T) {
	m := Subject{SubjectManifest, "m"}
	for _, stolen := range []string{"signer m", "m2"} {
		w := keysWorld(t)
		w.must(w.do(admin, w.order(m, "signer m", "m2", 0)))
		w.must(w.trust(trustOf(2, "m", "o")))
		both := acceptOf(w.statementOf("bin", "1.0.0", "x"), "m")
		both.Signers = append(both.Signers, keyRef("m2"))
		w.want(w.do(operator, both), CodeInvalid)
		both.Signers = append(both.Signers, keyRef("signer o"))
		w.must(w.do(operator, both))
		w.must(w.do(admin, KeyRevoke{Subject: m.String(), Key: keyRef(stolen)}))
		if row, _ := w.s.Manifest("bin"); !w.s.ManifestTrust().vouchedFor(row.Newest()) {
			t.Errorf("%s was revoked, and nobody vouches for what the other key signed too", stolen)
		}
	}
}

// TestTrustSetAtItsBounds: Apply is held up for milliseconds, and keys that are named
// twice are found all the same.
func TestTrustSetAtItsBounds(t *testing.T) {
	w := keysWorld(t)
	var names []string
	for i := range MaxManifestSigners {
		names = append(names, fmt.Sprintf("s%02d", i))
	}
	w.must(w.trust(trustOf(1, names...)))
	policy := w.s.ManifestTrust()
	policy.Signers = slices.Clone(policy.Signers)
	for i := range policy.Signers {
		g := &policy.Signers[i]
		g.Keys = Ring{{Public: g.Key}}
		for k := 1; k < MaxSignerKeys; k++ {
			g.Keys = append(g.Keys, Key{Public: tlsKey(fmt.Sprint(g.Name, "/", k)), NotBeforeMs: int64(k)})
		}
	}
	w.s.manifestTrust.put(theTrust, policy)
	quickest := time.Hour
	for range 3 {
		at := time.Now()
		w.must(w.trust(trustOf(1, names...)))
		quickest = min(quickest, time.Since(at))
	}
	if quickest > time.Second { // it was two and a half
		t.Errorf("Apply took %s", quickest)
	}
	if w.must(w.trust(trustOf(1, "o"))); w.s.ManifestTrust().former() != MaxManifestSigners*(MaxSignerKeys-1) {
		t.Errorf("%d keys of former signers are remembered", w.s.ManifestTrust().former())
	}
	twice := policy.Signers[63]
	twice.Name, twice.Key, twice.Keys = "new", policy.Signers[7].Keys[5].Public, nil
	policy.Signers = append(policy.Signers[:10:10], twice)
	if fault := policy.signersFault(); !strings.Contains(fault, `"new" has the name or the key of "s07"`) {
		t.Errorf("a past key that comes twice: %q", fault)
	}
}
