package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// Join: a new node dials a seed's gossip port, speaks TLS, checks the CA
// against the pin in its token, and posts who it is. The seed proposes the
// record under the token; once that is committed it answers with certificate,
// pool key and addresses. The leader does the rest (alignMembers).

const (
	joinPath     = "/join"
	maxJoinBytes = 64 << 10
	joinLabel    = "join v1"
)

type joinRequest struct {
	Token       string          `cbor:"1,keyasint"`
	Coordinator fsm.Coordinator `cbor:"2,keyasint"`
	TLSPublic   []byte          `cbor:"3,keyasint"` // PKIX of the TLS key
	Proof       []byte          `cbor:"4,keyasint"` // by the signing key, over all of the above
}

func (r joinRequest) parts() ([][]byte, error) {
	c, err := fsm.Encode(r.Coordinator)
	return [][]byte{[]byte(r.Token), c, r.TLSPublic}, err
}

type joinReply struct {
	ClusterID string     `cbor:"1,keyasint"`
	CACert    []byte     `cbor:"2,keyasint"`
	CAKey     []byte     `cbor:"3,keyasint"` // to coordinators only
	TLSCert   []byte     `cbor:"4,keyasint"`
	PoolKeys  [][]byte   `cbor:"5,keyasint"`
	Members   memberFile `cbor:"6,keyasint"`

	MoreCAs []authority `cbor:"7,keyasint,omitempty"` // trusted beside CACert, while the CA is rotated
	AsOf    uint64      `cbor:"8,keyasint,omitempty"` // log index as of which CAs and pool keys are right

	// To a joiner that proved its TLS key nothing secret goes in clear.
	Sealed []sealedKey      `cbor:"9,keyasint,omitempty"`
	Signer crypto.PublicKey `cbor:"10,keyasint,omitzero"` // of Sealed

	seed peerName   // who answered, by its certificate
	set  *sharedSet // what the answer tells, opened
}

// joinServer answers joiners; connections come from the gossip port.
func (n *Node) joinServer() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+joinPath, answerJoiner(n, n.serveJoin))
	routes.HandleFunc("POST "+edgeJoinPath, answerJoiner(n, n.serveEdgeJoin))
	routes.HandleFunc("POST "+manifestPath, answerJoiner(n, n.serveManifest))
	s := &http.Server{Handler: routes, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0), ConnContext: withJoiner}
	s.SetKeepAlivesEnabled(false) // one join a connection
	return s
}

func answerJoiner[T any](n *Node, serve func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reply, err := serve(r)
		if err != nil {
			e := asAPIError(err)
			n.noteRefusedJoin(r, e.Code)
			if n.joinLog.Allow() { // strangers must not fill the log
				n.log.Warn("joiner refused", "remote", r.RemoteAddr, "path", r.URL.Path, "code", e.Code, "detail", e.Detail)
			}
			writeRPCError(w, e)
			return
		}
		body, err := fsm.Encode(reply)
		if err != nil {
			writeRPCError(w, asAPIError(err))
			return
		}
		defer clear(body)    // it holds the pool key and the CA key
		_, _ = w.Write(body) // a joiner that missed it asks again: joins are idempotent
	}
}

const (
	// maxJoins bounds joins under way: each proposes and signs a certificate.
	maxJoins = 8
	// joinsPerSecond under one token are proposed, after a burst of all that a cluster
	// has room for; a joiner asks again after a second.
	joinsPerSecond = 2
	joinsBurst     = fsm.MaxCoordinators
	joinsEntries   = 1024 // tokens that are remembered
	// joinLookups a second go to the leader for tokens that this replica does
	// not know; with fewer, strangers could make the leader work.
	joinLookups = 5
)

