package fsm

import (
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// modelManifests is what the promises say of manifests: all that was ever
// accepted, in a list that is walked, and the last trust policy.
type modelManifests struct {
	accepted []modelAccepted
	trust    ManifestTrust
}

type modelAccepted struct {
	manifest.Statement
	signers []KeyRef // that were trusted then
	revoked bool
}

// sameVersion tells whether two spellings are one version; both were accepted.
func sameVersion(a, b string) bool {
	order, err := manifest.CompareVersions(a, b)
	return err == nil && order == 0
}

// revoke marks what was accepted as a version, or takes it out of the list.
func (m *modelManifests) revoke(b ManifestRevoke) {
	var left []modelAccepted
	for _, a := range m.accepted {
		of := a.Name == b.Name && sameVersion(a.Version, b.Version)
		a.revoked = a.revoked || of
		if !of || !b.Forget {
			left = append(left, a)
		}
	}
	m.accepted = left
}

// vouching returns the signers that are trusted for a name.
func (m *modelManifests) vouching(name string, refs []KeyRef) (out []KeyRef) {
	for _, g := range m.trust.Signers {
		for _, ref := range refs {
			if ref == g.Key.Fingerprint() && strings.HasPrefix(name, g.Prefix) {
				out = append(out, ref)
				break
			}
		}
	}
	return out
}

// trusts takes over a trust policy that was set, and holds it to its own rule:
// somebody must be able to reach the threshold, by trying all prefixes as names.
func (m *model) trusts(t ManifestTrust) {
	m.manifests.trust = t
	reached := len(t.Signers) == 0 && t.Threshold == 0
	for _, name := range []string{"", "m"} {
		n := int64(0)
		for _, g := range t.Signers {
			if strings.HasPrefix(name, g.Prefix) {
				n++
			}
		}
		reached = reached || t.Threshold > 0 && n >= t.Threshold
	}
	if !reached {
		m.t.Fatalf("a threshold that nobody reaches was set: %+v", t)
	}
}

func (m *model) followManifest(l logged, b ManifestAccept) {
	want := m.expectManifest(l, b)
	if l.res.Code != want {
		m.t.Fatalf("index %d: manifest %s %s is %s (%s), the model says %s", l.index, b.Statement.Name, b.Statement.Version, l.res.Code, l.res.Detail, want)
	}
	if want == CodeOK && !l.res.Repeated {
		m.manifests.accepted = append(m.manifests.accepted, modelAccepted{b.Statement, m.manifests.vouching(b.Statement.Name, b.Signers), false})
	}
	if want == CodeOK && l.res.Repeated && l.cmd.Idem == nil && m.renews(b.Statement) {
		m.t.Fatalf("index %d: manifest %s %s is no repetition: it holds longer, or others vouch for it", l.index, b.Statement.Name, b.Statement.Version)
	}
}

// renews tells whether accepting the newest version again changes anything.
func (m *model) renews(st manifest.Statement) bool {
	var last *modelAccepted // of the version
	for i, a := range m.manifests.accepted {
		if a.Name == st.Name && sameVersion(a.Version, st.Version) {
			last = &m.manifests.accepted[i]
		}
	}
	return last == nil || st.ExpiresMs > last.ExpiresMs || int64(len(m.manifests.vouching(st.Name, last.signers))) < m.manifests.trust.Threshold
}

func (m *model) expectManifest(l logged, b ManifestAccept) Code {
	t := m.tokens[l.cmd.Actor.TokenID]
	switch {
	case l.cmd.Idem != nil && (l.res.Code == CodeConflict && strings.Contains(l.res.Detail, "idempotency")):
		return l.res.Code // of another body: the table's business
	case t == nil || !m.inForce(t):
		return CodeUnauthorized
	case t.role != RoleOperator && t.role != RoleAdmin:
		return CodeForbidden
	}
	st := b.Statement
	if field, _ := st.Fault(); field != "" {
		return CodeInvalid
	}
	if m.manifests.trust.Threshold == 0 {
		return CodeConflict
	}
	vouch := int64(len(m.manifests.vouching(st.Name, b.Signers)))
	allowed := false
	for _, rule := range m.manifests.trust.Sources {
		allowed = allowed || strings.HasPrefix(st.Source, rule)
	}
	if vouch < m.manifests.trust.Threshold || !allowed || m.clockMs > st.ExpiresMs || st.IssuedMs > m.clockMs+60_000 {
		return CodeInvalid
	}
	for _, before := range m.manifests.accepted {
		order, err := manifest.CompareVersions(before.Version, st.Version)
		if err != nil {
			m.t.Fatalf("a version without order was accepted: %v", err)
		}
		if before.Name == st.Name && (order > 0 || order == 0 && before.SHA256 != st.SHA256 || before.revoked && before.SHA256 == st.SHA256) {
			return CodeConflict // a rollback, two digests, or revoked
		}
	}
	return CodeOK
}

// checkManifests: the newest of each name is the newest that was ever accepted
// and not forgotten, as it was renewed last.
func (m *model) checkManifests(s *State) error {
	newest := map[string]manifest.Statement{}
	for _, st := range m.manifests.accepted {
		order := -1
		if have, known := newest[st.Name]; known {
			var err error
			if order, err = manifest.CompareVersions(have.Version, st.Version); err != nil {
				return err
			}
		}
		if order <= 0 {
			newest[st.Name] = st.Statement
		}
	}
	if n := s.Sizes()["manifests"]; n != len(newest) {
		return fmt.Errorf("%d names are accepted, want %d", n, len(newest))
	}
	for name, want := range newest {
		row, _ := s.Manifest(name)
		if row.Newest().Statement != want {
			return fmt.Errorf("the newest of %s is %+v, want %+v", name, row.Newest().Statement, want)
		}
		if len(row.Versions) > 8 {
			return fmt.Errorf("%d versions of %s are kept", len(row.Versions), name)
		}
	}
	return nil
}
