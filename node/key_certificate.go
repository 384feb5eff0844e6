package node

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A node rotates the key of its TLS certificates as it does its signing key: the next
// one is in the key file before anybody hears of it, the older one stays until the
// state says that it is over, and certificates are for the one that the ring says
// (fsm.Ring.Signing). The order is signed with the signing key.

// keepOwnTLSKeys does for the TLS keys what is due.
func (n *Node) keepOwnTLSKeys(ctx context.Context) error {
	return keepKeys(ctx, n, fsm.CertificateSubject(n.id.NodeID), n.dropEndedTLSKeys, n.nextTLSKey, n.announceTLSKey)
}

// nextTLSKey returns the key that comes after those of the ring: the one that the file
// has already, or a new one, which is in the file when it returns.
func (n *Node) nextTLSKey(st fsm.KeyStanding) (tlsKey, error) {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	held := n.creds.held()
	for _, k := range held {
		if !inRing(st.Ring, k.name) {
			return k, nil // made by an earlier try
		}
	}
	if len(held) >= maxHeldKeys {
		return tlsKey{}, errors.New("the key file holds as many TLS keys as a node can have")
	}
	pkcs8, err := newTLSKey()
	if err != nil {
		return tlsKey{}, err
	}
	made, err := readTLSKey(pkcs8)
	if err != nil {
		return tlsKey{}, err
	}
	return made, n.saveTLSKeys(append(slices.Clone(held), made))
}

func inRing(ring fsm.Ring, name crypto.Hash) bool {
	return slices.ContainsFunc(ring, func(k fsm.Key) bool { return crypto.Hash(k.Public) == name })
}

// saveTLSKeys makes these the TLS keys of the file, and then of memory. The caller
// holds idMu.
func (n *Node) saveTLSKeys(keys []tlsKey) error {
	changed := *n.id
	changed.TLSKey, changed.LaterTLS = keys[0].pkcs8, nil
	for _, k := range keys[1:] {
		changed.LaterTLS = append(changed.LaterTLS, k.pkcs8)
	}
	if err := changed.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
		return err
	}
	n.id.TLSKey, n.id.LaterTLS = changed.TLSKey, changed.LaterTLS
	return n.creds.hold(n.id)
}

// dropEndedTLSKeys takes out of the file what proves nothing any more, but for what
// the certificate of the moment is for.
func (n *Node) dropEndedTLSKeys(st fsm.KeyStanding, clock int64) error {
	n.sharing.Lock() // a certificate may be on its way to the file
	defer n.sharing.Unlock()
	n.idMu.Lock()
	defer n.idMu.Unlock()
	held := n.creds.held()
	shown, _ := keyOf(held, n.creds.cert.Load().Leaf)
	saved, err := x509.ParseCertificate(n.id.TLSCert)
	if err != nil {
		return err
	}
	had := n.formerTLSKeys(st.Ring, held)
	kept := slices.DeleteFunc(slices.Clone(held), func(k tlsKey) bool {
		ended := had[k.name] || inRing(st.Ring, k.name) && !counts(st.Ring, k.name, clock, true)
		return ended && k.name != shown.name && k.name != crypto.Sum(saved.RawSubjectPublicKeyInfo)
	})
	if len(kept) == len(held) {
		return nil
	}
	return n.saveTLSKeys(kept)
}

// formerTLSKeys tells which keys left a ring, as those of an older copy of the file did:
// they never come back.
func (n *Node) formerTLSKeys(ring fsm.Ring, keys []tlsKey) map[crypto.Hash]bool {
	had := map[crypto.Hash]bool{}
	n.machine.Read(func(s *fsm.State) {
		for _, k := range keys {
			had[k.name] = !inRing(ring, k.name) && s.HadTLSKey(k.name)
		}
	})
	return had
}

// announceTLSKey has the log take the next key, ordered by this node's signing key.
func (n *Node) announceTLSKey(ctx context.Context, st fsm.KeyStanding, next tlsKey, clock int64) error {
	signer, err := n.signingKey()
	if err != nil {
		return err
	}
	defer clear(signer)
	b := st.NextOrder(crypto.PublicKey(next.name), clock, clock)
	b.Signer = crypto.PublicOf(signer)
	b.Order = b.Succession(n.id.ClusterID).Order(signer)
	return n.announce(ctx, st, b)
}

