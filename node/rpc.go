package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Calls between coordinators: CBOR bodies over kept-alive HTTP/1.1 on mutually
// authenticated TLS. The leader trusts a coordinator to have authenticated its
// caller; what depends on state is asked again in Apply.
const (
	rpcPropose   = "/propose"
	rpcAdmit     = "/admit"
	rpcLedger    = "/ledger"
	rpcReadIndex = "/read-index"
	rpcPing      = "/ping"
	rpcCertify   = "/certify"
	rpcTransfer  = "/transfer"
	rpcMember    = "/member"
	rpcAudit     = "/audit"
	rpcFields    = "/fields"
	rpcReach     = "/reach"
	rpcReturn    = returnPath

	rpcCosign     = "/cosign"
	rpcCosignSet  = "/cosign-set"
	rpcCheckpoint = "/checkpoint"

	// maxRPCBytes bounds a call: the largest is a command at its own bound.
	maxRPCBytes = fsm.MaxCommandBytes + 64<<10
	// maxTalkBytes bounds what nodes ask and tell each other all the time, without
	// being asked for by a client: a record or the last marks, some 2 KiB.
	maxTalkBytes = 64 << 10
	// maxRPCConns bounds kept-alive connections to one peer: batches travel on
	// one, proposals and reads on the others.
	maxRPCConns = 64
	// bodyTime is how long the body of a call may take to arrive: the largest over
	// a link of some 1.2 Mbit/s. The calls themselves may last longer.
	bodyTime = 30 * time.Second
)

// errNotLeader answers a call that only the leader can serve; the caller looks
// for the leader again.
func errNotLeader() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonNotLeader, Detail: "this node does not lead"}
}

const (
	reasonNotLeader = "not_leader"
	reasonNoLeader  = "no_leader"
	reasonClock     = "clock"
	reasonDisk      = "disk"
	reasonLevel     = "feature_level"
	reasonKeyOver   = "key_over"
)

// newRPCClient returns an HTTP client whose hosts are node ids; limit bounds a dial.
func newRPCClient(d *peerDialer, limit time.Duration) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, &dialError{err}
			}
			// net/http goes on dialling after the call was given up, and counts it as a
			// connection: unbounded, calls into a partition would use up all of them.
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return d.dial(ctx, protoRPC, id)
		},
		MaxConnsPerHost: maxRPCConns, MaxIdleConnsPerHost: maxRPCConns, IdleConnTimeout: time.Minute,
		DisableCompression: true,
	}}
}

// rpcBytes bounds the question and the answer of a call.
func rpcBytes(path string) int64 {
	switch path {
	case rpcPing, rpcReach, rpcMember, rpcReturn:
		return maxTalkBytes
	}
	return maxRPCBytes
}

// call sends one request to a node and decodes the answer. The error is a
// *client.Error: unavailable when certainly nothing was done, unknown_outcome
// when the peer may have acted.
func (n *Node) call(ctx context.Context, nodeID, path string, in, out any) error {
	return n.callOver(ctx, n.rpc, nodeID, path, in, out)
}

// callOver is call by a client of the caller's.
func (n *Node) callOver(ctx context.Context, over *http.Client, nodeID, path string, in, out any) error {
	body, err := fsm.Encode(in)
	if err != nil {
		return &client.Error{Code: client.CodeInternal, Detail: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+nodeID+path, bytes.NewReader(body))
	if err != nil {
		return &client.Error{Code: client.CodeInternal, Detail: err.Error()}
	}
	resp, err := over.Do(req)
	if err != nil {
		return callError(nodeID, err)
	}
	defer resp.Body.Close()
	most := rpcBytes(path)
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	if err != nil {
		return &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf("the answer of node %s was not read to its end: %v", nodeID, err)}
	}
	if resp.StatusCode != http.StatusOK {
		var p client.Problem
		if json.Unmarshal(data, &p) != nil || !client.KnownCode(p.Code) {
			return &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf("node %s answered with status %d", nodeID, resp.StatusCode)}
		}
		return p.Error()
	}
	if err := fsm.DecodeReply(data, out); err != nil {
		return &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf("node %s answered what this binary cannot read: %v", nodeID, err)}
	}
	return nil
}

