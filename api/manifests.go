package api

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
	"github.com/edgecoder/edgecoder/fsm"
)

// acceptManifest answers POST /v1/manifests. The signatures are verified here;
// whether the signers are trusted, and enough, is decided in Apply, so a retry
// under the same idempotency key gets its first answer whatever became of them.
func (s *Server) acceptManifest(c *call) error {
	var req client.ManifestRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	if req.Envelope == nil {
		return invalid("envelope", "it is missing: give the DSSE envelope that `edgecoder manifest sign` writes")
	}
	envelope, err := dsse.Parse(req.Envelope)
	if err != nil {
		return invalid("envelope", err.Error())
	}
	st, err := manifest.ParseStatement(envelope.PayloadType, envelope.Payload)
	if err != nil {
		return invalid("envelope", err.Error())
	}
	c.subject = st.Name + " " + st.Version
	signers, err := c.manifestSigners(st.Name, envelope)
	if err != nil {
		return err
	}
	res, err := c.propose(fsm.ManifestAccept{Statement: st, Signers: signers})
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, client.ManifestAccepted{Name: st.Name, Version: st.Version, SHA256: st.SHA256.String(),
		Index: res.Index, Signers: keyIDs(signers), Repeated: res.Repeated})
}

// manifestSigners returns the signers of the trust policy whose signature
// verifies. A replica whose policy leaves it short asks once more with a strong
// read: a signer added at one node works at the next.
func (c *call) manifestSigners(name string, envelope dsse.Envelope) ([]fsm.KeyRef, error) {
	var trust fsm.ManifestTrust
	get := func(state *fsm.State) { trust = state.ManifestTrust() }
	if err := c.readAt(ReadOptions{}, get); err != nil {
		return nil, err
	}
	refs, version := signersOf(trust, name, envelope), trust.Version
	if trust.Threshold > 0 && int64(len(refs)) >= trust.Threshold {
		return refs, nil
	}
	if err := c.readAt(ReadOptions{Strong: true}, get); err != nil {
		return nil, err
	}
	if trust.Version != version { // else verifying all over would tell the same
		refs = signersOf(trust, name, envelope)
	}
	return refs, nil
}

func signersOf(trust fsm.ManifestTrust, name string, envelope dsse.Envelope) (refs []fsm.KeyRef) {
	for _, key := range envelope.Signers(trust.KeysFor(name)) {
		refs = append(refs, key.Fingerprint())
	}
	return refs
}

func keyIDs(refs []fsm.KeyRef) []string {
	ids := make([]string, 0, len(refs))
	for _, r := range refs {
		ids = append(ids, crypto.KeyIDOf(r))
	}
	return ids
}

// manifests answers GET /v1/manifests.
func (s *Server) manifests(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	after := c.r.URL.Query().Get("after")
	var page []fsm.Manifest
	var trust fsm.ManifestTrust
	var now int64
	err = c.read(func(state *fsm.State) {
		page, trust, now = state.Manifests(after, limit+1), state.ManifestTrust(), state.ClockMs()
	})
	if err != nil {
		return err
	}
	out := client.Manifests{Manifests: make([]client.Manifest, 0, len(page))}
	size := 0
	for i, m := range page {
		row := wireManifest(m, trust, now)
		// A row may have 30 KiB: a page ends early rather than grow with them.
		if size += len(encodeJSON(row)); i == limit || size > maxPageBytes && i > 0 {
			out.Next = page[i-1].Name
			break
		}
		out.Manifests = append(out.Manifests, row)
	}
	return c.reply(http.StatusOK, out)
}

