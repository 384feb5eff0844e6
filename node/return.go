package node

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The door for those who come back. A node that was away while the CA was
// rotated, for longer than the overlap or while the old one was revoked, trusts
// nobody's certificate and nobody trusts its. What is left is what no CA says:
// the TLS keys on record. At the door no CA is asked (credentials.verify): each
// side proves the key that the other has on record of it.
//
// The answer is what the replica of whoever answers says, of one index: to a node
// that it has on record, the CAs that it names, and certificates of the one that it
// says is active. A removal that keys were changed for stands at the same index as
// the change, so who was removed learns nothing that it did not know. Certificates
// are enough for a quorum to form. Secrets come only from a replica that has caught
// up, sealed to the encryption key on record, and each knock is an event.

const (
	returnPath = "/return"
	returnTime = 5 * time.Second
	// knockRate is how many questions a second a node is answered, after a burst:
	// who is stranded asks each one once in ten seconds.
	knockRate  = 0.5
	knockBurst = 8
)

type returnRequest struct {
	TLSPublic []byte `cbor:"1,keyasint"` // PKIX; must be the one of the connection
}

// serveReturn answers an ordinary call of a node that lacks keys.
func (n *Node) serveReturn(ctx context.Context, from string, req returnRequest) (sharedReply, error) {
	return n.tellShared(ctx, from, req, audit.LevelInfo, "call")
}

// serveKnock answers a node at the door, which proved its TLS key on record and
// nothing else.
func (n *Node) serveKnock(ctx context.Context, from string, req returnRequest) (sharedReply, error) {
	return n.tellShared(ctx, from, req, audit.LevelHigh, "door")
}

func (n *Node) tellShared(ctx context.Context, from string, req returnRequest, level, over string) (sharedReply, error) {
	if wait := n.knocks.Take(from); wait > 0 {
		return sharedReply{}, &client.Error{Code: client.CodeOverloaded, RetryAfter: wait, Detail: "this node asked for the keys of the cluster too often"}
	}
	sure := n.caughtUp(ctx) == nil
	set, to, err := n.sharedFor(from)
	if err != nil {
		n.note(typeKeysTold, level, "refused", map[string]string{"to": from, "over": over, "error": err.Error()})
		return sharedReply{}, err
	}
	reply, err := n.certified(set, certifyRequest{NodeID: from, TLSPublic: req.TLSPublic})
	if err == nil && sure && len(to.EncryptionKey) > 0 {
		var unsealed error // another may have a key to sign with
		if reply.Sealed, reply.Signer, unsealed = n.sealShared(set.forRole(to.Role), to.EncryptionKey); unsealed != nil {
			n.log.Warn("keys of the cluster cannot be sealed to a member that asks for them", "node", from, "error", unsealed)
		}
	}
	if err != nil {
		n.note(typeKeysTold, level, "refused", map[string]string{"to": from, "over": over, "error": err.Error()})
		return sharedReply{}, err
	}
	// No secret leaves without a trace.
	if err := n.noteNow(ctx, typeKeysTold, level, "ok", map[string]string{"to": from, "over": over, "secrets": strconv.Itoa(len(reply.Sealed))}); err != nil {
		reply.Sealed = nil
	}
	return reply, nil
}

// typeKeysTold is the event of a node that asked for the keys that all share.
const typeKeysTold = "shared_keys_told"

// sharedFor returns what a node may be told, as of one index of this replica: of
// what this node holds, what the state names, but for the next keys that were sealed
// to others alone, because the node is about to be removed as compromised. Who
// joined since gets them.
//
// After a restart without a leader the state is older than what this node held when
// it stopped, and the member file stands in for it: else nobody could be elected.
func (n *Node) sharedFor(member string) (set *sharedSet, to fsm.Coordinator, err error) {
	have := n.shared.Load()
	_, known := n.roleOf(member)
	n.machine.Read(func(s *fsm.State) {
		recorded := false
		to, recorded = s.Coordinator(member)
		older := s.Index() < have.asOf || !onRecord(s) // nothing was ever rotated
		if known = known && (older || recorded); !known || older {
			set, to = have, fsm.Coordinator{} // nobody to seal to
			return
		}
		set = &sharedSet{asOf: s.Index()}
		for _, k := range n.wantedOf(s, fsm.SubjectCA) {
			a, held := have.authority(k.id)
			if !held {
				a = authority{Cert: k.data}
			}
			a.Retiring = k.retiring
			if withheld(s, fsm.SubjectCA, k.id, member) {
				a.Key = nil // its certificate is no secret, and trusted
			}
			set.cas = append(set.cas, a)
		}
		for _, k := range n.wantedOf(s, fsm.SubjectGossip) {
			i := slices.IndexFunc(have.ring, func(key []byte) bool { return poolKeyID(key) == k.id })
			if i >= 0 && !withheld(s, fsm.SubjectGossip, k.id, member) {
				set.ring = append(set.ring, have.ring[i])
			}
		}
	})
	switch {
	case !known:
		err = &client.Error{Code: client.CodeForbidden, Detail: "no record of node " + member}
	case len(set.cas) == 0 || len(set.active().Key) == 0:
		err = &client.Error{Code: client.CodeUnavailable, Detail: "this node does not hold the CA key: ask another coordinator"}
	}
	return set, to, err
}

