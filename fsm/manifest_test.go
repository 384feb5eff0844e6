package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

const testSource = "https://models.example/"

// statementOf is a statement of a version whose artifact is its text.
func (w *world) statementOf(name, version, artifact string) manifest.Statement {
	return manifest.Statement{Name: name, Version: version, SHA256: crypto.Sum([]byte(artifact)), Size: 7, Source: testSource + "x",
		IssuedMs: w.s.ClockMs(), ExpiresMs: w.s.ClockMs() + 100_000}
}

func acceptOf(st manifest.Statement, signers ...string) ManifestAccept {
	b := ManifestAccept{Statement: st}
	for _, name := range signers {
		b.Signers = append(b.Signers, keyRef("signer "+name))
	}
	return b
}

func trustOf(threshold int64, signers ...string) ManifestTrust {
	t := ManifestTrust{Threshold: threshold, Sources: []string{testSource}}
	for _, name := range signers {
		t.Signers = append(t.Signers, ManifestSigner{Name: name, Key: publicKey("signer " + name)})
	}
	return t
}

func (w *world) trust(t ManifestTrust) Result {
	w.t.Helper()
	return w.do(admin, ManifestTrustSet{IfVersion: w.s.ManifestTrust().Version, Trust: t})
}

func trustedWorld(t testing.TB, threshold int64, signers ...string) *world {
	w := genesisWorld(t)
	w.must(w.trust(trustOf(threshold, signers...)))
	return w
}

func TestManifestAcceptedOnce(t *testing.T) {
	w := trustedWorld(t, 2, "a", "b", "c")
	st := w.statementOf("bin", "1.4.2", "x")
	res := w.must(w.do(operator, acceptOf(st, "b", "a", "stranger")))
	m, ok := w.s.Manifest("bin")
	if !ok || len(m.Versions) != 1 || m.Newest().Statement != st || m.Newest().Index != res.Index || len(m.Newest().Signers) != 2 {
		t.Fatalf("accepted as %+v", m)
	}
	for nowMs, want := range map[int64]ManifestState{0: ManifestActive, st.ExpiresMs: ManifestActive, st.ExpiresMs + 1: ManifestExpired} {
		if _, got := m.Standing(st.SHA256, w.s.ManifestTrust(), nowMs); got != want {
			t.Errorf("at %d it is %q, want %q", nowMs, got, want)
		}
	}
	if _, got := m.Standing(crypto.Sum(nil), w.s.ManifestTrust(), st.IssuedMs); got != "" {
		t.Errorf("another artifact is %q", got)
	}
	again := w.must(w.do(operator, acceptOf(st, "c", "a")))
	if !again.Repeated || again.Index != res.Index || len(w.log[len(w.log)-1].records) != 0 {
		t.Errorf("accepted again: %+v", again)
	}
	records := recordsOf(t, w.history, StreamAdmin)
	var last AdminRecord
	if err := Decode(records[len(records)-1].Data, &last); err != nil || last.Action != "manifest_accept" || last.Subject != "bin" || !strings.Contains(last.Detail, "version=1.4.2 sha256="+st.SHA256.String()) {
		t.Errorf("history has %+v, %v", last, err)
	}
}

func TestManifestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		actor  Actor
		change func(w *world, b *ManifestAccept)
		code   Code
		field  string
	}{
		"a viewer":                    {Actor{TokenID: "viewer"}, func(*world, *ManifestAccept) {}, CodeForbidden, ""},
		"a verifier":                  {Actor{TokenID: "verifier"}, func(*world, *ManifestAccept) {}, CodeForbidden, ""},
		"nobody":                      {Actor{}, func(*world, *ManifestAccept) {}, CodeUnauthorized, ""},
		"one of two signers":          {operator, func(_ *world, b *ManifestAccept) { b.Signers = b.Signers[:1] }, CodeInvalid, "signatures"},
		"one signer twice":            {operator, func(_ *world, b *ManifestAccept) { b.Signers[1] = b.Signers[0] }, CodeInvalid, "signatures"},
		"a stranger for one":          {operator, func(_ *world, b *ManifestAccept) { b.Signers[1] = keyRef("stranger") }, CodeInvalid, "signatures"},
		"a signer of other names":     {operator, func(_ *world, b *ManifestAccept) { b.Signers[1] = keyRef("signer models") }, CodeInvalid, "signatures"},
		"no signers":                  {operator, func(_ *world, b *ManifestAccept) { b.Signers = nil }, CodeInvalid, "signatures"},
		"65 signers":                  {operator, func(_ *world, b *ManifestAccept) { b.Signers = make([]KeyRef, 65) }, CodeTooLarge, "signers"},
		"another source":              {operator, func(_ *world, b *ManifestAccept) { b.Statement.Source = "https://models.example.evil/x" }, CodeInvalid, "source"},
		"a source without TLS":        {operator, func(_ *world, b *ManifestAccept) { b.Statement.Source = "http://models.example/x" }, CodeInvalid, "source"},
		"expired by a millisecond":    {operator, func(w *world, b *ManifestAccept) { b.Statement.IssuedMs -= 10; b.Statement.ExpiresMs = w.wallMs - 1 }, CodeInvalid, "expires_ms"},
		"issued too far ahead":        {operator, func(w *world, b *ManifestAccept) { b.Statement.IssuedMs = w.wallMs + MaxAheadMs + 1 }, CodeInvalid, "issued_ms"},
		"a version without order":     {operator, func(_ *world, b *ManifestAccept) { b.Statement.Version = "newest" }, CodeInvalid, "version"},
		"no name":                     {operator, func(_ *world, b *ManifestAccept) { b.Statement.Name = "" }, CodeInvalid, "name"},
		"no digest":                   {operator, func(_ *world, b *ManifestAccept) { b.Statement.SHA256 = crypto.Hash{} }, CodeInvalid, "sha256"},
		"an older version":            {operator, func(_ *world, b *ManifestAccept) { b.Statement.Version = "1.9.9" }, CodeConflict, "version"},
		"a pre-release of the newest": {operator, func(_ *world, b *ManifestAccept) { b.Statement.Version = "2.0.0-rc.9" }, CodeConflict, "version"},
		"the newest, another digest":  {operator, func(_ *world, b *ManifestAccept) { b.Statement.SHA256 = crypto.Sum([]byte("y")) }, CodeConflict, "sha256"},
		"the same by another spelling": {operator, func(_ *world, b *ManifestAccept) {
			b.Statement.Version = "v2+b"
			b.Statement.SHA256 = crypto.Sum([]byte("y"))
		}, CodeConflict, "sha256"},
		"at its last millisecond": {operator, func(w *world, b *ManifestAccept) {
			b.Statement.Version, b.Statement.IssuedMs, b.Statement.ExpiresMs = "3", w.wallMs-9, w.wallMs
		}, CodeOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := genesisWorld(t)
			trust := trustOf(2, "a", "b", "models")
			trust.Signers[2].Prefix = "model-"
			w.must(w.trust(trust))
			w.must(w.do(operator, acceptOf(w.statementOf("bin", "2.0.0", "x"), "a", "b")))
			before := w.s.FieldDigests()["manifests"]
			b := acceptOf(w.statementOf("bin", "2.0.0", "x"), "a", "b")
			c.change(w, &b)
			if res := w.want(w.do(c.actor, b), c.code); res.Field != c.field {
				t.Errorf("field %q (%s), want %q", res.Field, res.Detail, c.field)
			}
			if changed := w.s.FieldDigests()["manifests"] != before; changed != (c.code == CodeOK) {
				t.Errorf("changed: %t", changed)
			}
		})
	}
}

// What was verified at the edge may be trusted no more when the entry applies.
func TestManifestSignerRemovedBeforeApply(t *testing.T) {
	w := trustedWorld(t, 1, "a", "b")
	b := acceptOf(w.statementOf("bin", "1", "x"), "a")
	w.must(w.trust(trustOf(1, "b")))
	w.want(w.do(operator, b), CodeInvalid)
	w.must(w.trust(trustOf(2, "a", "b")))
	w.want(w.do(operator, b), CodeInvalid)
	w.must(w.trust(trustOf(1, "a")))
	w.must(w.do(operator, b))
}

// A retry under its idempotency key gets its first answer, whoever is trusted by then.
func TestManifestRetryAfterTheTrustChanged(t *testing.T) {
	w := trustedWorld(t, 1, "a")
	idem := &Idempotency{Key: crypto.Hash{1}, Body: crypto.Hash{2}}
	b := acceptOf(w.statementOf("bin", "1", "x"), "a")
	first := w.must(w.doAt(w.wallMs, operator, idem, b))
	w.must(w.trust(ManifestTrust{}))
	if again := w.must(w.doAt(w.wallMs, operator, idem, ManifestAccept{Statement: b.Statement})); again.Index != first.Index || !again.Repeated {
		t.Errorf("answered %+v, first %+v", again, first)
	}
	w.want(w.do(operator, b), CodeConflict) // nobody is trusted any more
}