func (n *Node) serveJoin(r *http.Request) (joinReply, error) {
	var req joinRequest
	leave, err := n.admitJoiner(r, &req)
	if err != nil {
		return joinReply{}, err
	}
	defer leave()
	proved, err := provesKey(r, req.TLSPublic)
	if err != nil {
		return joinReply{}, err
	}
	token, err := n.checkJoinToken(r.Context(), req)
	if err != nil {
		return joinReply{}, err
	}
	if err := n.audit.Err(); err != nil {
		return joinReply{}, errNoAudit()
	}
	if proved {
		member, err := n.isTakenIn(r.Context(), req.Coordinator)
		if err != nil {
			return joinReply{}, err
		}
		if member { // the answer was lost, and addresses or token are others by now; it describes itself once it is up
			if err := n.noteJoined(r, token.ID, req.Coordinator); err != nil {
				return joinReply{}, err
			}
			return n.welcome(r.Context(), req, 0, proved)
		}
	}
	cmd, err := n.joinCommand(token, req)
	if err != nil {
		return joinReply{}, err
	}
	res, err := n.Propose(r.Context(), cmd)
	if err != nil {
		return joinReply{}, err
	}
	if !res.OK() {
		return joinReply{}, &client.Error{Code: string(res.Code), Field: res.Field, Detail: res.Detail}
	}
	if err := n.noteJoined(r, token.ID, req.Coordinator); err != nil {
		return joinReply{}, err
	}
	return n.welcome(r.Context(), req, res.Index, proved)
}

// isTakenIn tells whether a joiner, which has proved its keys, is on record by just these.
func (n *Node) isTakenIn(ctx context.Context, c fsm.Coordinator) (member bool, err error) {
	_, err = n.Read(ctx, api.ReadOptions{Strong: true}, func(s *fsm.State) {
		have, ok := s.Coordinator(c.ID)
		member = ok && have.Role == c.Role && have.SigningKey == c.SigningKey && have.TLSKey == c.TLSKey && bytes.Equal(have.EncryptionKey, c.EncryptionKey)
	})
	return member, err
}

// admitJoiner reads the request of a joiner and takes a slot for it.
func (n *Node) admitJoiner(r *http.Request, req any) (leave func(), err error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxJoinBytes+1))
	if err != nil || len(data) > maxJoinBytes {
		return nil, &client.Error{Code: client.CodeTooLarge, Detail: "a join request has at most 64 KiB"}
	}
	if err := fsm.Decode(data, req); err != nil {
		return nil, &client.Error{Code: client.CodeInvalid, Detail: fmt.Sprintf("join request: %v", err)}
	}
	select {
	case n.joining <- struct{}{}:
		return func() { <-n.joining }, nil
	default:
		return nil, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second, Detail: "too many nodes are joining at once"}
	}
}

// checkJoinToken compares the token's hash and the proof of possession before
// anything is proposed; whether it is in force is asked again in Apply.
func (n *Node) checkJoinToken(ctx context.Context, req joinRequest) (crypto.TokenText, error) {
	token, err := crypto.ParseTokenText(req.Token)
	if err != nil {
		return token, &client.Error{Code: client.CodeUnauthorized, Detail: err.Error()}
	}
	if token.ClusterID != n.id.ClusterID {
		return token, &client.Error{Code: client.CodeUnauthorized, Detail: fmt.Sprintf("the join token is of cluster %s, this is %s", token.ClusterID, n.id.ClusterID)}
	}
	stored, err := n.joinToken(ctx, token)
	if err != nil {
		return token, err
	}
	if !stored.Hash.Equal(token.Hash()) {
		return token, errJoinToken("is unknown")
	}
	if role := req.Coordinator.Role; role != stored.Role || (role != fsm.RoleCoordinator && role != fsm.RoleObserver) {
		return token, &client.Error{Code: client.CodeForbidden, Field: "role",
			Detail: fmt.Sprintf("a token of role %s opens no join as %s: make one with `edgecoder token create --role coordinator`", stored.Role, role)}
	}
	now := n.clockMs()
	if state := stored.State(now); state != "active" && !(state == "used" && stored.Opens(now) && n.joinedBy(req.Coordinator.ID, token.ID)) {
		return token, errJoinToken("is " + state)
	}
	if crypto.Sum(req.TLSPublic) != req.Coordinator.TLSKey {
		return token, &client.Error{Code: client.CodeInvalid, Field: "tls_key", Detail: "the TLS key is not the one in the record"}
	}
	parts, err := req.parts()
	if err != nil || !crypto.VerifyText(req.Coordinator.SigningKey, req.Proof, joinLabel, parts...) {
		return token, &client.Error{Code: client.CodeInvalid, Field: "proof", Detail: "the joiner's proof of its signing key does not verify"}
	}
	return token, nil
}