func wireManifest(m fsm.Manifest, trust fsm.ManifestTrust, nowMs int64) client.Manifest {
	out := client.Manifest{Name: m.Name, Versions: make([]client.ManifestVersion, 0, len(m.Versions))}
	for _, v := range slices.Backward(m.Versions) {
		st := v.Statement
		row := client.ManifestVersion{Version: st.Version, SHA256: st.SHA256.String(), Size: st.Size, Source: st.Source, IssuedMs: st.IssuedMs,
			ExpiresMs: st.ExpiresMs, AcceptedMs: v.AcceptedMs, Index: v.Index, Signers: keyIDs(v.Signers), State: string(m.StateOf(v, trust, nowMs)), RevokedMs: v.RevokedMs}
		out.Versions = append(out.Versions, row)
	}
	return out
}

// manifest answers GET /v1/manifests/accepted/{name}.
func (s *Server) manifest(c *call) error {
	var m fsm.Manifest
	var found bool
	var trust fsm.ManifestTrust
	var now int64
	err := c.read(func(state *fsm.State) {
		m, found = state.Manifest(c.args[0])
		trust, now = state.ManifestTrust(), state.ClockMs()
	})
	if err != nil {
		return err
	}
	if !found {
		return &client.Error{Code: client.CodeNotFound, Detail: "no manifest was accepted under the name " + quote(c.args[0])}
	}
	return c.reply(http.StatusOK, wireManifest(m, trust, now))
}

// revokeManifest answers POST /v1/manifests/accepted/{name}/revoke.
func (s *Server) revokeManifest(c *call) error {
	var req client.ManifestRevokeRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	res, err := c.propose(fsm.ManifestRevoke{Name: c.args[0], Version: req.Version, Forget: req.Forget})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.ManifestRevoked{Name: c.args[0], Version: req.Version, Forgotten: req.Forget, Index: res.Index, Repeated: res.Repeated})
}

// manifestTrust answers GET /v1/manifests/trust.
func (s *Server) manifestTrust(c *call) error {
	var t fsm.ManifestTrust
	if err := c.read(func(state *fsm.State) { t = state.ManifestTrust() }); err != nil {
		return err
	}
	return c.replyTrust(t, false)
}

func (c *call) replyTrust(t fsm.ManifestTrust, repeated bool) error {
	out := client.ManifestTrust{Version: t.Version, Threshold: t.Threshold, Signers: make([]client.ManifestSigner, 0, len(t.Signers)),
		Sources: append([]string{}, t.Sources...), Repeated: repeated}
	for _, g := range t.Signers {
		out.Signers = append(out.Signers, client.ManifestSigner{Name: g.Name, PublicKey: g.Key.String(), Prefix: g.Prefix, KeyID: g.Key.KeyID(), AddedMs: g.AddedMs})
	}
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(t.Version, 10)))
	return c.reply(http.StatusOK, out)
}

// setManifestTrust answers PUT /v1/manifests/trust.
func (s *Server) setManifestTrust(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	var req client.ManifestTrustUpdate
	if err := c.decode(&req); err != nil {
		return err
	}
	next := fsm.ManifestTrust{Threshold: req.Threshold, Sources: req.Sources}
	for _, g := range req.Signers {
		key, err := crypto.ParsePublicKey(g.PublicKey)
		if err != nil {
			return invalid("signers", quote(g.Name)+": "+err.Error())
		}
		next.Signers = append(next.Signers, fsm.ManifestSigner{Name: g.Name, Key: key, Prefix: g.Prefix})
	}
	if field, fault := next.Validate(); fault != "" {
		return invalid(field, fault)
	}
	var was fsm.ManifestTrust
	if err := c.readAt(ReadOptions{}, func(state *fsm.State) { was = state.ManifestTrust() }); err != nil {
		return err
	}
	c.tellTrust(was, next)
	res, err := c.propose(fsm.ManifestTrustSet{IfVersion: version, Trust: next})
	if err != nil {
		return err
	}
	var now fsm.ManifestTrust
	err = c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) { now = state.ManifestTrust() })
	next.Version = version + 1
	if err != nil || !res.Repeated && now.Version != next.Version {
		now = next // the change was made, and that is the news: only since when they are trusted is not known here
	}
	return c.replyTrust(now, res.Repeated)
}