// The same artifact signed until later renews; nothing older does.
func TestManifestRenewed(t *testing.T) {
	w := trustedWorld(t, 1, "a")
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "1", "x"), "a")))
	st := w.statementOf("bin", "1.0", "x")
	st.ExpiresMs += 5_000
	res := w.must(w.do(operator, acceptOf(st, "a")))
	m, _ := w.s.Manifest("bin")
	if res.Repeated || len(m.Versions) != 1 || m.Newest().Statement.ExpiresMs != st.ExpiresMs {
		t.Errorf("%+v, %+v", res, m)
	}
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "2", "y"), "a")))
	st.ExpiresMs += 5_000
	w.want(w.do(operator, acceptOf(st, "a")), CodeConflict) // not the newest any more
}

// An expired newest version is a floor still.
func TestManifestFloorOutlivesItsExpiry(t *testing.T) {
	w := trustedWorld(t, 1, "a")
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "2", "x"), "a")))
	w.pass(200_000)
	w.mark()
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1.9", "y"), "a")), CodeConflict)
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "2", "x"), "a"))) // renewed
}

func TestManifestVersionsKept(t *testing.T) {
	w := trustedWorld(t, 1, "a")
	for i := range MaxManifestVersions + 3 {
		w.must(w.do(operator, acceptOf(w.statementOf("bin", fmt.Sprint(i), fmt.Sprint("artifact ", i)), "a")))
	}
	m, _ := w.s.Manifest("bin")
	if len(m.Versions) != MaxManifestVersions || m.Versions[0].Statement.Version != "3" || m.Newest().Statement.Version != "10" {
		t.Errorf("kept: %d, from %s", len(m.Versions), m.Versions[0].Statement.Version)
	}
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "0", "other"), "a")), CodeConflict)
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

func TestManifestNamesAreBounded(t *testing.T) {
	w := trustedWorld(t, 1, "a")
	row := Manifest{Versions: []AcceptedVersion{{Statement: w.statementOf("", "1", "x"), Signers: []KeyRef{keyRef("signer a")}}}}
	for i := range MaxManifests {
		row.Name = fmt.Sprint("name-", i)
		row.Versions[0].Statement.Name = row.Name
		w.s.manifests.put(row.Name, row)
	}
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1", "x"), "a")), CodeOverloaded)
	w.must(w.do(operator, acceptOf(w.statementOf("name-0", "2", "y"), "a")))
}