// joinedBy tells whether a node joined with a token: its answer was lost, and it asks
// again with what is used up by now.
func (n *Node) joinedBy(nodeID, tokenID string) (yes bool) {
	n.machine.Read(func(s *fsm.State) {
		c, known := s.Coordinator(nodeID)
		yes = known && c.TokenID == tokenID
	})
	return yes
}

// joinCommand is what a joiner asks for, once its token was found to open a join. It
// refuses what Apply would: that is in the log all the same.
func (n *Node) joinCommand(token crypto.TokenText, req joinRequest) (fsm.Command, error) {
	if field, fault := req.Coordinator.Fault(); fault != "" {
		return fsm.Command{}, &client.Error{Code: client.CodeInvalid, Field: field, Detail: "the joining node: " + fault}
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: token.ID}, fsm.CoordinatorJoin{Coordinator: req.Coordinator})
	if err != nil {
		return cmd, err
	}
	if len(cmd.Body) > maxUpdateBytes {
		return cmd, &client.Error{Code: client.CodeTooLarge, Detail: fmt.Sprintf("the joining node describes itself in %d bytes, at most %d", len(cmd.Body), maxUpdateBytes)}
	}
	if wait := n.joinRates.Take(token.ID); wait > 0 {
		return cmd, &client.Error{Code: client.CodeOverloaded, RetryAfter: wait, Detail: "the join token " + token.ID + " is used too often"}
	}
	return cmd, nil
}

func errJoinToken(what string) *client.Error {
	return &client.Error{Code: client.CodeUnauthorized, Detail: "the join token " + what + ": make one with `edgecoder token create --role coordinator`"}
}

// joinToken looks a token up: here, or on the leader if this replica does not
// know it yet. A token that is known here never costs a question to the leader.
func (n *Node) joinToken(ctx context.Context, token crypto.TokenText) (stored fsm.Token, err error) {
	var known bool
	look := func(s *fsm.State) { stored, known = s.Token(token.ID) }
	n.machine.Read(look)
	if !known {
		if !n.joinLookup.Allow() {
			return stored, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second, Detail: "too many unknown join tokens"}
		}
		if _, err := n.Read(ctx, api.ReadOptions{Strong: true}, look); err != nil {
			return stored, err
		}
	}
	if !known {
		return stored, errJoinToken("is unknown")
	}
	return stored, nil
}

// welcome hands a committed joiner what it needs: what the record says, never
// what the request does.
func (n *Node) welcome(ctx context.Context, req joinRequest, index uint64, proved bool) (joinReply, error) {
	var record fsm.Coordinator
	var known, behind, may bool
	read := func(s *fsm.State) {
		record, known = s.Coordinator(req.Coordinator.ID)
		behind = onRecord(s) && s.Index() < n.shared.Load().asOf
		may = proved || toldWithoutProof(s)
	}
	if _, err := n.Read(ctx, api.ReadOptions{MinIndex: index}, read); err != nil {
		return joinReply{}, err
	}
	switch {
	case !known:
		return joinReply{}, &client.Error{Code: client.CodeForbidden, Detail: "the node was removed again"}
	case !may:
		return joinReply{}, errUnproved()
	case behind:
		return joinReply{}, &client.Error{Code: client.CodeUnavailable, Detail: "this node is catching up: ask another coordinator"}
	}
	set, _, err := n.sharedFor(record.ID)
	if err != nil {
		return joinReply{}, err
	}
	if len(set.ring) == 0 {
		return joinReply{}, &client.Error{Code: client.CodeUnavailable, Detail: "this node holds no gossip key that the joiner may be told: ask another coordinator"}
	}
	cert, err := n.signWith(set, certifyRequest{NodeID: record.ID, TLSPublic: req.TLSPublic})
	if err != nil {
		return joinReply{}, err
	}
	set = set.forRole(record.Role)
	first := set.active()
	reply := joinReply{ClusterID: n.id.ClusterID, CACert: first.Cert, CAKey: first.Key, MoreCAs: set.cas[1:], TLSCert: cert,
		PoolKeys: set.ring, Members: n.memberRecords(), AsOf: set.asOf}
	if !proved {
		return reply, nil
	}
	return n.sealed(reply, set, record.EncryptionKey)
}

