package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Ban puts an agent on the blacklist.
func (c *Client) Ban(ctx context.Context, req BanRequest, opts ...Option) (out BlacklistChange, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/blacklist", req, &out, opts)
	return out, err
}

// Lift supersedes the ban in force on an agent.
func (c *Client) Lift(ctx context.Context, agentID, reason string, opts ...Option) (out BlacklistChange, err error) {
	err = c.change(ctx, http.MethodDelete, banPath(agentID), LiftRequest{Reason: reason}, &out, opts)
	return out, err
}

// Bans returns a page of the bans in force, see Page.
func (c *Client) Bans(ctx context.Context, opts ...Option) (out Bans, err error) {
	err = c.get(ctx, "/v1/blacklist", &out, opts)
	return out, err
}

// BanOn returns the ban in force on an agent; the error has CodeNotFound when
// there is none.
func (c *Client) BanOn(ctx context.Context, agentID string, opts ...Option) (out Ban, err error) {
	err = c.get(ctx, banPath(agentID), &out, opts)
	return out, err
}

// ChainEvents returns a page of the chain from seq on; seq starts at 1.
func (c *Client) ChainEvents(ctx context.Context, from uint64, limit int, opts ...Option) (out ChainPage, err error) {
	opts = append(opts, Page("", limit), func(q *call) { q.query.Set("from", strconv.FormatUint(from, 10)) })
	err = c.get(ctx, "/v1/blacklist/events", &out, opts)
	return out, err
}

// Identity returns the signing identity of the node that answers.
func (c *Client) Identity(ctx context.Context, opts ...Option) (out Identity, err error) {
	err = c.get(ctx, "/identity", &out, opts)
	return out, err
}

// MeshPeers returns every key that signs or ever signed the chain.
func (c *Client) MeshPeers(ctx context.Context, opts ...Option) (out MeshPeers, err error) {
	err = c.getMesh(ctx, "/mesh/peers", into(&out), opts)
	return out, err
}

// MeshBlacklist returns the bans in force in the form of WIRE.md 9.4.
func (c *Client) MeshBlacklist(ctx context.Context, opts ...Option) (out MeshBlacklist, err error) {
	err = c.getMesh(ctx, "/security/blacklist", into(&out), opts)
	return out, err
}

// MeshBan bans in the form of WIRE.md 9.4. That protocol has no idempotency
// key: after an unknown outcome, read before asking again.
func (c *Client) MeshBan(ctx context.Context, req MeshBanRequest, opts ...Option) (out MeshBanned, err error) {
	q := newCall(http.MethodPost, "/security/blacklist", opts)
	q.mesh, q.once = true, true
	err = c.send(ctx, q, req, &out)
	return out, err
}

// Audit walks the whole chain as an existing verifier reads it and calls visit
// for each event, so memory stays bounded however long the chain is. Only ctx
// bounds the time. The answer has no Events.
func (c *Client) Audit(ctx context.Context, visit func(event json.RawMessage) error, opts ...Option) (out Audit, err error) {
	opts = append(opts, func(q *call) { q.untimed = true })
	var stopped error
	read := func(r io.Reader) error {
		// A second try would visit events twice, so what fails after the first
		// event ends the call.
		stopped = readAudit(r, &out, visit)
		return nil
	}
	if err := c.getMesh(ctx, "/security/blacklist/audit", read, opts); err != nil {
		return out, err
	}
	return out, stopped
}

func (c *Client) getMesh(ctx context.Context, path string, read func(io.Reader) error, opts []Option) error {
	q := newCall(http.MethodGet, path, opts)
	q.mesh, q.read = true, read
	return c.do(ctx, q)
}

// readAudit decodes {version, chainHead, events: […]} event by event.
func readAudit(r io.Reader, out *Audit, visit func(json.RawMessage) error) error {
	dec := json.NewDecoder(r)
	if err := expectDelim(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		switch name {
		case "version":
			err = dec.Decode(&out.Version)
		case "chainHead":
			err = dec.Decode(&out.ChainHead)
		case "events":
			err = readEvents(dec, visit)
		default:
			err = errors.New("unknown member " + fmt.Sprint(name))
		}
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return expectDelim(dec, '}')
}

func readEvents(dec *json.Decoder, visit func(json.RawMessage) error) error {
	if err := expectDelim(dec, '['); err != nil {
		return err
	}
	for dec.More() {
		var event json.RawMessage
		if err := dec.Decode(&event); err != nil {
			return err
		}
		if err := visit(event); err != nil {
			return err
		}
	}
	return expectDelim(dec, ']')
}

func expectDelim(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return fmt.Errorf("audit: the answer broke off: %w", err)
	}
	if got != want {
		return fmt.Errorf("audit: %v where %v belongs", got, want)
	}
	return nil
}
