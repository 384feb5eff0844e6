package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// Bounds of a request to an edge; those of what it makes the edge hold are in bounds.go.
const (
	maxHeaderBytes = 16 << 10
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute
)

// Coordinators decide admissions and have the whole list: a client of them.
type Coordinators interface {
	Admit(ctx context.Context, req client.AdmissionRequest, opts ...client.Option) (client.Admission, error)
	AdmitBatch(ctx context.Context, requests []client.AdmissionRequest, opts ...client.Option) (client.AdmissionResults, error)
	BlacklistDelta(ctx context.Context, cursor string, opts ...client.Option) (client.BlacklistDelta, error)
}

// Server is the face of an edge: HTTP on loopback or a unix socket, for services beside it.
type Server struct {
	Judge        *Judge
	Coordinators Coordinators
	Node         client.NodeRef
	Cluster      string // id
	Version      string
	Log          *slog.Logger

	forwards, deltas, large slots
}

// HTTP returns the server of the face, with every bound set but that of connections: serve what [Bounded] makes of a listener. Call it once.
func (s *Server) HTTP() *http.Server {
	s.forwards, s.deltas, s.large = make(slots, maxForwards), make(slots, maxDeltas), make(slots, maxLarge)
	routes := http.NewServeMux()
	routes.HandleFunc("GET /v1/allowed/{agent}", s.answer(maxNoBytes, s.allowed))
	routes.HandleFunc("POST /v1/allowed", s.answer(maxCheckBytes, s.allowedBatch))
	routes.HandleFunc("POST /v1/admissions", s.answer(maxAdmissionBytes, s.admit))
	routes.HandleFunc("POST /v1/admissions/batch", s.answer(maxBatchBytes, s.admitBatch))
	routes.HandleFunc("GET /v1/blacklist/delta", s.answer(maxNoBytes, s.delta))
	routes.HandleFunc("GET /v1/status", s.answer(maxNoBytes, s.status))
	routes.HandleFunc("GET /healthz", s.answer(maxNoBytes, func(*http.Request) (any, error) { return map[string]string{"status": "ok"}, nil }))
	routes.HandleFunc("GET /readyz", s.answer(maxNoBytes, s.ready))
	routes.Handle("GET /metrics", s.metrics())
	routes.HandleFunc("/", s.answer(maxNoBytes, func(r *http.Request) (any, error) {
		return nil, &client.Error{Code: client.CodeNotFound, Detail: fmt.Sprintf("an edge has no route %s %.200q", r.Method, r.URL.Path)}
	}))
	return &http.Server{Handler: onlyLocal(routes), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
}

// onlyLocal refuses what a browser was made to send: a page of anybody may ask this machine's loopback, also under a name that it points there.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || !isLocalHost(r.Host) {
			writeError(w, &client.Error{Code: client.CodeForbidden, Detail: "an edge answers programs on its own machine, which ask for localhost or a loopback address"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// answer writes what a handler returns, which gets a body of at most so many bytes.
func (s *Server) answer(maxBody int64, handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		free, err := s.bodied(w, r, maxBody)
		if err != nil {
			writeError(w, asError(err))
			return
		}
		defer free()
		out, err := handle(r)
		if err != nil {
			writeError(w, asError(err))
			return
		}
		writeJSON(w, out)
	}
}

func asError(err error) *client.Error {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e
	}
	return &client.Error{Code: client.CodeInternal, Detail: err.Error()}
}

func writeError(w http.ResponseWriter, e *client.Error) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(client.StatusOf(e.Code))
	_ = json.NewEncoder(w).Encode(e.Problem())
}

// decode reads a body strictly.
func decode(r *http.Request, into any) error {
	text, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &client.Error{Code: client.CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return &client.Error{Code: client.CodeInvalid, Field: "body", Detail: "the body ended early"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("something follows the JSON value")
	}
	if err != nil {
		return &client.Error{Code: client.CodeInvalid, Field: "body", Detail: err.Error()}
	}
	return nil
}

func checkAgent(id string) error {
	if err := crypto.CheckID(id); err != nil {
		return &client.Error{Code: client.CodeInvalid, Field: "agent_id", Detail: err.Error()}
	}
	return nil
}

func (s *Server) allowed(r *http.Request) (any, error) {
	id := r.PathValue("agent")
	if err := checkAgent(id); err != nil {
		return nil, err
	}
	answer, view := s.Judge.Check(id)
	return client.Allowed{AllowedAnswer: answer, Freshness: s.Judge.Freshness(view)}, nil
}

func (s *Server) allowedBatch(r *http.Request) (any, error) {
	var in client.AllowedBatch
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if len(in.AgentIDs) == 0 || len(in.AgentIDs) > client.MaxBatch {
		return nil, &client.Error{Code: client.CodeInvalid, Field: "agent_ids", Detail: fmt.Sprintf("%d agents, want 1 to %d", len(in.AgentIDs), client.MaxBatch)}
	}
	for _, id := range in.AgentIDs {
		if err := checkAgent(id); err != nil {
			return nil, err
		}
	}
	answers, view := s.Judge.CheckAll(in.AgentIDs)
	return client.AllowedResults{Results: answers, Freshness: s.Judge.Freshness(view)}, nil
}

// admit hands an admission on: it is decided at one point of the log, with the claim id of who asks.
func (s *Server) admit(r *http.Request) (any, error) {
	var in client.AdmissionRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return forward(s, s.forwards, func() (client.Admission, error) { return s.Coordinators.Admit(r.Context(), in) })
}

func (s *Server) admitBatch(r *http.Request) (any, error) {
	var in client.AdmissionBatch
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return forward(s, s.forwards, func() (client.AdmissionResults, error) { return s.Coordinators.AdmitBatch(r.Context(), in.Requests) })
}

func forward[T any](s *Server, waiting slots, ask func() (T, error)) (any, error) {
	if err := waiting.take("questions wait for a coordinator"); err != nil {
		return nil, err
	}
	defer waiting.free()
	out, err := ask()
	if e := (*client.Error)(nil); errors.As(err, &e) && (e.Code == client.CodeUnauthorized || e.Code == client.CodeForbidden) {
		// That is between the edge and its cluster.
		s.Log.Error("the coordinators refuse this edge's credential: was it removed? Join again with a new token", "code", e.Code, "detail", e.Detail)
		return nil, &client.Error{Code: client.CodeUnavailable, Reason: "edge_credential", Detail: "the cluster does not take this edge's word"}
	}
	return out, err
}

func (s *Server) ready(*http.Request) (any, error) {
	view := s.Judge.Set.View()
	if why := s.Judge.blocked(view); why != "" {
		return nil, &client.Error{Code: client.CodeUnavailable, Reason: why, RetryAfter: time.Second, Detail: "this edge lets nobody through now"}
	}
	return map[string]string{"status": "ready"}, nil
}

// Status returns what the edge knows of itself.
func (s *Server) Status() client.EdgeStatus {
	view, st := s.Judge.Set.View(), s.Judge.Sync.Status()
	return client.EdgeStatus{Node: s.Node, ClusterID: s.Cluster, Version: s.Version, Freshness: s.Judge.Freshness(view), Bans: view.Len(),
		Wanted: max(st.Wanted, view.Head.Size), Cosigners: st.Position.Trusted.Names(), CosignerSet: st.Position.Trusted.Version,
		AllowListed: s.Judge.Allow.Len(), Source: st.Source, Error: st.Error}
}

func (s *Server) status(*http.Request) (any, error) { return s.Status(), nil }

func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s.Judge})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
