package crypto

import "fmt"

// Profile is a way to sign a request. Its numbers are part of the log and never reused.
type Profile uint8

const (
	// ProfileFiveHeader is the form that existing clients speak (WIRE 2). It binds neither agent id nor key, neither
	// host nor query, and has no end of its own.
	ProfileFiveHeader Profile = 0
	// ProfileRFC9421 is HTTP Message Signatures, which bind all of these; see package crypto/httpsig.
	ProfileRFC9421 Profile = 1
)

var profileNames = [...]string{ProfileFiveHeader: "five-header", ProfileRFC9421: "rfc9421"}

// String returns the profile's name, as flags and policies spell it.
func (p Profile) String() string {
	if int(p) < len(profileNames) {
		return profileNames[p]
	}
	return fmt.Sprintf("profile %d", uint8(p))
}

// ParseProfile reads what [Profile.String] prints.
func ParseProfile(s string) (Profile, error) {
	for p, name := range profileNames {
		if s == name {
			return Profile(p), nil
		}
	}
	return 0, fmt.Errorf("unknown signature profile %s: want five-header or rfc9421", quote(s))
}

// MessageSignature is what an HTTP message signature covers beyond the five headers.
type MessageSignature struct {
	Authority string // whom the request is for: host, and port unless it is a default one, in lower case
	KeyID     string // of the key that signed, see [PublicKey.KeyID]
	ExpiresMs int64  // end of its validity, Unix milliseconds
	Base      []byte // signature base: the bytes that were signed (RFC 9421 section 2.5); not to be changed
}

// Profile tells how the request was signed.
func (r *SignedRequest) Profile() Profile {
	if r.Message != nil {
		return ProfileRFC9421
	}
	return ProfileFiveHeader
}

// ExpiresMs returns when the signature ends, Unix milliseconds; 0: it names no end.
func (r *SignedRequest) ExpiresMs() int64 {
	if r.Message != nil {
		return r.Message.ExpiresMs
	}
	return 0
}

// MayBeOf tells whether the request could have been signed with a key of this id: the five headers name none.
func (r *SignedRequest) MayBeOf(pub PublicKey) bool {
	return r.Message == nil || r.Message.KeyID == pub.KeyID()
}