// completeJoin lets a wiped node take its old name: the dead id of that name
// is removed in the same step, and only if it is dead.
func (n *Node) completeJoin(l *leadership, cmd fsm.Command) (_ fsm.Command, leaving string, err error) {
	body, err := fsm.BodyOf[fsm.CoordinatorJoin](cmd)
	if err != nil {
		return cmd, "", &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	var old fsm.Coordinator
	n.machine.Read(func(s *fsm.State) {
		for _, c := range s.Coordinators() {
			if c.Name == body.Coordinator.Name && c.ID != body.Coordinator.ID {
				old = c
			}
		}
	})
	if old.ID == "" {
		return cmd, "", nil
	}
	if time.Since(l.since) < aliveFor && !n.fresh(old.ID) {
		return cmd, "", &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second,
			Detail: fmt.Sprintf("too early to tell whether node %s of the same name is dead: this leader is new", old.ID)}
	}
	if n.maybeAlive(l, old) {
		return cmd, "", &client.Error{Code: client.CodeConflict, Field: "name", Detail: fmt.Sprintf(
			"the name %q belongs to node %s, which is alive or was heard of within %s: choose another name, or stop that node first", old.Name, old.ID, aliveFor)}
	}
	body.ReplaceID = old.ID
	out, err := fsm.New(cmd.Actor, body)
	out.Idem = cmd.Idem
	return out, old.ID, err
}

// maybeAlive tells whether a node could be up without this leader having heard
// of it: it answered lately, it is new, or this leader is.
func (n *Node) maybeAlive(l *leadership, c fsm.Coordinator) bool {
	h, heard := n.health.get(c.ID)
	age := n.clockMs() - c.JoinedMs // below zero when it joined before the clock was set back
	return c.ID == n.id.NodeID || (heard && time.Since(h.at) < aliveFor) ||
		(age >= 0 && age < aliveFor.Milliseconds()) || time.Since(l.since) < aliveFor
}

func (n *Node) hostsOnRecord(id string) []string {
	if id == n.id.NodeID {
		return hostsOf(n.cfg.APIAddr, n.cfg.raftAddr())
	}
	var hosts []string
	n.machine.Read(func(s *fsm.State) { hosts = s.CertificateHosts(id) })
	return hosts
}

func hostsOf(addresses ...string) []string {
	var out []string
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a); err == nil && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// join asks the seeds in turn until one takes this node in, for as long as ctx lasts.
func join(ctx context.Context, cfg Config, id *identity) (*joinReply, error) {
	token, err := crypto.ParseTokenText(cfg.JoinToken)
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	if token.Pin == "" {
		return nil, errors.New("join token: it pins no CA, so it is no join token")
	}
	req, err := newJoinRequest(cfg, id, token)
	if err != nil {
		return nil, err
	}
	return askSeeds(ctx, cfg, func(seed string) (*joinReply, error) {
		if err := askSeed(ctx, seed, token, cfg); err != nil {
			return nil, err
		}
		return joinAt(ctx, cfg, id, seed, token, req)
	})
}

// askSeeds asks the seeds in turn until one takes a joiner in.
func askSeeds[T any](ctx context.Context, cfg Config, ask func(seed string) (*T, error)) (*T, error) {
	for {
		var failed, refused error
		hopeless := true
		for _, seed := range cfg.Join {
			reply, err := ask(seed)
			if err == nil {
				return reply, nil
			}
			failed = fmt.Errorf("join at %s: %w", seed, err)
			hopeless = hopeless && errors.Is(err, errWrongSeed)
			if e := (*client.Error)(nil); errors.Is(err, ErrManifest) || errors.As(err, &e) && client.RetryOf(e.Code) == client.RetryNo {
				refused = failed // one seed's word; the others may know better
			}
		}
		if refused != nil {
			return nil, refused
		}
		if hopeless {
			return nil, failed
		}
		cfg.Log.Warn("not joined yet, trying again", "error", failed)
		if !pause(ctx, time.Second) {
			return nil, failed
		}
	}
}

