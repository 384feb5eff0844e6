package node

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The door for those who come back. A node that was away while the CA was
// rotated, for longer than the overlap or while the old one was revoked, trusts
// nobody's certificate and nobody trusts its. What is left is what no CA says:
// the TLS keys on record. At the door no CA is asked (credentials.verify): each
// side proves the key that the other has on record of it, and the node is told
// the CAs and gossip keys that count, over that connection and nothing else. Who
// was removed is refused as everywhere.

const (
	returnPath = "/return"
	returnTime = 5 * time.Second
)

type returnRequest struct {
	TLSPublic []byte `cbor:"1,keyasint"` // PKIX; must be the one of the connection
}

// serveReturn answers a node that proved its key on record, over the door or as
// an ordinary call.
func (n *Node) serveReturn(_ context.Context, from string, req returnRequest) (sharedReply, error) {
	role, known := n.roleOf(from)
	s := n.shared.Load()
	switch {
	case !known:
		return sharedReply{}, &client.Error{Code: client.CodeForbidden, Detail: "no record of node " + from}
	case len(s.active().Key) == 0:
		return sharedReply{}, &client.Error{Code: client.CodeUnavailable, Detail: "this node does not hold the CA key: ask another coordinator"}
	}
	s = n.without(s, from)
	reply := s.reply(role)
	var err error
	if reply.Peer, err = n.signWith(s, certifyRequest{NodeID: from, TLSPublic: req.TLSPublic}); err != nil {
		return sharedReply{}, err
	}
	reply.Face, err = n.signWith(s, certifyRequest{NodeID: from, TLSPublic: req.TLSPublic, Face: true})
	return reply, err
}

// without returns a set as a member may be told it: without the next keys that
// were sealed to others alone, because it is about to be removed as compromised.
// Who joined since gets them.
func (n *Node) without(s *sharedSet, member string) *sharedSet {
	told := &sharedSet{asOf: s.asOf}
	withheld := map[crypto.Hash]bool{}
	n.machine.Read(func(state *fsm.State) {
		joined := uint64(0)
		for _, k := range state.SigningKeys() {
			if k.NodeID == member && (joined == 0 || k.Since < joined) {
				joined = k.Since
			}
		}
		for _, of := range fsm.HeldShared(fsm.RoleCoordinator) {
			if k, _ := state.KeyStanding(of, state.ClockMs()); k.Pending >= 0 && k.Ring[k.Pending].Index > joined && state.UnheldSuccessor(of, member, state.ClockMs()) {
				withheld[crypto.Hash(k.Ring[k.Pending].Public)] = true
			}
		}
	})
	for _, a := range s.cas {
		if withheld[a.id()] {
			a.Key = nil // its certificate is no secret, and trusted
		}
		told.cas = append(told.cas, a)
	}
	for _, key := range s.ring {
		if !withheld[poolKeyID(key)] {
			told.ring = append(told.ring, key)
		}
	}
	return told
}

// askShared asks one coordinator: by an ordinary call, and if no certificate is
// good for that, at the door.
func (n *Node) askShared(ctx context.Context, id string) (sharedReply, error) {
	var r sharedReply
	public, err := tlsPublic(n.id.TLSKey)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, returnTime)
	defer cancel()
	req := returnRequest{TLSPublic: public}
	if err = n.call(ctx, id, rpcReturn, req, &r); err != nil && !saysRemoved(err) {
		r, err = n.knock(ctx, id, req)
	}
	n.hearStanding(id, err)
	return r, err
}

// knock asks at the door.
func (n *Node) knock(ctx context.Context, id string, req returnRequest) (r sharedReply, err error) {
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return n.dialer.dial(ctx, protoReturn, id)
		}}}
	err = n.callOver(ctx, once, id, returnPath, req, &r)
	return r, err
}

// returnServer answers at the door.
func (n *Node) returnServer() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+returnPath, serveRPC(n, anyNode, n.serveReturn))
	s := &http.Server{Handler: routes, ReadTimeout: returnTime, WriteTimeout: 2 * returnTime, MaxHeaderBytes: 8 << 10,
		ErrorLog: log.New(io.Discard, "", 0), ConnContext: withPeer}
	s.SetKeepAlivesEnabled(false) // one question a connection
	return s
}
