package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// get reads path into out.
func (c *Client) get(ctx context.Context, path string, out any, opts []Option) error {
	q := newCall(http.MethodGet, path, opts)
	q.read = into(out)
	return c.do(ctx, q)
}

// change sends a mutation under one idempotency key for all its tries.
func (c *Client) change(ctx context.Context, method, path string, body, out any, opts []Option) error {
	q := newCall(method, path, opts)
	if q.key == "" {
		q.key = NewClaimID()
	}
	return c.send(ctx, q, body, out)
}

func (c *Client) send(ctx context.Context, q *call, body, out any) error {
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the body of %s %s: %w", q.method, q.path, err)
		}
		q.body = text
	}
	if out != nil {
		q.read = into(out)
	}
	return c.do(ctx, q)
}

func agentPath(id string, more string) string { return "/v1/agents/" + url.PathEscape(id) + more }
func banPath(agentID string) string           { return "/v1/blacklist/agents/" + url.PathEscape(agentID) }

// Health asks whether a node is alive.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, newCall(http.MethodGet, "/healthz", nil))
}

// Ready asks whether a node can serve: leader known, caught up.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, newCall(http.MethodGet, "/readyz", nil))
}

// Status returns what the node that answers knows of itself and the cluster.
func (c *Client) Status(ctx context.Context, opts ...Option) (out Status, err error) {
	err = c.get(ctx, "/v1/status", &out, opts)
	return out, err
}

// Members returns the gossip view.
func (c *Client) Members(ctx context.Context, opts ...Option) (out Members, err error) {
	err = c.get(ctx, "/v1/members", &out, opts)
	return out, err
}

// Peers returns the coordinators of the replicated state.
func (c *Client) Peers(ctx context.Context, opts ...Option) (out Peers, err error) {
	err = c.get(ctx, "/v1/peers", &out, opts)
	return out, err
}

// RemovePeer removes a coordinator or an edge, by name or id, for ever.
func (c *Client) RemovePeer(ctx context.Context, nameOrID string, compromised bool, opts ...Option) (out PeerRemoved, err error) {
	opts = append(opts, func(q *call) { q.query.Set("compromised", strconv.FormatBool(compromised)) })
	err = c.change(ctx, http.MethodDelete, "/v1/peers/"+url.PathEscape(nameOrID), nil, &out, opts)
	return out, err
}

// TransferLeader hands leadership to the named node, or to any when empty.
func (c *Client) TransferLeader(ctx context.Context, nameOrID string, opts ...Option) (out LeaderTransferred, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/leader/transfer", LeaderTransfer{Node: nameOrID}, &out, opts)
	return out, err
}

// Policy returns the policy.
func (c *Client) Policy(ctx context.Context, opts ...Option) (out Policy, err error) {
	err = c.get(ctx, "/v1/policy", &out, opts)
	return out, err
}

// SetPolicy changes the policy if it is still at ifVersion.
func (c *Client) SetPolicy(ctx context.Context, ifVersion uint64, update PolicyUpdate, opts ...Option) (out Policy, err error) {
	opts = append(opts, func(q *call) { q.header.Set("If-Match", strconv.Quote(strconv.FormatUint(ifVersion, 10))) })
	err = c.change(ctx, http.MethodPut, "/v1/policy", update, &out, opts)
	return out, err
}

// CreateToken makes a token. Its text is in the answer once, and not in a
// repeated one.
func (c *Client) CreateToken(ctx context.Context, req TokenRequest, opts ...Option) (out Token, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/tokens", req, &out, opts)
	return out, err
}

// Tokens lists tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context, opts ...Option) (out Tokens, err error) {
	err = c.get(ctx, "/v1/tokens", &out, opts)
	return out, err
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string, opts ...Option) (out TokenRevoked, err error) {
	err = c.change(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, &out, opts)
	return out, err
}

// Enroll binds an agent id to a key. The enrolment token in the request is the
// credential; repeating the very same request is safe.
func (c *Client) Enroll(ctx context.Context, req EnrollRequest, opts ...Option) (out Agent, err error) {
	err = c.send(ctx, newCall(http.MethodPost, "/v1/agents", opts), req, &out)
	return out, err
}

// Agents returns a page of agents, see Page.
func (c *Client) Agents(ctx context.Context, opts ...Option) (out Agents, err error) {
	err = c.get(ctx, "/v1/agents", &out, opts)
	return out, err
}

// Agent returns one agent.
func (c *Client) Agent(ctx context.Context, id string, opts ...Option) (out Agent, err error) {
	err = c.get(ctx, agentPath(id, ""), &out, opts)
	return out, err
}

// ApproveAgent makes a pending or suspended agent active.
func (c *Client) ApproveAgent(ctx context.Context, id string, opts ...Option) (out Agent, err error) {
	err = c.change(ctx, http.MethodPost, agentPath(id, "/approve"), nil, &out, opts)
	return out, err
}

// SuspendAgent stops an agent until it is approved again.
func (c *Client) SuspendAgent(ctx context.Context, id string, opts ...Option) (out Agent, err error) {
	err = c.change(ctx, http.MethodPost, agentPath(id, "/suspend"), nil, &out, opts)
	return out, err
}

// RevokeAgent stops an agent for ever.
func (c *Client) RevokeAgent(ctx context.Context, id string, opts ...Option) (out Agent, err error) {
	err = c.change(ctx, http.MethodPost, agentPath(id, "/revoke"), nil, &out, opts)
	return out, err
}
