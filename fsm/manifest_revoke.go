package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// ManifestRevoke takes back an accepted version (from LevelClients on). It stays
// a floor: nothing older comes back because something newer was bad.
type ManifestRevoke struct {
	Name    string `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"`
	// Forget also takes the newest version out of the row, as if it had never been
	// accepted: the floor is then the version before it. It undoes a slip, such as a
	// version that blocks all that was to follow; with the last version the name goes.
	Forget bool `cbor:"3,keyasint,omitempty"`
}

func (s *State) applyManifestRevoke(c *change, b ManifestRevoke) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	if _, err := manifest.ParseVersion(b.Version); err != nil {
		return refuse(CodeInvalid, "version", "%v", err)
	}
	row, known := s.manifests.get(b.Name)
	if !known {
		return refuse(CodeNotFound, "name", "nothing was accepted under the name %.128q", b.Name)
	}
	at := slices.IndexFunc(row.Versions, func(v AcceptedVersion) bool { return v.order(manifest.Statement{Version: b.Version}) == 0 })
	newest := len(row.Versions) - 1
	switch {
	case at < 0:
		return refuse(CodeNotFound, "version", "version %s of %q was not accepted, or is kept no more", b.Version, b.Name)
	case b.Forget && at < newest:
		return refuse(CodeConflict, "forget", "only the newest version can be forgotten, which is %s: revoke %s without", row.Newest().Statement.Version, b.Version)
	case b.Forget && newest == 0 && row.Trimmed:
		return refuse(CodeConflict, "forget", "%s is the last version of %q that is kept and was not the first: without it, older ones could come back", b.Version, b.Name)
	case !b.Forget && row.Versions[at].RevokedMs != 0:
		return Result{Code: CodeOK, ID: b.Name, Repeated: true}
	}
	was := row.Versions[at].Statement
	row.Versions = slices.Clone(row.Versions)
	if b.Forget {
		row.Trimmed = row.Trimmed || len(row.Versions) == MaxManifestVersions // below LevelClients nobody noted it
		row.Versions = row.Versions[:newest]
	} else {
		row.Versions[at].RevokedMs = c.atMs
	}
	if len(row.Versions) == 0 {
		s.manifests.remove(b.Name)
	} else {
		s.manifests.put(b.Name, row)
	}
	s.record(c, "manifest_revoke", b.Name, fmt.Sprintf("version=%s sha256=%s forgotten=%t floor=%q", was.Version, was.SHA256, b.Forget, row.Newest().Statement.Version))
	return Result{Code: CodeOK, ID: b.Name}
}

// revokedToo marks the versions of a row that another row of the name has as
// revoked: no restore makes good what was taken back.
func (m Manifest) revokedToo(other Manifest) Manifest {
	m.Versions = slices.Clone(m.Versions)
	for i, v := range m.Versions {
		for _, o := range other.Versions {
			if o.RevokedMs != 0 && v.RevokedMs == 0 && o.Statement.SHA256 == v.Statement.SHA256 {
				m.Versions[i].RevokedMs = o.RevokedMs
			}
		}
	}
	return m
}
