package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// ManifestTrust says whose manifests are accepted: Threshold distinct signers
// that are trusted for the name must have signed, and the source must be one of
// Sources. Before it is first set nothing is.
type ManifestTrust struct {
	Version   uint64           `cbor:"1,keyasint"` // 0 before it is first set
	Threshold int64            `cbor:"2,keyasint"` // 0 only without signers
	Signers   []ManifestSigner `cbor:"3,keyasint"`
	Sources   []string         `cbor:"4,keyasint"` // rules, see manifest.CheckSourceRule
	// Revoked are the revoked keys of signers that are gone. Apply sets it, from
	// LevelKeys on.
	Revoked []KeyRef `cbor:"5,keyasint,omitempty"`
	// Retired are those that were replaced: their windows are over, or would have been.
	// None of either list is ever a signer's again. Apply sets it, from LevelKeys on.
	Retired []KeyRef `cbor:"6,keyasint,omitempty"`
}

// ManifestSigner is a key that may sign manifests of names that begin with Prefix.
type ManifestSigner struct {
	Name    string           `cbor:"1,keyasint"`
	Key     crypto.PublicKey `cbor:"2,keyasint"`
	Prefix  string           `cbor:"3,keyasint,omitempty"` // empty: of all names
	AddedMs int64            `cbor:"4,keyasint"`           // Apply sets it
	// Keys are its keys once it has changed them; until then Key, by which it was
	// added, is the one. Apply sets it, from LevelKeys on.
	Keys Ring `cbor:"5,keyasint,omitempty"`
}

// Ring returns the keys of a signer.
func (g ManifestSigner) Ring() Ring {
	if len(g.Keys) == 0 {
		return Ring{{Public: g.Key}}
	}
	return g.Keys
}

// ManifestTrustSet replaces the trust policy if its version is still IfVersion
// (from LevelProfiles on).
type ManifestTrustSet struct {
	IfVersion uint64        `cbor:"1,keyasint"`
	Trust     ManifestTrust `cbor:"2,keyasint"`
}

// theTrust is the key of the one row of the trust policy. It is a table because
// a cell always has a row, and a binary that does not know the field has none.
const theTrust = "policy"

// ManifestTrust returns the trust policy; its lists must not be changed.
func (s *State) ManifestTrust() ManifestTrust {
	t, _ := s.manifestTrust.get(theTrust)
	return t
}

// KeysFor returns the keys that may sign manifests of a name, or once might: a
// manifest that was accepted stays good when its signer's key retires.
func (t ManifestTrust) KeysFor(name string) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, signer := range t.Signers {
		if !strings.HasPrefix(name, signer.Prefix) {
			continue
		}
		for _, k := range signer.Ring() {
			if k.RevokedAt == 0 {
				out = append(out, k.Public)
			}
		}
	}
	return out
}

// vouching returns those of the keys that are trusted for a name, in byte order, and
// whose they are: how many signers, each of which counts once.
func (t ManifestTrust) vouching(name string, keys []KeyRef, counts func(Key) bool) (out []KeyRef, signers int64) {
	for _, signer := range t.Signers {
		if !strings.HasPrefix(name, signer.Prefix) {
			continue
		}
		before := len(out)
		for _, k := range signer.Ring() {
			if ref := k.Public.Fingerprint(); counts(k) && slices.Contains(keys, ref) {
				out = append(out, ref)
			}
		}
		if len(out) > before {
			signers++
		}
	}
	slices.SortFunc(out, func(a, b KeyRef) int { return bytes.Compare(a[:], b[:]) })
	return out, signers
}

// vouchedFor tells whether the signers that an accepted version came with are
// trusted still, and enough: those of a stolen key are not.
func (t ManifestTrust) vouchedFor(v AcceptedVersion) bool {
	_, signers := t.vouching(v.Statement.Name, v.Signers, func(k Key) bool { return k.RevokedAt == 0 })
	return t.Threshold > 0 && signers >= t.Threshold
}

func (t ManifestTrust) allows(source string) bool {
	return slices.ContainsFunc(t.Sources, func(rule string) bool { return manifest.Allows(rule, source) })
}

// Validate returns the first member that is out of bounds and why, or "".
func (t ManifestTrust) Validate() (field, fault string) {
	if len(t.Signers) > MaxManifestSigners {
		return "signers", fmt.Sprintf("%d signers, at most %d", len(t.Signers), MaxManifestSigners)
	}
	if len(t.Sources) > MaxManifestSources {
		return "sources", fmt.Sprintf("%d sources, at most %d", len(t.Sources), MaxManifestSources)
	}
	if fault := t.signersFault(); fault != "" {
		return "signers", fault
	}
	for i, rule := range t.Sources {
		if err := manifest.CheckSourceRule(rule); err != nil {
			return "sources", err.Error()
		}
		if slices.Contains(t.Sources[:i], rule) {
			return "sources", fmt.Sprintf("%s comes twice", rule)
		}
	}
	if most := t.mostSigners(); t.Threshold < 0 || t.Threshold > int64(most) || t.Threshold == 0 && most > 0 {
		return "threshold", fmt.Sprintf("%d signatures, but at most %d signers are trusted for one name: want 1 to %d, and 0 without signers", t.Threshold, most, most)
	}
	return "", ""
}