func newJoinRequest(cfg Config, id *identity, token crypto.TokenText) (joinRequest, error) {
	encryption, err := id.encryptionPublic()
	if err != nil {
		return joinRequest{}, err
	}
	public, err := tlsPublic(id.TLSKey)
	if err != nil {
		return joinRequest{}, err
	}
	req := joinRequest{Token: token.String(), TLSPublic: public, Coordinator: fsm.Coordinator{
		ID: id.NodeID, Name: cfg.Name, Role: fsm.Role(token.Role), SigningKey: id.publicKey(), EncryptionKey: encryption,
		API: cfg.APIAddr, Raft: cfg.raftAddr(), Gossip: cfg.GossipAddr, Level: cfg.supports(), Version: cfg.Version,
		TLSKey: crypto.Sum(public)}}
	parts, err := req.parts()
	if err != nil {
		return joinRequest{}, err
	}
	key := id.signingKey()
	defer clear(key)
	req.Proof = crypto.SignText(key, joinLabel, parts...)
	return req, nil
}

func tlsPublic(pkcs8 []byte) ([]byte, error) {
	signer, err := parseSigner(pkcs8)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(signer.Public())
}

// postSeed posts a request to the join service of a seed, which the TLS configuration
// makes sure of, and returns which node that is.
func postSeed(ctx context.Context, cfg Config, seed string, config *tls.Config, path string, req, reply any) (met peerName, err error) {
	body, err := fsm.Encode(req)
	if err != nil {
		return met, err
	}
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSeed(ctx, cfg, seed, config, 5*time.Second)
		}, DisableKeepAlives: true}}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+seed+path, bytes.NewReader(body))
	if err != nil {
		return met, err
	}
	resp, err := c.Do(post)
	if err != nil {
		return met, err
	}
	defer resp.Body.Close()
	if met, err = nameOf(resp.TLS.PeerCertificates[0]); err != nil { // the configuration has seen it
		return met, err
	}
	data := make([]byte, maxJoinBytes) // one buffer, since it holds the pool key and the CA key
	defer clear(data)
	size, err := io.ReadFull(resp.Body, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return met, err
	}
	data = data[:size]
	if resp.StatusCode != http.StatusOK {
		var p client.Problem
		if json.Unmarshal(data, &p) != nil {
			return met, fmt.Errorf("status %d: the seed may be older than this binary, and does not know the question", resp.StatusCode)
		}
		return met, p.Error()
	}
	if err := fsm.Decode(data, reply); err != nil {
		return met, fmt.Errorf("the seed's answer does not parse: %w", err)
	}
	return met, nil
}

func joinAt(ctx context.Context, cfg Config, id *identity, seed string, token crypto.TokenText, req joinRequest) (*joinReply, error) {
	config, err := id.showing(joinDial(token))
	if err != nil {
		return nil, err
	}
	var reply joinReply
	if reply.seed, err = postSeed(ctx, cfg, seed, config, joinPath, req, &reply); err != nil {
		return nil, err
	}
	if reply.set, err = reply.open(id, fsm.Role(token.Role)); err != nil {
		return nil, fmt.Errorf("the seed's answer: %w", err)
	}
	pinned := slices.ContainsFunc(reply.set.cas, func(a authority) bool { return a.id().String() == token.Pin })
	if !pinned || reply.ClusterID != token.ClusterID {
		return nil, errors.New("the seed's answer is not of the cluster in the join token")
	}
	return &reply, nil
}

// answersAlready tells whether a seed speaks for an existing cluster, so that
// --bootstrap never makes a second one beside it.
func answersAlready(ctx context.Context, cfg Config) error {
	for _, seed := range cfg.Join {
		var cluster string
		probe := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin}, InsecureSkipVerify: true, // only asks who is there
			VerifyConnection: func(s tls.ConnectionState) error {
				seed, err := nameOf(s.PeerCertificates[0])
				cluster = seed.cluster
				return err
			}}
		if conn, err := dialSeed(ctx, cfg, seed, probe, 2*time.Second); err == nil {
			_ = conn.Close()
			return fmt.Errorf("--bootstrap refused: %s answers for the existing cluster %s: join it with a token instead", seed, cluster)
		}
	}
	return nil
}

// dialSeed connects to the join service of a seed within a time.
func dialSeed(ctx context.Context, cfg Config, seed string, config *tls.Config, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := cfg.net().dial(ctx, seed)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

const poolKeyBytes = gossip.KeyBytes

// newPoolKey makes a gossip pool key.
func newPoolKey() ([]byte, error) {
	key := make([]byte, poolKeyBytes)
	_, err := rand.Read(key)
	return key, err
}
