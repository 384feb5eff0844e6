package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// What `blacklist verify` checks beside a saved chain: a proof bundle, and live nodes against each other.

// bundleTitle begins a proof bundle.
const bundleTitle = "c2sp.org/tlog-proof@"

// provenView is the JSON of `blacklist verify` of a bundle.
type provenView struct {
	Verified    bool            `json:"verified"`
	Seq         uint64          `json:"seq,omitempty"`
	EventID     string          `json:"event_id,omitempty"`
	AgentID     string          `json:"agent_id,omitempty"`
	ReasonCode  string          `json:"reason_code,omitempty"`
	Lift        bool            `json:"lift,omitempty"`          // it ends a ban
	ExpiresAtMs *int64          `json:"expires_at_ms,omitempty"` // absent: permanent
	Checkpoint  *checkpointView `json:"checkpoint,omitempty"`
	Fault       string          `json:"fault,omitempty"`
}

// verifyBundle checks a proof with nothing but whom --trust names; with --addr the cluster tells how that went on.
func (p *program) verifyBundle(c *cli.Context, name string, in io.Reader) error {
	text, err := readBounded(in, checkpoint.MaxBundleBytes)
	if err != nil {
		return refusedf("%s: %w", name, err)
	}
	api, err := p.liveCluster(c)
	if err != nil {
		return err
	}
	if api == nil && c.String("trust") == "" {
		return usagef("a bundle brings no keys to believe: give --trust FILE with who cosigns (`edgecoder blacklist cosigners --out FILE`), or --addr URL to take the cluster's word for it")
	}
	t, err := p.trusted(c, api)
	if err != nil {
		return err
	}
	view, fault := openBundle(text, t)
	if err := p.emit(c, view, view.draw); err != nil {
		return err
	}
	if fault != nil {
		return refusedf("%s is not verified: %w", name, fault)
	}
	return nil
}

func openBundle(text []byte, t *trust) (provenView, error) {
	view, err := func() (view provenView, err error) {
		b, err := checkpoint.ParseBundle(text)
		if err != nil {
			return view, err
		}
		o, version, err := t.open(b.Note)
		if err != nil {
			return view, err
		}
		if o.Origin.Log != checkpoint.LogBlacklist {
			return view, errors.New("its checkpoint is of the log " + o.Origin.Log + ", not of the blacklist")
		}
		if err := checkpoint.VerifyInclusion(o.Checkpoint, b.Index, checkpoint.LeafHash(b.Record), b.Hashes); err != nil {
			return view, err
		}
		e, err := crypto.ParseBlacklistEvent(b.Record)
		if err != nil {
			return view, err
		}
		vouched := viewOf(o, version, t.from, b.Note)
		return provenView{Verified: true, Seq: b.Index + 1, EventID: e.EventID, AgentID: e.AgentID, ReasonCode: e.ReasonCode,
			Lift: e.EndsBeforeItBegins(), ExpiresAtMs: e.ExpiresAtMs, Checkpoint: &vouched}, nil
	}()
	if err != nil {
		view.Fault = err.Error()
	}
	return view, err
}

func (v provenView) draw(t *table) {
	if !v.Verified {
		t.row("proof", "NOT verified")
		t.row("fault", v.Fault)
		return
	}
	t.row("proof", "verified")
	t.row("agent", v.AgentID)
	t.row("says", eventKind(v.Lift))
	t.row("until", proofEnd(t, v.Lift, v.ExpiresAtMs))
	t.row("reason code", v.ReasonCode)
	t.row("event", v.EventID)
	t.row("seq", number(v.Seq))
	v.Checkpoint.draw(t)
}

// isBundle looks at the beginning of a file.
func isBundle(in io.ReadSeeker) (bool, error) {
	head := make([]byte, len(bundleTitle))
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, err
	}
	_, err = in.Seek(0, io.SeekStart)
	return bytes.Equal(head[:n], []byte(bundleTitle)), err
}

// nodesView is the JSON of `blacklist verify` without a file.
type nodesView struct {
	Verified bool       `json:"verified"`
	Nodes    []heldNode `json:"nodes"`
	Fault    string     `json:"fault,omitempty"`
}