// signersFault says what is wrong with the signers: a name is one's, and so is a key,
// the past ones too.
func (t ManifestTrust) signersFault() string {
	names, keys := map[string]int{}, map[crypto.PublicKey]int{}
	for i, g := range t.Signers {
		if f := g.fault(); f != "" {
			return f
		}
		other, taken := names[g.Name]
		for key := range g.everyKey {
			if j, is := keys[key]; is && (!taken || j < other) {
				other, taken = j, true
			}
		}
		if taken {
			return fmt.Sprintf("%q has the name or the key of %q: one signer counts once", g.Name, t.Signers[other].Name)
		}
		names[g.Name] = i
		for key := range g.everyKey {
			keys[key] = i
		}
	}
	return ""
}

func (g ManifestSigner) fault() string {
	if err := crypto.CheckID(g.Name); err != nil {
		return err.Error()
	}
	if err := crypto.CheckPublicKey(g.Key); err != nil {
		return fmt.Sprintf("%q: %v", g.Name, err)
	}
	if err := optionalID(g.Prefix); err != nil {
		return fmt.Sprintf("%q: prefix: %v", g.Name, err)
	}
	return ""
}

// everyKey yields the keys that the signer has or had; the one that it was added by may
// come twice.
func (g ManifestSigner) everyKey(yield func(crypto.PublicKey) bool) {
	if !yield(g.Key) {
		return
	}
	for _, k := range g.Keys {
		if !yield(k.Public) {
			return
		}
	}
}

// mostSigners returns how many signers one name can have: a threshold above that
// no manifest ever reaches.
func (t ManifestTrust) mostSigners() (most int) {
	for _, of := range t.Signers {
		n := 0
		for _, signer := range t.Signers {
			if strings.HasPrefix(of.Prefix, signer.Prefix) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func (s *State) applyManifestTrustSet(c *change, b ManifestTrustSet) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	have := s.ManifestTrust()
	if b.IfVersion != have.Version {
		return refuse(CodeConflict, "version", "the trust policy of manifests is at version %d, not %d: read it again", have.Version, b.IfVersion)
	}
	next := b.Trust
	if field, fault := next.Validate(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	next.Version, next.Signers, next.Revoked, next.Retired = have.Version+1, slices.Clone(next.Signers), have.Revoked, have.Retired
	for i := range next.Signers {
		next.Signers[i].AddedMs, next.Signers[i].Keys = have.standing(next.Signers[i], c.atMs)
	}
	if field, fault := next.succeed(have, c.atMs); fault != "" {
		return refuse(CodeConflict, field, "%s", fault)
	}
	s.manifestTrust.put(theTrust, next)
	s.record(c, "manifest_trust_set", fmt.Sprint(next.Version), trustChange(have, next))
	if s.meta.v.Level >= LevelKeys {
		s.recordSigners(c, have, next)
	}
	return Result{Code: CodeOK, ID: fmt.Sprint(next.Version)}
}

// standing returns since when the very signer is trusted, and the keys it has
// come to have, whatever it may sign.
func (t ManifestTrust) standing(g ManifestSigner, nowMs int64) (addedMs int64, keys Ring) {
	have, ok := t.signer(g.Name)
	switch {
	case !ok || have.Key != g.Key:
		return nowMs, nil
	case have.Prefix != g.Prefix:
		return nowMs, have.Keys
	}
	return have.AddedMs, have.Keys
}

// signer finds a signer by name.
func (t ManifestTrust) signer(name string) (ManifestSigner, bool) {
	i := slices.IndexFunc(t.Signers, func(g ManifestSigner) bool { return g.Name == name })
	if i < 0 {
		return ManifestSigner{}, false
	}
	return t.Signers[i], true
}

// has tells whether a key is or was a signer's.
func (t ManifestTrust) has(key crypto.PublicKey) bool {
	for _, g := range t.Signers {
		for have := range g.everyKey {
			if have == key {
				return true
			}
		}
	}
	ref := key.Fingerprint()
	return slices.Contains(t.Revoked, ref) || slices.Contains(t.Retired, ref)
}

// signersAfter returns up to limit subjects with names after the given one, in order.
func (t ManifestTrust) signersAfter(after string, limit int) (out []Subject) {
	for _, g := range t.Signers {
		if g.Name > after {
			out = append(out, Subject{SubjectManifest, g.Name})
		}
	}
	slices.SortFunc(out, func(a, b Subject) int { return strings.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))]
}

// putSignerRing replaces the keys of a signer.
func (s *State) putSignerRing(name string, r Ring) {
	t := s.ManifestTrust()
	t.Signers = slices.Clone(t.Signers)
	for i := range t.Signers {
		if t.Signers[i].Name == name {
			t.Signers[i].Keys = r
		}
	}
	s.manifestTrust.put(theTrust, t)
}

// trustChange says in one line what changed, for the history.
func trustChange(was, is ManifestTrust) string {
	signer := func(g ManifestSigner) string {
		return fmt.Sprintf("%q key_id=%s prefix=%q", g.Name, g.Key.KeyID(), g.Prefix)
	}
	source := func(rule string) string { return rule }
	return fmt.Sprintf("threshold=%d signers=%d sources=%d signers_added=%v signers_removed=%v sources_added=%v sources_removed=%v",
		is.Threshold, len(is.Signers), len(is.Sources),
		onlyIn(is.Signers, was.Signers, signer), onlyIn(was.Signers, is.Signers, signer),
		onlyIn(is.Sources, was.Sources, source), onlyIn(was.Sources, is.Sources, source))
}

// onlyIn shows what is in a and not in b.
func onlyIn[T any](a, b []T, show func(T) string) []string {
	var there, out []string
	for _, v := range b {
		there = append(there, show(v))
	}
	for _, v := range a {
		if text := show(v); !slices.Contains(there, text) {
			out = append(out, text)
		}
	}
	return out
}