// showOwnTLSKey has certificates be for the key that this node is to show now, and say
// how that came.
func (n *Node) showOwnTLSKey(ctx context.Context) error {
	want, ok := n.ownTLSKey()
	if !ok || n.toldSet() != nil {
		return nil
	}
	if n.shows(want) {
		return n.saveShown()
	}
	n.sharing.Lock()
	defer n.sharing.Unlock()
	was := n.creds.cert.Load()
	n.creds.want.Store(&want)
	set := n.shared.Load()
	shown, err := n.chainsOf(ctx, set)
	switch {
	case n.toldSet() != nil:
		return nil
	case err != nil && len(set.active().Key) == 0 && (n.aloneFor() > 0 || !n.tlsCounts(was.Leaf.RawSubjectPublicKeyInfo)):
		return errors.Join(err, n.showAtTheDoor(set, want))
	case err != nil:
		return err
	}
	if err := n.creds.present(set, shown); err != nil {
		return err
	}
	n.uncertified.Store(false)
	if err := n.saveShared(set, shown.peer[0]); err != nil { // a full disk must not cut this node off
		n.log.Warn("the certificate that this node shows is not in its key file yet, trying again", "error", err)
	}
	n.log.Info("this node shows its TLS key of the moment", "key_id", crypto.PublicKey(want.name).KeyID())
	if n.aloneFor() > 0 {
		return nil // it only tries
	}
	n.note("key_rotation", audit.LevelInfo, "ok", map[string]string{"subject": fsm.CertificateSubject(n.id.NodeID).String(), "step": "switched", "key_id": crypto.PublicKey(want.name).KeyID()})
	return nil
}

// saveShown keeps the certificate that this node shows in its key file, if that could
// not be done when it came.
func (n *Node) saveShown() error {
	n.idMu.Lock()
	saved := n.id.TLSCert
	n.idMu.Unlock()
	if n.uncertified.Load() || bytes.Equal(saved, n.creds.cert.Load().Certificate[0]) {
		return nil
	}
	n.sharing.Lock()
	defer n.sharing.Unlock()
	return n.saveShared(n.shared.Load(), n.creds.cert.Load().Certificate[0])
}

// renewConnections closes those connections for calls that are idle while one is of a
// key that retires, this node's or another's: it ends with its key, and a call on it
// would not know whether it was heard.
func (n *Node) renewConnections() {
	shown := n.creds.cert.Load().Leaf
	if n.dialer.anyCalls(func(peer peerName, own *x509.Certificate) bool {
		have, _ := n.recordOf(peer.id)
		ring := have.TLSRing()
		i := slices.IndexFunc(ring, func(k fsm.Key) bool { return crypto.Hash(k.Public) == peer.tlsKey })
		retires := i >= 0 && peer.id != n.id.NodeID && ring.StateOf(i, n.clusterClockMs()) == fsm.KeyRetiring && settled(ring, n.clusterClockMs())
		return retires || !bytes.Equal(own.RawSubjectPublicKeyInfo, shown.RawSubjectPublicKeyInfo)
	}) {
		n.rpc.CloseIdleConnections()
	}
}

// expelLoop closes connections whose keys are over: at once when one is revoked, and
// when a window ends, which no command tells.
func (n *Node) expelLoop(ctx context.Context) {
	was := map[string]hashTexts{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.keyRevoked:
		case <-time.After(keyRoundTime):
		}
		now := map[string]hashTexts{}
		n.machine.Read(func(s *fsm.State) {
			for _, c := range s.Coordinators() {
				now[c.ID] = tlsTexts(c.TLSRing(), crypto.Hash{}, s.ClockMs())
			}
		})
		n.dropUnwelcome()
		if !maps.Equal(now, was) {
			was = now
			n.book.record(n.memberRecords())
		}
	}
}

// settled tells whether the owner of a ring shows its active key by now.
func settled(ring fsm.Ring, nowMs int64) bool {
	k, ok := ring.Signing(nowMs)
	active, _ := ring.Active(nowMs)
	return ok && k.Public == active.Public
}

// shows tells whether the certificate of the moment is for a key, and says of it what
// there is to say.
func (n *Node) shows(want tlsKey) bool {
	leaf := n.creds.cert.Load().Leaf
	if crypto.Sum(leaf.RawSubjectPublicKeyInfo) != want.name || n.uncertified.Load() {
		return false
	}
	names, err := n.proofNames(n.id.NodeID, want.name)
	if err != nil {
		return true // nothing better comes of a try
	}
	return slices.EqualFunc(names, leaf.URIs[1:], func(a, b *url.URL) bool { return a.String() == b.String() })
}

