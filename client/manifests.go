package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// ManifestRequest is the body of POST /v1/manifests: a DSSE envelope over a
// manifest statement.
type ManifestRequest struct {
	Envelope json.RawMessage `json:"envelope"`
}

// ManifestAccepted is its answer.
type ManifestAccepted struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	SHA256   string   `json:"sha256"`
	Index    uint64   `json:"index"`
	Signers  []string `json:"signers"` // key ids of the trusted signers that vouched
	Repeated bool     `json:"repeated,omitempty"`
}

// ManifestVersion is an accepted statement.
type ManifestVersion struct {
	Version    string   `json:"version"`
	SHA256     string   `json:"sha256"`
	Size       int64    `json:"size"`
	Source     string   `json:"source"`
	IssuedMs   int64    `json:"issued_ms"`
	ExpiresMs  int64    `json:"expires_ms"`
	AcceptedMs int64    `json:"accepted_ms"`
	Index      uint64   `json:"index"`
	Signers    []string `json:"signers"` // key ids
	State      string   `json:"state"`   // active; expired by the cluster clock; revoked; untrusted: too few of its signers are trusted still
	RevokedMs  int64    `json:"revoked_ms,omitempty"`
}

// ManifestRevokeRequest is the body of POST /v1/manifests/accepted/{name}/revoke.
// With Forget the newest version is taken out of the list, and the one before it
// is the floor again.
type ManifestRevokeRequest struct {
	Version string `json:"version"`
	Forget  bool   `json:"forget,omitempty"`
}

// ManifestRevoked is its answer.
type ManifestRevoked struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Forgotten bool   `json:"forgotten"`
	Index     uint64 `json:"index"`
	Repeated  bool   `json:"repeated,omitempty"` // it was revoked already
}

// Manifest is what was accepted under a name, the newest version first.
type Manifest struct {
	Name     string            `json:"name"`
	Versions []ManifestVersion `json:"versions"`
}

// Manifests is one page of GET /v1/manifests; Next continues it (query "after").
type Manifests struct {
	Manifests []Manifest `json:"manifests"`
	Next      string     `json:"next,omitempty"`
}

// ManifestSigner is a key that may sign manifests of names that begin with Prefix.
type ManifestSigner struct {
	Name      string `json:"name"`
	PublicKey string `json:"public_key"`       // base64 of the raw Ed25519 key
	Prefix    string `json:"prefix,omitempty"` // empty: of all names
	KeyID     string `json:"key_id,omitempty"` // of the answer; ignored in a request
	AddedMs   int64  `json:"added_ms,omitempty"`
}

// ManifestTrust says whose manifests a cluster accepts: Threshold distinct
// signers must have signed, and a source must begin with one of Sources. It is
// the answer of GET and PUT /v1/manifests/trust.
type ManifestTrust struct {
	Version   uint64           `json:"version"` // 0 before it is first set
	Threshold int64            `json:"threshold"`
	Signers   []ManifestSigner `json:"signers"`
	Sources   []string         `json:"sources"`
	Repeated  bool             `json:"repeated,omitempty"`
}

// ManifestTrustUpdate is the body of PUT /v1/manifests/trust: it replaces the
// whole policy.
type ManifestTrustUpdate struct {
	Threshold int64            `json:"threshold"`
	Signers   []ManifestSigner `json:"signers"`
	Sources   []string         `json:"sources"`
}

// AcceptManifest has the cluster accept the artifact that a DSSE envelope names.
func (c *Client) AcceptManifest(ctx context.Context, envelope []byte, opts ...Option) (out ManifestAccepted, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/manifests", ManifestRequest{Envelope: envelope}, &out, opts)
	return out, err
}

// RevokeManifest takes back an accepted version of a name.
func (c *Client) RevokeManifest(ctx context.Context, name string, req ManifestRevokeRequest, opts ...Option) (out ManifestRevoked, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/manifests/accepted/"+url.PathEscape(name)+"/revoke", req, &out, opts)
	return out, err
}

// Manifests returns a page of what was accepted, see Page.
func (c *Client) Manifests(ctx context.Context, opts ...Option) (out Manifests, err error) {
	err = c.get(ctx, "/v1/manifests", &out, opts)
	return out, err
}

// Manifest returns what was accepted under a name; the error has CodeNotFound
// when nothing was.
func (c *Client) Manifest(ctx context.Context, name string, opts ...Option) (out Manifest, err error) {
	err = c.get(ctx, "/v1/manifests/accepted/"+url.PathEscape(name), &out, opts)
	return out, err
}

// ManifestTrust returns the trust policy of manifests.
func (c *Client) ManifestTrust(ctx context.Context, opts ...Option) (out ManifestTrust, err error) {
	err = c.get(ctx, "/v1/manifests/trust", &out, opts)
	return out, err
}

// SetManifestTrust replaces the trust policy of manifests if it is still at
// ifVersion.
func (c *Client) SetManifestTrust(ctx context.Context, ifVersion uint64, update ManifestTrustUpdate, opts ...Option) (out ManifestTrust, err error) {
	opts = append(opts, func(q *call) { q.header.Set("If-Match", strconv.Quote(strconv.FormatUint(ifVersion, 10))) })
	err = c.change(ctx, http.MethodPut, "/v1/manifests/trust", update, &out, opts)
	return out, err
}