type heldNode struct {
	Addr       string          `json:"addr"`
	Checkpoint *checkpointView `json:"checkpoint,omitempty"`
	Consistent bool            `json:"consistent"` // with the one before it in size
	Fault      string          `json:"fault,omitempty"`
	opened     checkpoint.Opened
	api        *client.Client
}

// verifyLive asks each address of --addr by itself for its checkpoint, and holds them all against each other.
func (p *program) verifyLive(c *cli.Context) error {
	addrs, err := addresses(c.String("addr"))
	if err != nil {
		return err
	}
	token, err := p.apiToken(c)
	if err != nil {
		return err
	}
	view := nodesView{Verified: true}
	var t *trust
	for _, addr := range addrs {
		api, err := p.dialWith(c, client.Config{Addrs: []string{addr}, Token: token})
		if err != nil {
			return err
		}
		if t == nil {
			if t, err = p.trusted(c, api); err != nil {
				return err
			}
		} else if err := t.follow(c.Context, api); err != nil {
			return err
		}
		n, err := heldNodeOf(c, addr, api, t)
		if err != nil {
			return err
		}
		view.Nodes = append(view.Nodes, n)
	}
	slices.SortStableFunc(view.Nodes, func(a, b heldNode) int { return int(min(1, max(-1, int64(a.opened.Size)-int64(b.opened.Size)))) })
	if err := compareNodes(c, view.Nodes); err != nil {
		return err
	}
	var faults []string
	for _, n := range view.Nodes {
		if n.Fault != "" {
			faults = append(faults, n.Addr+": "+n.Fault)
		}
	}
	view.Verified, view.Fault = len(faults) == 0, strings.Join(faults, "; ")
	if err := p.emit(c, view, view.draw); err != nil {
		return err
	}
	if !view.Verified {
		return refusedf("the cluster is not verified: %s", view.Fault)
	}
	if len(view.Nodes) == 1 {
		p.say("note: one node was asked; name several with --addr URL,URL to hold them against each other")
	}
	return nil
}

func heldNodeOf(c *cli.Context, addr string, api *client.Client, t *trust) (heldNode, error) {
	n := heldNode{Addr: addr, api: api}
	note, err := api.Checkpoint(c.Context)
	if err != nil {
		return n, err
	}
	o, version, err := t.openLog(note, checkpoint.LogBlacklist)
	if err != nil {
		n.Fault = err.Error()
		return n, nil
	}
	view := viewOf(o, version, t.from, note)
	n.opened, n.Checkpoint = o, &view
	return n, nil
}

// compareNodes proves that each checkpoint begins with the one that is next smaller; whoever has the larger proves it.
func compareNodes(c *cli.Context, nodes []heldNode) error {
	var before *heldNode
	for i := range nodes {
		n := &nodes[i]
		if n.Checkpoint == nil {
			continue
		}
		if before == nil {
			n.Consistent = true
		} else if fault, err := consistent(c, before, n); err != nil {
			return err
		} else if fault != nil {
			n.Fault = "it contradicts " + before.Addr + ": " + fault.Error()
		} else {
			n.Consistent = true
		}
		before = n
	}
	return nil
}

// consistent returns why two checkpoints contradict each other; err means that nobody proved it either way.
func consistent(c *cli.Context, older, newer *heldNode) (fault, err error) {
	if older.opened.Origin != newer.opened.Origin {
		return errors.New("it is of " + newer.opened.Origin.String() + ", that of " + older.opened.Origin.String()), nil
	}
	if older.opened.Size == newer.opened.Size {
		if older.opened.Root != newer.opened.Root {
			return errors.New("two roots of one size: somebody is shown another list"), nil
		}
		return nil, nil
	}
	proof, err := newer.api.ProveConsistency(c.Context, older.opened.Size, newer.opened.Size)
	if err != nil {
		return nil, err
	}
	hashes, err := parseHashes(proof.Hashes)
	if err != nil {
		return err, nil
	}
	return checkpoint.VerifyConsistency(older.opened.Checkpoint, newer.opened.Checkpoint, hashes), nil
}

