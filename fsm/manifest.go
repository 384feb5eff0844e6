package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// ManifestAccept has the cluster accept an artifact. The signatures were
// verified before it was proposed; Signers are the keys that verified. Whether
// they are trusted now, and enough of them, is asked in Apply (from LevelProfiles on).
type ManifestAccept struct {
	Statement manifest.Statement `cbor:"1,keyasint"`
	Signers   []KeyRef           `cbor:"2,keyasint"`
}

// Manifest is what was accepted under one name. The newest version is the floor
// below which nothing is accepted again, revoked or not. Only an admin takes one
// back, see ManifestRevoke.
type Manifest struct {
	Name     string            `cbor:"1,keyasint"`
	Versions []AcceptedVersion `cbor:"2,keyasint"` // in their order, the last is the newest
	// Trimmed says that older versions are kept no more: forgetting the last one
	// would open the way back to them.
	Trimmed bool `cbor:"3,keyasint,omitempty"`
}

// AcceptedVersion is one accepted statement.
type AcceptedVersion struct {
	Statement  manifest.Statement `cbor:"1,keyasint"`
	Signers    []KeyRef           `cbor:"2,keyasint"` // that were trusted then, in byte order
	AcceptedMs int64              `cbor:"3,keyasint"`
	Index      uint64             `cbor:"4,keyasint"` // entry that accepted it last
	RevokedMs  int64              `cbor:"5,keyasint,omitempty"`
}

// ManifestState is where an accepted version stands now.
type ManifestState string

// The states. What was accepted does not stay good by itself.
const (
	ManifestActive    ManifestState = "active"
	ManifestExpired   ManifestState = "expired"
	ManifestRevoked   ManifestState = "revoked"
	ManifestUntrusted ManifestState = "untrusted" // its signers are trusted no more, or too few
)

// Newest returns the newest version.
func (m Manifest) Newest() AcceptedVersion {
	if len(m.Versions) == 0 {
		return AcceptedVersion{}
	}
	return m.Versions[len(m.Versions)-1]
}

// StateOf returns where a version of the row stands under a trust policy. A
// revocation is of the digest, under whatever version it was accepted too.
func (m Manifest) StateOf(v AcceptedVersion, trust ManifestTrust, nowMs int64) ManifestState {
	switch {
	case m.revoked(v.Statement.SHA256):
		return ManifestRevoked
	case !trust.vouchedFor(v):
		return ManifestUntrusted
	case v.Statement.Expired(nowMs):
		return ManifestExpired
	}
	return ManifestActive
}

// Standing returns where a digest stands: active if any version that has it is,
// else as the newest of them, else "".
func (m Manifest) Standing(digest crypto.Hash, trust ManifestTrust, nowMs int64) (AcceptedVersion, ManifestState) {
	var newest AcceptedVersion
	var state ManifestState
	for _, v := range slices.Backward(m.Versions) {
		if v.Statement.SHA256 != digest {
			continue
		}
		if is := m.StateOf(v, trust, nowMs); is == ManifestActive || state == "" {
			newest, state = v, is
		}
		if state == ManifestActive {
			break
		}
	}
	return newest, state
}

func (m Manifest) revoked(digest crypto.Hash) bool {
	return slices.ContainsFunc(m.Versions, func(v AcceptedVersion) bool { return v.Statement.SHA256 == digest && v.RevokedMs != 0 })
}

