package client

import (
	"context"
	"io"
	"net/http"
	"strconv"
)

// InclusionProof is the answer of GET /v1/blacklist/proof/inclusion, and of the ledger's (RFC 6962 section 2.1.1).
type InclusionProof struct {
	Origin string   `json:"origin"`
	Seq    uint64   `json:"seq"`    // of the event, from 1; its index in the tree is one less
	Size   uint64   `json:"size"`   // of the tree
	Root   string   `json:"root"`   // of that tree, hex
	Leaf   string   `json:"leaf"`   // hash of the event's bytes as a leaf, hex
	Hashes []string `json:"hashes"` // base64, from the leaf's sibling up
}

// ConsistencyProof is the answer of GET /v1/blacklist/proof/consistency, and of the ledger's (RFC 6962 section 2.1.2).
type ConsistencyProof struct {
	Origin   string   `json:"origin"`
	From     uint64   `json:"from"`
	To       uint64   `json:"to"`
	FromRoot string   `json:"from_root"` // hex
	ToRoot   string   `json:"to_root"`   // hex
	Hashes   []string `json:"hashes"`    // base64
}

// CosignerSet is one version of who cosigns checkpoints. Note is what verifiers read: a signed note whose text names the
// cosigners and whose signatures are by a majority of the version before.
type CosignerSet struct {
	Version   uint64   `json:"version"`
	Epoch     uint64   `json:"epoch"`
	Hash      string   `json:"hash"`               // of the note's text, hex; what operators tell each other
	Previous  string   `json:"previous,omitempty"` // hash of the version before; empty: none vouches for it
	Cosigners []string `json:"cosigners"`          // peer ids
	AtMs      int64    `json:"at_ms"`
	Note      string   `json:"note"`
}

// CosignerSets is the answer of GET /v1/blacklist/cosigners.
type CosignerSets struct {
	Sets []CosignerSet `json:"sets"`
	Next uint64        `json:"next,omitempty"` // version to continue from; 0 at the end
}

// LogStatus is what a node knows of one log: its own copy, and the newest checkpoint that a majority cosigned.
type LogStatus struct {
	Log        string `json:"log"`
	Origin     string `json:"origin"`
	Records    uint64 `json:"records"`              // of this node's tree
	Size       uint64 `json:"size"`                 // of the checkpoint
	Root       string `json:"root,omitempty"`       // of the checkpoint, hex; empty without one
	AtMs       int64  `json:"at_ms,omitempty"`      // when the slowest of its majority signed
	Cosigned   int    `json:"cosigned"`             // by so many
	Set        uint64 `json:"cosigner_set"`         // version in force; 0: none yet
	LeaseMs    int64  `json:"lease_ms"`             // how long a verifier may go by a checkpoint
	Withheld   string `json:"withheld,omitempty"`   // why this node cosigns nothing
	ForkedSize uint64 `json:"forked_at,omitempty"`  // this node has another head than was signed, of that size
	ForkedWhy  string `json:"forked_why,omitempty"` // and what was found
}

// Checkpoint returns the newest checkpoint of the blacklist that a majority of coordinators cosigned, as a signed note
// (c2sp.org/tlog-checkpoint). Verify it with checkpoint.Set.Open, and that its origin is of that log.
func (c *Client) Checkpoint(ctx context.Context, opts ...Option) (note []byte, err error) {
	return c.checkpoint(ctx, "/v1/blacklist/checkpoint", opts)
}

// LedgerCheckpoint is Checkpoint of the ledger.
func (c *Client) LedgerCheckpoint(ctx context.Context, opts ...Option) (note []byte, err error) {
	return c.checkpoint(ctx, "/v1/ledger/checkpoint", opts)
}

func (c *Client) checkpoint(ctx context.Context, path string, opts []Option) (note []byte, err error) {
	q := newCall(http.MethodGet, path, opts)
	q.read = func(r io.Reader) (err error) {
		note, err = io.ReadAll(io.LimitReader(r, maxNoteBytes))
		return err
	}
	return note, c.do(ctx, q)
}

// maxNoteBytes is that of a note and one more, so that what is longer is refused by whoever reads it.
const maxNoteBytes = 64<<10 + 1

// ProveInclusion returns a proof that the event of a seq is in the tree of a size; 0: that of the newest checkpoint.
func (c *Client) ProveInclusion(ctx context.Context, seq, size uint64, opts ...Option) (out InclusionProof, err error) {
	opts = append(opts, number("seq", seq), number("size", size))
	err = c.get(ctx, "/v1/blacklist/proof/inclusion", &out, opts)
	return out, err
}

// ProveConsistency returns a proof that the tree of a size begins with that of a smaller one; to 0: that of the newest
// checkpoint.
func (c *Client) ProveConsistency(ctx context.Context, from, to uint64, opts ...Option) (out ConsistencyProof, err error) {
	opts = append(opts, func(q *call) { q.query.Set("from", strconv.FormatUint(from, 10)) }, number("to", to))
	err = c.get(ctx, "/v1/blacklist/proof/consistency", &out, opts)
	return out, err
}

// ProveLedgerInclusion is ProveInclusion of a record of the ledger.
func (c *Client) ProveLedgerInclusion(ctx context.Context, seq, size uint64, opts ...Option) (out InclusionProof, err error) {
	opts = append(opts, number("seq", seq), number("size", size))
	err = c.get(ctx, "/v1/ledger/proof/inclusion", &out, opts)
	return out, err
}

// ProveLedgerConsistency is ProveConsistency of the ledger.
func (c *Client) ProveLedgerConsistency(ctx context.Context, from, to uint64, opts ...Option) (out ConsistencyProof, err error) {
	opts = append(opts, func(q *call) { q.query.Set("from", strconv.FormatUint(from, 10)) }, number("to", to))
	err = c.get(ctx, "/v1/ledger/proof/consistency", &out, opts)
	return out, err
}

// CosignerSets returns a page of who cosigned checkpoints, from a version on.
func (c *Client) CosignerSets(ctx context.Context, from uint64, limit int, opts ...Option) (out CosignerSets, err error) {
	opts = append(opts, Page("", limit), number("from", from))
	err = c.get(ctx, "/v1/blacklist/cosigners", &out, opts)
	return out, err
}

// number sets a query parameter unless it is 0.
func number(name string, n uint64) Option {
	return func(q *call) {
		if n != 0 {
			q.query.Set(name, strconv.FormatUint(n, 10))
		}
	}
}