func TestManifestTrust(t *testing.T) {
	w := genesisWorld(t)
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1", "x"), "a")), CodeConflict)
	w.want(w.do(operator, ManifestTrustSet{Trust: trustOf(1, "a")}), CodeForbidden)
	w.must(w.trust(trustOf(1, "a")))
	added := w.wallMs
	w.pass(1_000)
	w.must(w.trust(trustOf(2, "a", "b")))
	trust := w.s.ManifestTrust()
	if trust.Version != 2 || trust.Signers[0].AddedMs != added || trust.Signers[1].AddedMs != w.wallMs {
		t.Errorf("%+v", trust)
	}
	w.want(w.do(admin, ManifestTrustSet{IfVersion: 1, Trust: trustOf(1, "c")}), CodeConflict)
	for name, c := range map[string]struct {
		change func(*ManifestTrust)
		field  string
	}{
		"a threshold nobody reaches":     {func(t *ManifestTrust) { t.Signers = t.Signers[:1] }, "threshold"},
		"no signers, yet a threshold":    {func(t *ManifestTrust) { t.Signers = nil }, "threshold"},
		"signers without a threshold":    {func(t *ManifestTrust) { t.Threshold = 0 }, "threshold"},
		"a negative threshold":           {func(t *ManifestTrust) { t.Threshold = -1 }, "threshold"},
		"no name that both may sign":     {func(t *ManifestTrust) { t.Signers[0].Prefix, t.Signers[1].Prefix = "a", "b" }, "threshold"},
		"one key for two":                {func(t *ManifestTrust) { t.Signers[1].Key = t.Signers[0].Key }, "signers"},
		"one name for two":               {func(t *ManifestTrust) { t.Signers[1].Name = t.Signers[0].Name }, "signers"},
		"a weak key":                     {func(t *ManifestTrust) { t.Signers[0].Key = crypto.PublicKey{} }, "signers"},
		"a name of control characters":   {func(t *ManifestTrust) { t.Signers[0].Name = "a\nb" }, "signers"},
		"a prefix of control characters": {func(t *ManifestTrust) { t.Signers[0].Prefix = "a\nb" }, "signers"},
		"a source without TLS":           {func(t *ManifestTrust) { t.Sources[0] = "http://models.example/" }, "sources"},
		"a source that ends in a host":   {func(t *ManifestTrust) { t.Sources[0] = "https://models.example" }, "sources"},
		"a source twice":                 {func(t *ManifestTrust) { t.Sources = append(t.Sources, t.Sources[0]) }, "sources"},
		"too many signers":               {func(t *ManifestTrust) { t.Signers = make([]ManifestSigner, 65) }, "signers"},
		"too many sources":               {func(t *ManifestTrust) { t.Sources = make([]string, 65) }, "sources"},
	} {
		t.Run(name, func(t *testing.T) {
			next := trustOf(2, "a", "b")
			c.change(&next)
			if res := w.want(w.trust(next), CodeInvalid); res.Field != c.field {
				t.Errorf("field %s (%s), want %s", res.Field, res.Detail, c.field)
			}
		})
	}
	nested := trustOf(2, "a", "b")
	nested.Signers[1].Prefix = "model-"
	w.must(w.trust(nested)) // of model-… both may sign
	w.must(w.trust(ManifestTrust{}))
}

func TestManifestTrustRowFitsASnapshot(t *testing.T) {
	trust := ManifestTrust{Threshold: 1}
	for i := range MaxManifestSigners {
		pad := strings.Repeat("x", crypto.MaxIDBytes-2) + fmt.Sprintf("%02d", i)
		trust.Signers = append(trust.Signers, ManifestSigner{Name: pad, Prefix: pad, Key: publicKey(pad), AddedMs: MaxTimeMs})
		trust.Sources = append(trust.Sources, "https://h/"+strings.Repeat("y", manifest.MaxSourceRuleBytes-13)+fmt.Sprintf("%02d/", i))
	}
	w := genesisWorld(t)
	w.must(w.trust(trust))
	if row := w.s.manifestTrust.row(theTrust, w.s.ManifestTrust()); len(row) > maxRowBytes {
		t.Errorf("a row of %d bytes", len(row))
	}
	restored(t, snapshotOf(t, w.s, w.history))
}

// TestManifestsSurviveAnOlderBackup: of each name the newer of both stays, so a
// restore is no rollback; the plan names what differs.
func TestManifestsSurviveAnOlderBackup(t *testing.T) {
	w := trustedWorld(t, 1, "a", "gone")
	w.must(w.do(operator, acceptOf(w.statementOf("both", "1", "x"), "a")))
	w.must(w.do(operator, acceptOf(w.statementOf("same", "1", "s"), "a")))
	backup, _ := restored(t, snapshotOf(t, w.s, w.history))
	w.must(w.do(operator, acceptOf(w.statementOf("both", "2", "y"), "a")))
	w.must(w.do(operator, acceptOf(w.statementOf("new", "1", "z"), "a")))
	w.must(w.trust(trustOf(1, "a", "b")))
	other := backup.manifests.m["same"]
	other.Name, other.Versions = "ahead", slices.Clone(other.Versions)
	other.Versions[0].Statement.Name = "ahead"
	backup.manifests.put("ahead", other)

	u := Compare(backup, w.s)
	if got := namesOf(u.ManifestsKept); got != "both new" {
		t.Errorf("kept: %s", got)
	}
	if got := namesOf(u.ManifestsAdded); got != "ahead" || u.ManifestsForked {
		t.Errorf("added: %s, forked %t", got, u.ManifestsForked)
	}
	changed, back, gone := u.TrustChanged()
	if !changed || len(back) != 1 || !strings.HasPrefix(back[0], "gone ") || len(gone) != 1 || !strings.HasPrefix(gone[0], "b ") {
		t.Errorf("trust changed: %t, back %v, gone %v", changed, back, gone)
	}
	next, _, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	for name, version := range map[string]string{"both": "2", "same": "1", "new": "1", "ahead": "1"} {
		if m, _ := next.Manifest(name); m.Newest().Statement.Version != version {
			t.Errorf("%s is at %s, want %s", name, m.Newest().Statement.Version, version)
		}
	}
	if next.ManifestTrust().Signers[1].Name != "gone" {
		t.Error("the trust policy is not the backup's")
	}
	if err := next.Validate(0); err != nil || next.Digest() != next.FullDigest() {
		t.Errorf("the restored state: %v", err)
	}
	forked := backup.manifests.m["same"]
	forked.Versions = slices.Clone(forked.Versions)
	forked.Versions[0].Statement.SHA256 = crypto.Sum([]byte("other"))
	backup.manifests.put("same", forked)
	if !Compare(backup, w.s).ManifestsForked {
		t.Error("one version with two digests is no fork")
	}
	if next, _, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Action: "restore"}); err != nil || next.manifests.m["same"].Newest().Statement.SHA256 == crypto.Sum([]byte("other")) {
		t.Errorf("the backup's digest won: %v", err)
	}
	if backup.NeedsLevel() != LevelProfiles || genesisWorld(t).s.NeedsLevel() != 0 {
		t.Error("manifests need their level, and nothing else does")
	}
}

