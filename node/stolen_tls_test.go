package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// robbed is a cluster of two one of which had its TLS key stolen. The key is revoked; the
// thief still has a certificate for it, which is of the CA in use.
func robbed(t *testing.T) (c *trio, thief *Node) {
	t.Helper()
	c = newTrio(t, 2)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	thief = c.impostor(c.nodes[1])
	return c, thief
}

// revokeStolen ends the stolen key.
func (c *trio) revokeStolen(thief *Node) {
	c.t.Helper()
	c.revokeTLS(0, c.nodes[1].id.NodeID, c.rotateTLS(0, c.nodes[1]))
	c.eventually("the key is over", func() bool { return !thief.pings(c.t, c.nodes[0]) })
}

// thiefsSeed answers joiners and edges as the thief likes.
func thiefsSeed(t *testing.T, thief *Node, answer http.HandlerFunc) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", thief.creds.joinServer())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: answer}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// TestP8ARevokedTLSKeyHearsNoSecretOfJoiners: joiners go by the CA alone, so one may ask the thief. What it then
// sees opens nothing at an honest seed without the joiner's own key.
func TestP8ARevokedTLSKeyHearsNoSecretOfJoiners(t *testing.T) {
	t.Parallel()
	c, thief := robbed(t)
	c.revokeStolen(thief)
	heard := make(chan joinRequest, 1)
	addr := thiefsSeed(t, thief, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var req joinRequest
		if fsm.Decode(data, &req) == nil {
			select {
			case heard <- req:
			default:
			}
		}
		writeRPCError(w, &client.Error{Code: client.CodeInvalid, Detail: "no"})
	})
	cfg := testConfig(t, "victim")
	cfg.Join, cfg.JoinToken = []string{addr}, c.token("coordinator", 1)
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), cfg, id); err == nil {
		t.Fatal("the thief took a node in")
	}
	var r joinReply
	_, err = postSeed(t.Context(), c.cfgs[0], c.cfgs[0].GossipAddr, anySeed(), joinPath, <-heard, &r)
	if code(err) != client.CodeConflict || len(r.CAKey)+len(r.PoolKeys)+len(r.Sealed) > 0 {
		t.Errorf("who repeats a joiner's request without its key hears %d bytes of a CA key, %d pool keys: %v", len(r.CAKey), len(r.PoolKeys), err)
	}
}

// stalled is a connection of a TLS server that sends its certificate, and the end of
// the handshake when it is let.
type stalled struct {
	net.Conn
	once    sync.Once
	records int
	stopped chan struct{} // closed once the certificate went out
	goOn    chan struct{}
}

// The server's flight of TLS 1.3 (RFC 8446, 2): ServerHello, then encrypted records with
// EncryptedExtensions, CertificateRequest, Certificate, CertificateVerify, Finished.
const recordsToCertificate = 3

func (s *stalled) Write(p []byte) (int, error) {
	const encrypted, header = 23, 5
	sent := 0
	for rest := p; len(rest) >= header; {
		size := header + int(rest[3])<<8 + int(rest[4])
		if rest[0] == encrypted {
			if s.records++; s.records > recordsToCertificate {
				s.once.Do(func() { close(s.stopped); <-s.goOn })
			}
		}
		n, err := s.Conn.Write(rest[:size])
		if sent += n; err != nil {
			return sent, err
		}
		rest = rest[size:]
	}
	return sent, nil
}

// TestP5ADialDoesNotOutliveARevocation: whoever has the TLS key of a node and its address holds back the end of the
// handshake until the key is revoked and open connections were looked at.
func TestP5ADialDoesNotOutliveARevocation(t *testing.T) {
	t.Parallel()
	c, thief := robbed(t)
	n, at := c.nodes[1], c.nodes[0]
	was := c.rotateTLS(0, n)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &stalled{stopped: make(chan struct{}), goOn: make(chan struct{})}
	go func() {
		if raw, err := l.Accept(); err == nil {
			s.Conn = raw
			conn := tls.Server(s, thief.creds.server(false, true))
			_, _ = io.Copy(conn, conn)
		}
	}()
	ended := make(chan error, 1)
	go func() {
		conn, err := at.dialer.dialAt(t.Context(), protoRaft, n.id.NodeID, l.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		ended <- err
	}()
	<-s.stopped
	c.revokeTLS(0, n.id.NodeID, was)
	c.eventually("the key is over", func() bool { return at.unwelcome(peerName{id: n.id.NodeID, role: fsm.RoleCoordinator, tlsKey: was}) })
	close(s.goOn)
	if err := <-ended; err == nil {
		t.Error("a connection with a revoked key was kept")
	}
}

// TestP8ARevokedTLSKeyTakesNoEdge: an edge goes by the keys that it was told of. Who has a certificate for another one tells it of no other
// CA, of no coordinators, and not that it was removed.
func TestP8ARevokedTLSKeyTakesNoEdge(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, thief := robbed(t)
	e := startEdge(t, edgeTestConfig(t, c, "e1", c.token("edge", 1)))
	c.revokeStolen(thief)
	if err := e.refresh(t.Context()); err != nil { // it has heard of everything since
		t.Fatal(err)
	}
	own, clusterID := freshCA(t), e.id.ClusterID
	var refuses atomic.Bool
	addr := thiefsSeed(t, thief, func(w http.ResponseWriter, r *http.Request) {
		if refuses.Load() {
			writeRPCError(w, &client.Error{Code: client.CodeForbidden, Detail: "you were removed"})
			return
		}
		data, _ := io.ReadAll(r.Body)
		var req edgeJoinRequest
		if err := fsm.Decode(data, &req); err != nil {
			t.Error(err)
		}
		public, err := x509.ParsePKIXPublicKey(req.TLSPublic)
		if err != nil {
			t.Error(err)
		}
		leaf, err := own.issueLeaf(clusterID, req.Edge.NodeID, fsm.RoleEdge, public, nil, time.Now())
		if err != nil {
			t.Error(err)
		}
		body, err := fsm.Encode(edgeJoinReply{ClusterID: clusterID, CACert: own.Cert, TLSCert: leaf, PoolKeys: [][]byte{poolKeyOf("the thief's")},
			Members: memberFile{Index: 1 << 60, Members: map[string]peerAddress{}}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	})
	credential, err := crypto.ParseTokenText(e.id.Credential)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin}, InsecureSkipVerify: true, VerifyConnection: e.checkKnown}
	reply, err := e.askToJoin(t.Context(), credential, config, []string{addr})
	if err != nil {
		t.Fatal(err) // the certificate is of the CA
	}
	if _, err := e.keep(reply, e.believes(reply.seed)); err == nil {
		t.Error("the edge goes by the thief's CA")
	}
	if _, asOf, known := e.book.recordOf(c.nodes[0].id.NodeID); !known || asOf == 1<<60 {
		t.Errorf("the edge knows the coordinators by the thief's word, as of %d", asOf)
	}
	refuses.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err = e.askToJoin(ctx, credential, config, []string{addr}); err == nil || code(err) == client.CodeForbidden {
		t.Errorf("a refusal of who is not believed: %v", err)
	}
	if _, err := e.askToJoin(t.Context(), credential, config, []string{addr, c.cfgs[0].GossipAddr}); err != nil {
		t.Errorf("with an honest seed behind it: %v", err)
	}
}
