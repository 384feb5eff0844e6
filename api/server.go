package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/limit"
)

// requestTimeout bounds a request once it was read: longer than the node waits
// for a decision, so that the node's own answer is the one that is given.
const requestTimeout = 10 * time.Second

// headerRequestID names the request in answers and logs.
const headerRequestID = "X-Request-Id"

// Config is what a server needs besides its node.
type Config struct {
	ClusterID string
	Node      string        // name of the node, beside each of its metrics
	CAPin     func() string // SHA-256 of the active CA's certificate, hex; join and enrolment tokens carry it
	Version   string        // of the binary
	// TrustedProxies are the networks whose forwarded-address headers count.
	TrustedProxies []netip.Prefix
	Log            *slog.Logger
	Now            func() time.Time // nil: time.Now
	Rand           io.Reader        // nil: crypto/rand; must be safe for concurrent use
}

// Server is the HTTP API of one coordinator.
type Server struct {
	node   Node
	cfg    Config
	router *router
	guard  *guard
	slots  slots
	pause  time.Duration // of a refusal for too many requests

	strangerBodies *limit.Room[netip.Addr] // bodies on their way, bytes, by guardKey
	tokenBodies    *limit.Room[string]     // the same of holders of tokens, by token id
	document       func() []byte           // OpenAPI, made when it is first asked for
	selves         *limit.Rates[named]     // of agents that ask for themselves
	reported       *limit.Rates[named]     // of the reports of work that they hand in
	proven         newestSigned            // what agents asked without a log entry
	relayed        *meshSeen               // messages of the mesh that came before
	conns          *connections
	meter          *meter

	ordering   orderingPlaces
	verifying  chan struct{} // slot of who has the ledger verified
	walked     walked        // by whoever holds it
	verifies   *limit.Rates[string]
	closing    chan struct{} // closed when streams of events must end
	endStreams sync.Once

	requestPrefix string // with a counter: unique names, cheaper than a random one each
	requests      atomic.Uint64
}

// New returns the API of a node.
func New(n Node, cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	s := &Server{node: n, cfg: cfg, guard: newGuard(cfg.Now), slots: newSlots(), pause: refusalPause,
		strangerBodies: limit.NewRoom[netip.Addr](strangerBodies), tokenBodies: limit.NewRoom[string](tokenBodies),
		selves: limit.NewRates[named](cfg.Now, selfPerSecond, selfBurst, selfEntries), reported: limit.NewRates[named](cfg.Now, reportsPerSecond, client.MaxLedgerBatch, selfEntries), relayed: newMeshSeen(),
		conns: newConnections(maxStrangers, maxKnown), verifying: make(chan struct{}, 1),
		verifies: limit.NewRates[string](cfg.Now, verifiesPerSecond, verifiesBurst, verifiesEntries), closing: make(chan struct{})}
	s.meter = newMeter(s)
	s.router = newRouter(s.table())
	s.document = sync.OnceValue(s.openAPI)
	var seed [4]byte
	if _, err := io.ReadFull(cfg.Rand, seed[:]); err != nil {
		cfg.Log.Error("request ids begin without randomness", "error", err) // names only; nothing rests on them
	}
	s.requestPrefix = hex.EncodeToString(seed[:]) + "-"
	return s
}

// Handler returns the whole API.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r, unread: true, requestID: s.requestPrefix + strconv.FormatUint(s.requests.Add(1), 10)}
	setHeaders(w.Header(), c.requestID)
	defer c.recoverPanic()
	if err := s.serve(c); err != nil {
		s.holdBack(c, err)
		c.fail(err)
	}
}

// serve takes a request through the stations in the order of their cost: what
// is cheap to refuse is refused first.
func (s *Server) serve(c *call) error {
	rt, args, err := s.router.find(c.r.Method, c.r.URL)
	if err != nil {
		return s.refuse(c, err)
	}
	c.route, c.args = rt, args
	if err := c.checkArgs(); err != nil {
		return s.refuse(c, err)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), requestTimeout)
	defer cancel()
	c.ctx = ctx
	if err := s.authenticate(c); err != nil {
		return err
	}
	if err := c.checkQuery(); err != nil {
		return err
	}
	if err := s.node.Serving(); err != nil && !rt.always {
		return err
	}
	if rt.governs() {
		if err := s.mayChange(); err != nil {
			return err
		}
	}
	if err := c.readBody(); err != nil {
		if c.token.ID == "" {
			return s.refuse(c, err)
		}
		return err
	}
	c.unread = false
	if err := c.takeSlot(); err != nil {
		return err
	}
	defer c.leaveSlot()
	if err := c.notTold(); err != nil {
		return err
	}
	return rt.handle(c)
}

// setHeaders sets what every answer carries. Nothing that the API says may be
// cached, framed or guessed at.
func setHeaders(h http.Header, requestID string) {
	h[headerRequestID] = []string{requestID}
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["Content-Security-Policy"] = noContent
	h["Strict-Transport-Security"] = onlyTLS
}

// Header values that never change, shared between answers.
var (
	noStore   = []string{"no-store"}
	noSniff   = []string{"nosniff"}
	noContent = []string{"default-src 'none'; frame-ancestors 'none'"}
	onlyTLS   = []string{"max-age=31536000"}
	closing   = []string{"close"}
	jsonType  = []string{"application/json"}
)

// recoverPanic answers a panic of a handler. The log gets the route and the
// stack, never a header or a body: they hold secrets.
func (c *call) recoverPanic() {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	pattern := "no route"
	if c.route != nil {
		pattern = c.route.method + " " + c.route.pattern
	}
	c.s.cfg.Log.Error("handler panicked", "route", pattern, "request_id", c.requestID, "panic", v, "stack", string(debug.Stack()))
	if c.wrote {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	c.index = 1 // the state may be what panicked: do not ask it again
	c.fail(&client.Error{Code: client.CodeInternal, Detail: "this node failed on the request; its log names the request id"})
}

// address is who asks: the peer of the socket, or whom a trusted proxy names.
func (c *call) address() netip.Addr { return c.s.callerOf(c.r) }

func parseAddress(text string) netip.Addr {
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{} // one bucket for whatever has no address
	}
	return ap.Addr().Unmap()
}