func (v nodesView) draw(t *table) {
	if v.Verified {
		t.row("cluster", "verified")
	} else {
		t.row("cluster", "NOT verified")
	}
	for _, n := range v.Nodes {
		switch {
		case n.Checkpoint == nil:
			t.row(n.Addr, "NOT verified", n.Fault)
		case n.Fault != "":
			t.row(n.Addr, "NOT verified", number(n.Checkpoint.Size)+" events", n.Checkpoint.Root, n.Fault)
		default:
			t.row(n.Addr, "verified", number(n.Checkpoint.Size)+" events", n.Checkpoint.Root, t.when(n.Checkpoint.AtMs))
		}
	}
}

// signedTree follows a saved chain's tree, and remembers the root where a checkpoint is.
type signedTree struct {
	want checkpoint.Opened
	edge checkpoint.Frontier
	met  bool
	root crypto.Hash
}

func (s *signedTree) add(record []byte) {
	s.look()
	s.edge.Append(checkpoint.LeafHash(record))
}

// missing says why the records that were added are not those of the checkpoint, or "". covered is up to which record
// something else than the checkpoint vouches for them: behind both a file may say what it likes.
func (s *signedTree) missing(what string, covered uint64) string {
	s.look()
	switch {
	case !s.met:
		return fmt.Sprintf("the checkpoint is of %d %s, the file has %d: its end is missing", s.want.Size, what, s.edge.Size())
	case s.root != s.want.Root:
		return fmt.Sprintf("a majority of coordinators vouches for another list of %d %s: root %s, the file's is %s", s.want.Size, what, s.want.Root, s.root)
	case s.edge.Size() > max(s.want.Size, covered):
		return fmt.Sprintf("the checkpoint is of %d %s, the file has %d, and nothing that you trust vouches for those behind it: give a newer checkpoint (--checkpoint FILE), or --head of the last", s.want.Size, what, s.edge.Size())
	}
	return ""
}

func (s *signedTree) look() {
	if !s.met && s.edge.Size() == s.want.Size {
		s.met, s.root = true, s.edge.Root()
	}
}

// checkTree holds a chain to the checkpoint that a majority vouches for. Behind that stand only what a head of --head
// binds, or, as keysTrusted says, signatures by keys that come from elsewhere than from the file.
func (v *verifyView) checkTree(known *chainEnd, keysTrusted bool) error {
	if known.tree == nil {
		return nil
	}
	covered := uint64(known.at)
	if keysTrusted {
		covered = uint64(v.Events)
	}
	if why := known.tree.missing("events", covered); why != "" {
		return v.fail(faultNotSigned, "%s", why)
	}
	return nil
}

// faultNotSigned: the chain is not the one that a majority vouches for.
const faultNotSigned = "not_the_cosigned_log"

// signedHead returns the checkpoint that a saved chain must have: of --checkpoint, or with --trust and --addr the
// cluster's newest. nil: neither is given.
func (p *program) signedHead(c *cli.Context, api *client.Client, view *verifyView) (*signedTree, error) {
	path := c.String("checkpoint")
	if path == "" && (api == nil || c.String("trust") == "") {
		if c.String("trust") != "" {
			return nil, usagef("--trust of a saved chain needs a checkpoint to hold it to: give --checkpoint FILE (`edgecoder blacklist checkpoint --out FILE`), or --addr URL")
		}
		return nil, nil
	}
	if c.String("trust") == "" && api == nil {
		return nil, usagef("--checkpoint needs --trust FILE: whom to believe about it")
	}
	t, err := p.trusted(c, api)
	if err != nil {
		return nil, err
	}
	var note []byte
	if path != "" {
		text, err := readSmall(path, checkpoint.MaxNoteBytes)
		if err != nil {
			return nil, usagef("--checkpoint %s: %w", path, err)
		}
		note = []byte(text)
	} else if note, err = api.Checkpoint(c.Context); err != nil {
		return nil, err
	}
	o, version, err := t.openLog(note, checkpoint.LogBlacklist)
	if err != nil {
		return nil, refusedf("the checkpoint is not verified: %w", err)
	}
	vouched := viewOf(o, version, t.from, note)
	view.Checkpoint = &vouched
	return &signedTree{want: o}, nil
}
