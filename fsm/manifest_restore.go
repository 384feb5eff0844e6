package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// keepManifests fills the manifests of a restored state. Of each name it keeps
// the row whose newest version is the newer one, or the present's when they are
// the same: an older backup never makes room for a rollback, and what a backup of
// another cluster has accepted is refused no less. What either revoked stays so. The trust policy is the
// backup's, like all policy; the plan shows what that changes.
func (s *State) keepManifests(backup, present *State) {
	copyTable(s.manifestTrust, backup.manifestTrust, nil)
	copyTable(s.manifests, present.manifests, nil)
	for name, row := range backup.manifests.m {
		have, known := present.manifests.get(name)
		switch {
		case !known:
			s.manifests.put(name, row)
		case have.Newest().order(row.Newest().Statement) < 0:
			row = row.revokedToo(have)
			row.Trimmed = true // of what this cluster accepted
			s.manifests.put(name, row)
		default:
			s.manifests.put(name, have.revokedToo(row))
		}
	}
}

// NeedsLevel returns the feature level that the contents of a state need, which
// may be that of a backup of another cluster: below it a server may not know its
// fields.
func (s *State) NeedsLevel() uint32 {
	need := s.policy.v.level()
	if s.ledger.book.known {
		need = max(need, LevelLedger)
	}
	for _, gone := range s.removed.m {
		if gone.SilentMs > 0 {
			need = max(need, LevelUpgrades)
		}
	}
	if s.manifests.size()+s.manifestTrust.size() > 0 {
		need = max(need, LevelProfiles)
	}
	for _, row := range s.manifests.m {
		if row.Trimmed || slices.ContainsFunc(row.Versions, func(v AcceptedVersion) bool { return v.RevokedMs != 0 }) {
			need = max(need, LevelClients)
		}
	}
	for _, a := range s.agents.m {
		need = max(need, a.needsLevel())
	}
	return max(need, s.keysNeedLevel())
}

// compareManifests lists what a restore does to manifests.
func (u *Undone) compareManifests(backup, present *State) {
	for _, have := range present.manifests.values() {
		then, ok := backup.manifests.get(have.Name)
		if !ok || have.Newest().order(then.Newest().Statement) > 0 {
			u.ManifestsKept = append(u.ManifestsKept, have)
		}
	}
	for _, then := range backup.manifests.values() {
		have, ok := present.manifests.get(then.Name)
		if !ok || have.Newest().order(then.Newest().Statement) < 0 {
			u.ManifestsAdded = append(u.ManifestsAdded, then)
		} else if have.Newest().order(then.Newest().Statement) == 0 && have.Newest().Statement.SHA256 != then.Newest().Statement.SHA256 {
			u.ManifestsForked = true
		}
	}
	u.Trust, u.TrustThen = present.ManifestTrust(), backup.ManifestTrust()
}

// TrustChanged tells whether the restore changes the trust policy, and lists the
// signers and sources that come back and those that go.
func (u Undone) TrustChanged() (changed bool, back, gone []string) {
	signer := func(g ManifestSigner) string {
		return fmt.Sprintf("%s  key %s  prefix %q", g.Name, g.Key.KeyID(), g.Prefix)
	}
	source := func(rule string) string { return rule }
	back = append(onlyIn(u.TrustThen.Signers, u.Trust.Signers, signer), onlyIn(u.TrustThen.Sources, u.Trust.Sources, source)...)
	gone = append(onlyIn(u.Trust.Signers, u.TrustThen.Signers, signer), onlyIn(u.Trust.Sources, u.TrustThen.Sources, source)...)
	return len(back)+len(gone) > 0 || u.Trust.Threshold != u.TrustThen.Threshold || u.Trust.Version != u.TrustThen.Version, back, gone
}

func (s *State) manifestTrustFault(key string, t ManifestTrust) error {
	if key != theTrust {
		return fmt.Errorf("there is only %q", theTrust)
	}
	if field, fault := t.Validate(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if t.Version < 1 {
		return fmt.Errorf("version %d", t.Version)
	}
	if n := t.former(); n > MaxFormerKeys {
		return fmt.Errorf("%d keys of former signers, at most %d", n, MaxFormerKeys)
	}
	for _, g := range t.Signers {
		if err := timeFault(MaxTimeMs, "since when a signer is trusted", g.AddedMs); err != nil {
			return err
		}
		if err := s.ringFault(Subject{SubjectManifest, g.Name}, g.Keys); err != nil {
			return err
		}
	}
	return nil
}

func manifestFault(key string, m Manifest) error {
	if err := rowID(key, m.Name); err != nil {
		return err
	}
	if n := len(m.Versions); n < 1 || n > MaxManifestVersions {
		return fmt.Errorf("%d versions, it has 1 to %d", n, MaxManifestVersions)
	}
	for i, v := range m.Versions {
		if field, fault := v.Statement.Fault(); fault != "" {
			return fmt.Errorf("version %d: %s: %s", i, field, fault)
		}
		if v.Statement.Name != m.Name {
			return fmt.Errorf("version %d is of %s", i, shown(v.Statement.Name))
		}
		if i > 0 && m.Versions[i-1].order(v.Statement) >= 0 {
			return fmt.Errorf("version %s does not follow %s", v.Statement.Version, m.Versions[i-1].Statement.Version)
		}
		if n := len(v.Signers); n < 1 || n > MaxManifestSigners {
			return fmt.Errorf("version %s: %d signers, it has 1 to %d", v.Statement.Version, n, MaxManifestSigners)
		}
		if err := timeFault(MaxTimeMs, "the acceptance", v.AcceptedMs, "the revocation", v.RevokedMs); err != nil {
			return err
		}
	}
	return nil
}

// assert that a row of the longest texts fits a frame of a snapshot.
var _ [maxRowBytes - MaxManifestVersions*(manifest.MaxStatementBytes+40*MaxManifestSigners)]byte