// proofNames are the names of a certificate that say how its key came.
func (n *Node) proofNames(nodeID string, key crypto.Hash) ([]*url.URL, error) {
	var c fsm.Coordinator
	known := false
	if n.machine != nil {
		n.machine.Read(func(s *fsm.State) { c, known = s.Coordinator(nodeID) })
	}
	if leaf := n.creds.cert.Load().Leaf; !known && crypto.Sum(leaf.RawSubjectPublicKeyInfo) == key {
		return leaf.URIs[1:], nil // as the last run knew
	}
	proof, ok := proofOf(c, key)
	if !ok {
		return nil, nil
	}
	name, err := proof.uri()
	return []*url.URL{name}, err
}

// ownTLSKey returns the key that certificates should be for: the ring's, if the file
// has it. A node that hears nobody may have missed which one that is: it tries the
// others that it may have come to, each for a while.
func (n *Node) ownTLSKey() (tlsKey, bool) {
	var ring fsm.Ring
	var clock int64
	n.machine.Read(func(s *fsm.State) {
		ring, _ = s.KeyRing(fsm.CertificateSubject(n.id.NodeID))
		clock = s.ClockMs()
	})
	alone, held := n.aloneFor(), n.creds.held()
	if len(ring) == 0 && alone == 0 { // before there is a state
		return keyOf(held, n.creds.cert.Load().Leaf)
	}
	var tries []tlsKey
	if k, good := ring.Signing(clock); good {
		if key, has := keyNamed(held, crypto.Hash(k.Public)); has {
			tries = append(tries, key)
		}
	}
	for _, k := range held {
		known := inRing(ring, k.name)
		may := counts(ring, k.name, clock, alone > 0) || alone > 0 && !known
		if may && !slices.ContainsFunc(tries, func(other tlsKey) bool { return other.name == k.name }) {
			tries = append(tries, k)
		}
	}
	if len(tries) == 0 {
		return tlsKey{}, false
	}
	if given := n.given.Load(); alone > 0 && given != nil { // the others know the node by it
		if key, may := keyNamed(tries, *given); may {
			return key, true
		}
	}
	return tries[int(alone/toldTime)%len(tries)], true
}

// aloneFor is for how long this node may have missed a rotation; 0: not long enough to
// ask.
func (n *Node) aloneFor() time.Duration {
	if !n.isStranded() {
		n.keyRounds.led = time.Now()
	}
	return max(time.Since(n.keyRounds.led)-missedAfter, 0)
}

// tlsCounts tells whether the key of a certificate still counts as this replica has it.
func (n *Node) tlsCounts(public []byte) (yes bool) {
	n.machine.Read(func(s *fsm.State) {
		ring, _ := s.KeyRing(fsm.CertificateSubject(n.id.NodeID))
		yes = counts(ring, crypto.Sum(public), s.ClockMs(), false)
	})
	return yes
}

// showAtTheDoor is for an observer, which holds no CA key, when the key that it had a
// certificate for was revoked, or may have been since this replica heard of anything: it
// shows the certificate in its file if that is for the key, else one without a CA.
func (n *Node) showAtTheDoor(set *sharedSet, key tlsKey) error {
	n.idMu.Lock()
	saved := n.id.TLSCert
	n.idMu.Unlock()
	leaf, err := x509.ParseCertificate(saved)
	if err != nil || crypto.Sum(leaf.RawSubjectPublicKeyInfo) != key.name || issuedBy(saved, set.active()) != nil {
		return n.showUncertified(set, key)
	}
	n.uncertified.Store(false)
	return n.creds.present(set, chains{peer: [][]byte{saved, set.active().Cert}})
}

// showUncertified shows a certificate of a CA that nobody knows. At the door nobody asks
// which CA a certificate is of (return.go), and there it gets one.
func (n *Node) showUncertified(set *sharedSet, key tlsKey) error {
	cert, caKey, err := newCA(n.id.ClusterID)
	if err != nil {
		return err
	}
	leaf, err := authority{Cert: cert, Key: caKey}.issueLeaf(n.id.ClusterID, n.id.NodeID, n.id.Role, key.signer.Public(), nil, time.Now())
	if err != nil {
		return err
	}
	n.uncertified.Store(true)
	return n.creds.present(set, chains{peer: [][]byte{leaf}})
}

// takeCertificate has an observer show what it was given at the door. The caller holds
// sharing.
func (n *Node) takeCertificate(have *sharedSet, word *told) error {
	if err := n.saveShared(have, word.shown.peer[0]); err != nil {
		return err
	}
	if err := n.creds.present(have, word.shown); err != nil {
		return err
	}
	name := crypto.Sum(n.creds.cert.Load().Leaf.RawSubjectPublicKeyInfo)
	n.given.Store(&name)
	n.uncertified.Store(false)
	return nil
}