func namesOf(rows []Manifest) string {
	var names []string
	for _, m := range rows {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func TestManifestRowsValidated(t *testing.T) {
	for name, change := range map[string]func(*State){
		"a row under another name":    func(s *State) { row := s.manifests.m["bin"]; s.manifests.put("other", row) },
		"a version of another name":   func(s *State) { changeVersion(s, 1, func(v *AcceptedVersion) { v.Statement.Name = "other" }) },
		"versions out of order":       func(s *State) { changeVersion(s, 1, func(v *AcceptedVersion) { v.Statement.Version = "1.0" }) },
		"a version that is none":      func(s *State) { changeVersion(s, 0, func(v *AcceptedVersion) { v.Statement.Version = "x" }) },
		"nobody signed":               func(s *State) { changeVersion(s, 0, func(v *AcceptedVersion) { v.Signers = nil }) },
		"too many signed":             func(s *State) { changeVersion(s, 0, func(v *AcceptedVersion) { v.Signers = make([]KeyRef, 65) }) },
		"accepted before time":        func(s *State) { changeVersion(s, 0, func(v *AcceptedVersion) { v.AcceptedMs = -1 }) },
		"no versions":                 func(s *State) { s.manifests.put("bin", Manifest{Name: "bin"}) },
		"a trust of version 0":        func(s *State) { s.manifestTrust.put(theTrust, trustOf(1, "a")) },
		"a trust that nobody reaches": func(s *State) { t := trustOf(2, "a"); t.Version = 1; s.manifestTrust.put(theTrust, t) },
		"a trust added before time": func(s *State) {
			t := trustOf(1, "a")
			t.Version, t.Signers[0].AddedMs = 1, -1
			s.manifestTrust.put(theTrust, t)
		},
		"two trusts": func(s *State) { s.manifestTrust.put("other", s.ManifestTrust()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := trustedWorld(t, 1, "a")
			w.must(w.do(operator, acceptOf(w.statementOf("bin", "1", "x"), "a")))
			w.must(w.do(operator, acceptOf(w.statementOf("bin", "2", "y"), "a")))
			if err := w.s.Validate(0); err != nil {
				t.Fatal(err)
			}
			change(w.s)
			if err := w.s.Validate(0); err == nil || !strings.Contains(err.Error(), "manifest") {
				t.Errorf("%v", err)
			}
		})
	}
}

func changeVersion(s *State, i int, change func(*AcceptedVersion)) {
	row := s.manifests.m["bin"]
	row.Versions = slices.Clone(row.Versions)
	change(&row.Versions[i])
	s.manifests.put("bin", row)
}

// TestSnapshotWithoutManifests: while nothing is trusted or accepted, a snapshot
// is what binaries without these fields write and read.
func TestSnapshotWithoutManifests(t *testing.T) {
	w := firstSampleWorld(t)
	for _, title := range w.s.Freeze().titles {
		if newerFields[title.Name] {
			t.Errorf("the empty field %s is in the snapshot", title.Name)
		}
	}
	for name := range newerFields {
		if _, known := w.s.Sizes()[name]; !known {
			t.Errorf("there is no field %s to leave out", name)
		}
	}
}