func callError(nodeID string, err error) *client.Error {
	if d := (*dialError)(nil); errors.As(err, &d) {
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, Detail: fmt.Sprintf("node %s cannot be reached: %v", nodeID, d)}
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" {
		// A TLS alert: the peer refused our certificate, after the handshake was
		// over for us, and read no call.
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, Detail: fmt.Sprintf("node %s refused the connection: %v", nodeID, err)}
	}
	return &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf("node %s did not answer: %v", nodeID, err)}
}

// rpcServer serves the calls of other coordinators.
func (n *Node) rpcServer() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+rpcPropose, serveRPC(n, anyNode, n.servePropose))
	routes.HandleFunc("POST "+rpcAdmit, serveRPC(n, coordinatorsOnly, n.serveAdmit))
	routes.HandleFunc("POST "+rpcLedger, serveRPC(n, coordinatorsOnly, n.serveLedger))
	routes.HandleFunc("POST "+rpcReadIndex, serveRPC(n, anyNode, n.serveReadIndex))
	routes.HandleFunc("POST "+rpcPing, serveRPC(n, anyNode, n.servePing))
	routes.HandleFunc("POST "+rpcCertify, serveRPC(n, anyNode, n.serveCertify))
	routes.HandleFunc("POST "+rpcTransfer, serveRPC(n, coordinatorsOnly, n.serveTransfer))
	routes.HandleFunc("POST "+rpcReach, serveRPC(n, anyNode, n.serveReach))
	routes.HandleFunc("POST "+rpcFields, serveRPC(n, anyNode, n.serveFields))
	routes.HandleFunc("POST "+rpcAudit, serveRPC(n, anyNode, n.serveAudit))
	routes.HandleFunc("POST "+rpcCosign, serveRPC(n, coordinatorsOnly, n.serveCosign))
	routes.HandleFunc("POST "+rpcCosignSet, serveRPC(n, coordinatorsOnly, n.serveCosignSet))
	routes.HandleFunc("POST "+rpcCheckpoint, serveRPC(n, coordinatorsOnly, n.serveCheckpoint))
	routes.HandleFunc("POST "+rpcMember, serveRPC(n, anyNode, n.serveMember))
	routes.HandleFunc("POST "+rpcReturn, serveRPC(n, anyNode, n.serveReturn))
	return &http.Server{
		Handler: routes, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0), ConnContext: withPeer,
	}
}

// Who may make a call. An observer replicates and answers reads; it speaks for
// nobody, because it is trusted with less than a coordinator.
type callers bool

const (
	anyNode          callers = false
	coordinatorsOnly callers = true
)

// serveRPC decodes a call, checks who asks, and encodes the answer.
func serveRPC[In, Out any](n *Node, who callers, serve func(ctx context.Context, from string, in In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer := peerOf(r.Context())
		if e := n.mayCall(peer, who); e != nil {
			if e.Reason == reasonRemoved || e.Reason == reasonKeyOver {
				w.Header().Set("Connection", "close")
			}
			writeRPCError(w, e)
			return
		}
		data, err := readBody(w, r, rpcBytes(r.URL.Path))
		var in In
		if err == nil {
			err = fsm.Decode(data, &in)
		}
		if err != nil {
			writeRPCError(w, &client.Error{Code: client.CodeInvalid, Detail: err.Error()})
			return
		}
		out, err := serve(r.Context(), peer.id, in)
		if err != nil {
			writeRPCError(w, asAPIError(err))
			return
		}
		body, err := fsm.Encode(out)
		if err != nil {
			writeRPCError(w, &client.Error{Code: client.CodeUnknownOutcome, Detail: err.Error()})
			return
		}
		_, _ = w.Write(body) // the caller sees a cut-off answer as unknown
	}
}

// readBody reads the body of a call, which must arrive in time. The deadline ends
// with it, or net/http would take the call for given up while it is served.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	conn := http.NewResponseController(w)
	if err := conn.SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, err
	}
	return data, conn.SetReadDeadline(time.Time{})
}

func writeRPCError(w http.ResponseWriter, e *client.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(client.StatusOf(e.Code))
	_ = json.NewEncoder(w).Encode(e.Problem())
}

func asAPIError(err error) *client.Error {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e
	}
	return &client.Error{Code: client.CodeInternal, Detail: err.Error()}
}
