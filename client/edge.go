package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// EdgeConfig says where an edge answers.
type EdgeConfig struct {
	Addr    string        // "unix:/run/edgecoder/edge.sock", or http:// and a loopback address
	Timeout time.Duration // of one question; 0: DefaultEdgeTimeout
}

// DefaultEdgeTimeout bounds a question to an edge, which answers in microseconds; an admission goes on to a coordinator.
const DefaultEdgeTimeout = 5 * time.Second

// EdgeClient asks an edge on this machine. Its Admit, AdmitBatch and Middleware are those of a [Client]: the edge hands admissions on to a coordinator,
// under its own credential. It is safe for concurrent use.
type EdgeClient struct{ *Client }

// NewEdge returns a client of an edge. It does not connect yet.
func NewEdge(cfg EdgeConfig) (*EdgeClient, error) {
	config := Config{Addrs: []string{cfg.Addr}, Timeout: cmp.Or(cfg.Timeout, DefaultEdgeTimeout), Attempts: 2}
	if path, ok := strings.CutPrefix(cfg.Addr, "unix:"); ok {
		if path == "" {
			return nil, errors.New("edge address unix: without a path")
		}
		config.Addrs = []string{"http://localhost"}
		config.Transport = &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}}
	} else if !strings.HasPrefix(cfg.Addr, "http://") {
		return nil, fmt.Errorf("edge address %q: want unix:PATH or http:// and a loopback address", cfg.Addr)
	}
	c, err := New(config)
	if err != nil {
		return nil, err
	}
	return &EdgeClient{c}, nil
}

// Allowed asks whether an agent may act.
func (e *EdgeClient) Allowed(ctx context.Context, agentID string) (out Allowed, err error) {
	if agentID == "." || agentID == ".." { // which no path can name
		all, err := e.AllowedBatch(ctx, []string{agentID})
		if err == nil {
			out = Allowed{AllowedAnswer: all.Results[0], Freshness: all.Freshness}
		}
		return out, err
	}
	err = e.get(ctx, "/v1/allowed/"+url.PathEscape(agentID), &out, nil)
	return out, err
}

// AllowedBatch asks for up to MaxBatch agents at once.
func (e *EdgeClient) AllowedBatch(ctx context.Context, agentIDs []string) (out AllowedResults, err error) {
	err = e.send(ctx, newCall(http.MethodPost, "/v1/allowed", nil), AllowedBatch{AgentIDs: agentIDs}, &out)
	if err == nil && len(out.Results) != len(agentIDs) {
		err = fmt.Errorf("the edge answered %d of %d questions", len(out.Results), len(agentIDs))
	}
	return out, err
}

// EdgeStatus returns what the edge knows of itself.
func (e *EdgeClient) EdgeStatus(ctx context.Context) (out EdgeStatus, err error) {
	err = e.get(ctx, "/v1/status", &out, nil)
	return out, err
}

// reason is the code of why what rests on it is not known for certain, or "".
func (f Freshness) reason() string {
	switch {
	case f.Halted != "":
		return AllowedHalted
	case !f.Fresh:
		return AllowedStale
	}
	return ""
}

// Guard passes requests on whose agent the edge allows, and answers the others itself: 403 with the code as a problem document, 503 when the edge
// cannot be asked, or its list is not fresh or contradicts another. It fails closed, whatever the mode of the edge: who means to go on without fresh answers, as
// best_effort is for, asks Allowed and decides over its Freshness. The operator's own list needs none. agentOf names the agent of a request; whoever proved it, this does not: it is for services that
// know their callers already. Others use Middleware.
func (e *EdgeClient) Guard(next http.Handler, agentOf func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent := agentOf(r)
		if agent == "" {
			writeProblem(w, verdictProblem(*denial(VerdictUnknownAgent, "the request names no agent")))
			return
		}
		answer, err := e.Allowed(r.Context(), agent)
		switch {
		case err != nil:
			writeProblem(w, (&Error{Code: CodeUnavailable, RetryAfter: defaultRetryAfter, Detail: "whether this agent may act could not be found out: try again"}).Problem())
		case answer.Code == AllowedListed, answer.Allowed && answer.Freshness.reason() == "":
			next.ServeHTTP(w, r)
		case answer.Code == AllowedBlacklisted:
			writeProblem(w, verdictProblem(*denial(VerdictBlacklisted, "agent %q is banned", agent)))
		default:
			why := answer.Code
			if answer.Allowed {
				why = answer.Freshness.reason()
			}
			writeProblem(w, (&Error{Code: CodeUnavailable, Reason: why, RetryAfter: defaultRetryAfter, Detail: "whether this agent may act is not known for certain now: try again"}).Problem())
		}
	})
}