func (s *State) applyManifestAccept(c *change, b ManifestAccept) Result {
	if res, ok := s.actorCan(c, CapOperate); !ok {
		return res
	}
	st := b.Statement
	signers, res, ok := s.checkStatement(c, b)
	if !ok {
		return res
	}
	row, known := s.manifests.get(st.Name)
	action := "manifest_accept"
	later := s.meta.v.Level >= LevelClients // older logs were applied without what it allows
	if known {
		switch order := row.Newest().order(st); {
		case order > 0:
			return refuse(CodeConflict, "version", "%s of %q is older than %s, the newest that was accepted: a rollback is refused; sign what is wanted again under a newer version",
				st.Version, st.Name, row.Newest().Statement.Version)
		case order == 0 && row.Newest().Statement.SHA256 != st.SHA256:
			return refuse(CodeConflict, "sha256", "version %s of %q was accepted with the digest %s, this statement has %s: one version has one digest",
				row.Newest().Statement.Version, st.Name, row.Newest().Statement.SHA256, st.SHA256)
		case row.revoked(st.SHA256):
			return refuse(CodeConflict, "sha256", "the artifact %s was revoked under %q: build another one, or have an admin forget the version with `edgecoder manifest revoke --forget`", st.SHA256, st.Name)
		case order == 0 && st.ExpiresMs <= row.Newest().Statement.ExpiresMs && (!later || s.ManifestTrust().vouchedFor(row.Newest())):
			return Result{Code: CodeOK, ID: st.Name, Index: row.Newest().Index, Repeated: true}
		case order == 0:
			action = "manifest_renew" // the same artifact, vouched for longer, or by signers that are trusted now
			row.Versions = row.Versions[:len(row.Versions)-1]
		}
	} else if s.manifests.full() {
		return refuse(CodeOverloaded, "", "manifests of %d names are accepted, no room for one more: use fewer names, versions cost none", s.manifests.size())
	}
	kept := row.Versions[max(0, len(row.Versions)-MaxManifestVersions+1):]
	row = Manifest{Name: st.Name, Trimmed: row.Trimmed || later && len(kept) < len(row.Versions), Versions: append(slices.Clone(kept), AcceptedVersion{Statement: st, Signers: signers, AcceptedMs: c.atMs, Index: c.index})}
	s.manifests.put(row.Name, row)
	s.record(c, action, st.Name, fmt.Sprintf("version=%s sha256=%s size=%d source=%s issued_ms=%d expires_ms=%d signers=%s",
		st.Version, st.SHA256, st.Size, st.Source, st.IssuedMs, st.ExpiresMs, keyIDs(signers)))
	return Result{Code: CodeOK, ID: st.Name}
}

// order compares with a statement's version: above zero when v is newer.
func (v AcceptedVersion) order(st manifest.Statement) int {
	order, err := manifest.CompareVersions(v.Statement.Version, st.Version)
	if err != nil {
		panic(fmt.Sprintf("fsm: compare accepted versions: %v", err)) // both were parsed before they came here
	}
	return order
}

// checkStatement asks all that does not depend on what was accepted before, and
// returns the keys that signed and are trusted for the name: all of a signer, since one
// of them may be revoked later.
func (s *State) checkStatement(c *change, b ManifestAccept) ([]KeyRef, Result, bool) {
	st := b.Statement
	if field, fault := st.Fault(); fault != "" {
		return nil, refuse(CodeInvalid, field, "%s", fault), false
	}
	if len(b.Signers) > MaxManifestSigners {
		return nil, refuse(CodeTooLarge, "signers", "%d signers, at most %d", len(b.Signers), MaxManifestSigners), false
	}
	trust := s.ManifestTrust()
	keys, signers := trust.vouching(st.Name, b.Signers, func(k Key) bool { return k.verifies(c.atMs) })
	switch {
	case trust.Threshold < 1:
		return nil, refuse(CodeConflict, "", "no signers of manifests are trusted: an admin adds them with `edgecoder manifest trust add`"), false
	case signers < trust.Threshold:
		return nil, refuse(CodeInvalid, "signatures", "%d valid signatures by signers that are trusted for %q, it takes %d", signers, st.Name, trust.Threshold), false
	case !trust.allows(st.Source):
		return nil, refuse(CodeInvalid, "source", "%s is no source that is trusted: an admin adds it with `edgecoder manifest trust add --source`", st.Source), false
	case st.Expired(c.atMs):
		return nil, refuse(CodeInvalid, "expires_ms", "the statement held until %d, the cluster clock is %d: sign it again", st.ExpiresMs, c.atMs), false
	case st.IssuedMs-c.atMs > MaxAheadMs:
		return nil, refuse(CodeInvalid, "issued_ms", "the statement is issued at %d, %d ms ahead of the cluster clock, at most %d", st.IssuedMs, st.IssuedMs-c.atMs, MaxAheadMs), false
	}
	return keys, Result{}, true
}

// keyIDs lists key ids (crypto.PublicKey.KeyID) with commas between them.
func keyIDs(refs []KeyRef) string {
	ids := make([]string, 0, len(refs))
	for _, r := range refs {
		ids = append(ids, crypto.KeyIDOf(r))
	}
	return strings.Join(ids, ",")
}

// Manifest returns what was accepted under a name.
func (s *State) Manifest(name string) (Manifest, bool) { return s.manifests.get(name) }

// Manifests returns up to limit rows with names after the given one, in order.
func (s *State) Manifests(after string, limit int) []Manifest { return s.manifests.page(after, limit) }