// onRecord tells whether the state names the keys that all share: it does not before
// fsm.LevelKeys, and until its leader has told them.
func onRecord(s *fsm.State) bool {
	for _, of := range fsm.HeldShared(fsm.RoleCoordinator) {
		if ring, _ := s.KeyRing(of); len(ring) == 0 {
			return false
		}
	}
	return true
}

// withheld tells whether a key is the next one and was sealed to others than a member.
func withheld(s *fsm.State, kind fsm.SubjectKind, id crypto.Hash, member string) bool {
	of := fsm.Subject{Kind: kind}
	k, _ := s.KeyStanding(of, s.ClockMs())
	if k.Pending < 0 || crypto.Hash(k.Ring[k.Pending].Public) != id {
		return false
	}
	joined := uint64(0)
	for _, sk := range s.SigningKeys() {
		if sk.NodeID == member && (joined == 0 || sk.Since < joined) {
			joined = sk.Since
		}
	}
	return k.Ring[k.Pending].Index > joined && s.UnheldSuccessor(of, member, s.ClockMs())
}

// certified is what of a set is no secret, and the certificates of a node.
func (n *Node) certified(set *sharedSet, req certifyRequest) (reply sharedReply, err error) {
	reply = sharedReply{AsOf: set.asOf}
	for _, a := range set.cas {
		reply.CAs = append(reply.CAs, authority{Cert: a.Cert, Retiring: a.Retiring})
	}
	if reply.Peer, err = n.signWith(set, req); err != nil {
		return reply, err
	}
	req.Face = true
	reply.Face, err = n.signWith(set, req)
	return reply, err
}

// sealShared seals the secrets of a set to a member.
func (n *Node) sealShared(set *sharedSet, to []byte) (out []sealedKey, public crypto.PublicKey, err error) {
	signer, err := n.signingKey()
	if err != nil {
		return nil, public, err
	}
	defer clear(signer)
	seal := func(kind fsm.SubjectKind, id crypto.Hash, secret []byte) error {
		text, err := sealTo(signer, to, sealingID(string(kind), id), secret)
		out = append(out, sealedKey{Kind: kind, ID: id, Text: text})
		return err
	}
	for _, key := range set.ring {
		if err := seal(fsm.SubjectGossip, poolKeyID(key), key); err != nil {
			return nil, public, err
		}
	}
	for _, a := range set.cas {
		if len(a.Key) == 0 {
			continue
		}
		if err := seal(fsm.SubjectCA, a.id(), a.Key); err != nil {
			return nil, public, err
		}
	}
	return out, crypto.PublicOf(signer), nil
}

// askShared asks one coordinator: by an ordinary call, and if no certificate is
// good for that, at the door.
func (n *Node) askShared(ctx context.Context, id string) (sharedReply, error) {
	var r sharedReply
	key, err := n.creds.chosen()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, returnTime)
	defer cancel()
	req := returnRequest{TLSPublic: key.public}
	if err = n.call(ctx, id, rpcReturn, req, &r); err != nil && !saysRemoved(err) {
		r, err = n.knock(ctx, id, req)
	}
	n.hearStanding(id, err)
	return r, err
}

// knock asks at the door.
func (n *Node) knock(ctx context.Context, id string, req returnRequest) (r sharedReply, err error) {
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return n.dialer.dial(ctx, protoReturn, id) // net/http's own context has no end: see newRPCClient
		}}}
	err = n.callOver(ctx, once, id, returnPath, req, &r)
	return r, err
}

// returnServer answers at the door.
func (n *Node) returnServer() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+returnPath, serveRPC(n, anyNode, n.serveKnock))
	s := &http.Server{Handler: routes, ReadTimeout: returnTime, WriteTimeout: 2 * returnTime, MaxHeaderBytes: 8 << 10,
		ErrorLog: log.New(io.Discard, "", 0), ConnContext: withPeer}
	s.SetKeepAlivesEnabled(false) // one question a connection
	return s
}
