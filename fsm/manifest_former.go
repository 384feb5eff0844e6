package fsm

import (
	"bytes"
	"fmt"
	"slices"
)

// What a trust policy remembers of the keys of signers that it names no more. Their
// rings are gone, so nothing else says that a window was over: named anew, such a key
// would verify without an end. The active key of a signer that left is free: an admin
// may name it again.

// succeed notes the keys of signers that are no more, and tells what is wrong with those
// that come: a key that was revoked or replaced, or that another signer came to have.
func (t *ManifestTrust) succeed(have ManifestTrust, nowMs int64) (field, fault string) {
	t.noteFormer(have.Signers, nowMs)
	if n := t.former(); n > MaxFormerKeys {
		return "signers", fmt.Sprintf("%d keys of former signers are remembered, at most %d: keep the signers on", n, MaxFormerKeys)
	}
	for _, g := range t.Signers {
		switch ref := g.Key.Fingerprint(); {
		case len(g.Keys) > 0: // it goes on
		case slices.Contains(t.Revoked, ref):
			return "signers", fmt.Sprintf("the key %s of %q was revoked: it never signs again", g.Key.KeyID(), g.Name)
		case slices.Contains(t.Retired, ref):
			return "signers", fmt.Sprintf("the key %s of %q was replaced: name the one that followed it", g.Key.KeyID(), g.Name)
		}
	}
	return t.Validate()
}

// former counts what is remembered.
func (t ManifestTrust) former() int { return len(t.Revoked) + len(t.Retired) }

// noteFormer adds the keys of those signers that are no more, the active ones aside.
func (t *ManifestTrust) noteFormer(signers []ManifestSigner, nowMs int64) {
	var retired []KeyRef
	for _, was := range signers {
		if is, ok := t.signer(was.Name); ok && is.Key == was.Key {
			continue
		}
		t.Revoked = mergeRefs(t.Revoked, was.Keys.revoked())
		active := was.Keys.activeAt(nowMs)
		for i, k := range was.Keys {
			if i != active && k.RevokedAt == 0 {
				retired = append(retired, k.Public.Fingerprint())
			}
		}
	}
	t.Retired = mergeRefs(t.Retired, retired)
}

// forgetFormer drops what stands in the ring of a signer again, which says it itself.
func (t *ManifestTrust) forgetFormer() {
	stands := map[KeyRef]bool{}
	for _, g := range t.Signers {
		for _, k := range g.Keys {
			stands[k.Public.Fingerprint()] = true
		}
	}
	without := func(refs []KeyRef) []KeyRef {
		refs = slices.DeleteFunc(slices.Clone(refs), func(ref KeyRef) bool { return stands[ref] })
		if len(refs) == 0 {
			return nil
		}
		return refs
	}
	t.Revoked, t.Retired = without(t.Revoked), without(t.Retired)
}

// mergeRefs returns what is in either list, in byte order; nil of nothing.
func mergeRefs(a, b []KeyRef) []KeyRef {
	if len(b) == 0 {
		return a
	}
	out := slices.Concat(a, b)
	slices.SortFunc(out, func(a, b KeyRef) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

// revokedBy returns the ring with those of its keys revoked that are listed.
func (r Ring) revokedBy(refs []KeyRef, index uint64) Ring {
	out := slices.Clone(r)
	for i := range out {
		if out[i].RevokedAt == 0 && slices.Contains(refs, out[i].Public.Fingerprint()) {
			out[i].RevokedAt = max(index, 1)
		}
	}
	return out
}

// endedBy returns the ring with those of its keys ended that are listed and verify
// still: what they vouched for counts on.
func (r Ring) endedBy(refs []KeyRef, nowMs int64) Ring {
	out := slices.Clone(r)
	for i := range out {
		if out[i].verifies(nowMs) && slices.Contains(refs, out[i].Public.Fingerprint()) {
			out[i].NotAfterMs = max(nowMs-1, 1)
		}
	}
	return out
}
