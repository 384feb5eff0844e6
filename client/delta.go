package client

import (
	"context"
)

// BlacklistDelta is what changed behind a cursor: the answer of GET /v1/blacklist/delta, and in the events of bans and lifts. Apply one by forgetting all
// if Reset, then Deleted, then New. A ban replaces the one before it on the same agent; it ends by itself at its expiry.
type BlacklistDelta struct {
	New     []Ban    `json:"new"`
	Deleted []string `json:"deleted"`         // agents whose ban was lifted
	Cursor  string   `json:"cursor"`          // opaque: behind what is told here
	More    bool     `json:"more,omitempty"`  // ask again at once
	Reset   bool     `json:"reset,omitempty"` // the cursor is of no past of this cluster, or none was given: this begins from an empty list
}

// BlacklistDelta returns what changed behind a cursor; an empty one begins with an empty list.
func (c *Client) BlacklistDelta(ctx context.Context, cursor string, opts ...Option) (out BlacklistDelta, err error) {
	if cursor != "" {
		opts = append(opts, func(q *call) { q.query.Set("cursor", cursor) })
	}
	err = c.get(ctx, "/v1/blacklist/delta", &out, opts)
	return out, err
}

// SyncBlacklist applies all that changed behind a cursor, page by page, and returns the cursor to go on from. It stops at the first error of apply, with the
// cursor of the page before.
func (c *Client) SyncBlacklist(ctx context.Context, cursor string, apply func(BlacklistDelta) error, opts ...Option) (next string, err error) {
	for {
		page, err := c.BlacklistDelta(ctx, cursor, opts...)
		if err != nil {
			return cursor, err
		}
		if err := apply(page); err != nil {
			return cursor, err
		}
		cursor = page.Cursor
		if !page.More {
			return cursor, nil
		}
	}
}
