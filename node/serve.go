package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/crypto"
)

// sockets are the listeners of one node, by protocol.
type sockets struct {
	api, rpc, raft net.Listener
}

// face is what answers on them, kept for the shutdown.
type face struct {
	muxes   []*mux
	servers []*http.Server // in the order of shutdown
}

func (n *Node) listen() (sockets, error) {
	var s sockets
	apiSocket, err := n.cfg.net().listen(n.cfg.APIAddr)
	if err != nil {
		return s, fmt.Errorf("API: %w", err)
	}
	shared := n.cfg.RaftAddr == ""
	apiMux := newMux(apiSocket, n.creds.server(true, shared), n.cfg.TrustedProxies, n.checkPeer, n.log)
	n.face.muxes = append(n.face.muxes, apiMux)
	s.api = apiMux.listen("h2", "http/1.1", "")
	peerMux := apiMux
	if !shared {
		peerSocket, err := n.cfg.net().listen(n.cfg.RaftAddr)
		if err != nil {
			return s, fmt.Errorf("raft: %w", err)
		}
		peerMux = newMux(peerSocket, n.creds.server(false, true), nil, n.checkPeer, n.log)
		n.face.muxes = append(n.face.muxes, peerMux)
	}
	for _, m := range n.face.muxes {
		m.greeter.isMember, m.greeter.met = n.isMemberAt, n.book.meet
	}
	s.raft, s.rpc = peerMux.listen(protoRaft), peerMux.listen(protoRPC)
	return s, nil
}

// isMemberAt tells whether a node that was not removed is at an address.
func (n *Node) isMemberAt(addr netip.Addr) bool {
	return slices.ContainsFunc(n.book.at(addr), func(id string) bool { return !n.isRemoved(id) })
}

// serve starts the services; raft's listener is read by raft itself.
func (n *Node) serve(s sockets) {
	top := api.New(n, api.Config{ClusterID: n.id.ClusterID, Node: n.cfg.Name, CAPin: crypto.Sum(n.id.CACert).String(), Log: n.log, Version: n.cfg.Version, Now: n.cfg.Now, TrustedProxies: n.cfg.TrustedProxies, Rand: rand.Reader})
	apiServer := top.HTTPServer()
	apiServer.TLSConfig = n.creds.server(true, false) // tells net/http to speak HTTP/2 where it was negotiated
	rpcServer, joinServer := n.rpcServer(), n.joinServer()
	for _, srv := range []struct {
		server *http.Server
		l      net.Listener
	}{{apiServer, s.api}, {rpcServer, s.rpc}, {joinServer, n.joins}} {
		n.loops.Go(func() { _ = srv.server.Serve(srv.l) }) // always ends with ErrServerClosed or a closed listener
	}
	for _, m := range n.face.muxes {
		n.loops.Go(m.serve)
	}
	n.face.servers = []*http.Server{apiServer, joinServer, rpcServer}
}

// endFace stops taking requests and lets those under way finish for a while.
func (n *Node) endFace() {
	for _, s := range n.face.servers {
		shutdownHTTP(s)
	}
	_ = n.joins.Close()
}

// endSockets closes the listeners, last: raft reads from one of them.
func (n *Node) endSockets() {
	for _, m := range n.face.muxes {
		m.close()
	}
}

// drainTime is how long a stopping server waits for the requests it has.
const drainTime = 3 * time.Second

func shutdownHTTP(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		_ = s.Close()
	}
}
