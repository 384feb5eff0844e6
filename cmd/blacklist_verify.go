package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// maxPipedAudit bounds an audit that is piped in, which is kept in memory
// because it is read twice. Files have no bound.
const maxPipedAudit = 1 << 30

func (p *program) blacklistVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check a saved chain, a proof bundle, or live nodes against each other",
		UsageText: "edgecoder blacklist verify [FILE] [--keys FILE | --addr URL,…] [--head HASH] [--trust FILE [--checkpoint FILE]]",
		Description: "Works offline. A file vouches for its own keys, so by itself it proves only that it is consistent: pin the keys with\n" +
			"--keys FILE (an audit you trust, or {\"peers\": [...]} of /mesh/peers), or give --addr to ask a cluster for them.\n" +
			"Nor can a file tell that its end was cut off: give --head HASH with a chain head that you saved, or --addr, which asks the\n" +
			"cluster whether its chain has this head there, and how many events came after it.\n" +
			"With --trust (who cosigns, see `blacklist cosigners`) the chain must be the one that a majority of coordinators vouches for in a\n" +
			"checkpoint: that of --checkpoint, or the cluster's newest. Events behind it must be signed by --keys, or be covered by --head.\n" +
			"A proof bundle (`blacklist proof`) is checked with --trust alone. Without FILE the nodes of --addr are asked one by one, and\n" +
			"their checkpoints held against each other.\n" +
			"Exit status 1 when it is not verified; the first bad event is named.\n\n" +
			"Examples:\n  edgecoder blacklist verify chain.json\n  edgecoder blacklist verify chain.json --keys trusted.json --head 5f2c…\n" +
			"  edgecoder blacklist verify agent-1.tlog-proof --trust cosigners.txt\n  edgecoder blacklist verify --addr https://a:4301,https://b:4301 --trust cosigners.txt",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "keys", Usage: "`FILE` with the keys to trust"},
			trustFlag(),
			&cli.StringFlag{Name: "checkpoint", Usage: "`FILE` with a checkpoint that the chain must have"},
			&cli.StringFlag{Name: "head", Usage: "a chain head you trust, `HASH`: the chain must contain it"},
		},
		Action: p.blacklistVerify,
	}
}

// verifyView is the JSON of `blacklist verify`.
type verifyView struct {
	Verified bool       `json:"verified"`
	Events   int        `json:"events"`
	Head     string     `json:"head"`
	Complete string     `json:"complete"`        // how much is known of events that may be missing at the end
	Newer    *uint64    `json:"newer,omitempty"` // with --addr: events of the cluster after the head
	KeysFrom string     `json:"keys_from"`       // "file" proves consistency only
	Unproven int        `json:"unproven"`        // events whose reporter's signature was taken out
	Fault    *faultView `json:"fault,omitempty"`

	Checkpoint *checkpointView `json:"checkpoint,omitempty"` // that a majority vouches for, and the chain has
}

// faultView names the first bad event. Seq starts at 1, as in the API.
type faultView struct {
	Seq     int    `json:"seq"`
	EventID string `json:"event_id,omitempty"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

func (p *program) blacklistVerify(c *cli.Context) error {
	if !c.Args().Present() && p.given["addr"] {
		return p.verifyLive(c)
	}
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	head, err := headOf(c)
	if err != nil {
		return err
	}
	in, err := p.openTwice(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	if bundle, err := isBundle(in); err != nil {
		return refusedf("%s: %w", args[0], err)
	} else if bundle {
		return p.verifyBundle(c, args[0], in)
	}
	var claim auditClaim
	if err := claim.read(in, nil); err != nil {
		return refusedf("%s: %w", args[0], err)
	}
	view := verifyView{}
	api, err := p.liveCluster(c)
	if err != nil {
		return err
	}
	keys, err := p.trustedKeys(c, api, claim.peers, &view)
	if err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	known := newEnd(head)
	if known.tree, err = p.signedHead(c, api, &view); err != nil {
		return err
	}
	fault := verifyChain(in, claim, keys, known, &view)
	if fault == nil {
		fault = view.checkTree(known, c.String("keys") != "" || c.String("trust") == "") // without --trust the cluster is believed about both
	}
	if fault == nil {
		if fault, err = p.checkEnd(c, api, known, &view); err != nil {
			return err
		}
	}
	return p.printVerified(c, args[0], view, fault)
}

// liveCluster is the cluster to compare with, nil unless --addr was given: not
// from the environment, for offline must stay offline.
func (p *program) liveCluster(c *cli.Context) (*client.Client, error) {
	if !p.given["addr"] {
		return nil, nil
	}
	return p.connect(c, withToken)
}

// verifyChain walks the events a second time and fills view.
func verifyChain(in io.Reader, claim auditClaim, keys map[string]crypto.PublicKey, known *chainEnd, view *verifyView) error {
	chain := crypto.NewChainVerifier(keys)
	var again auditClaim
	err := again.read(in, func(text json.RawMessage) error {
		event, err := crypto.ParseBlacklistEvent(text)
		if err != nil {
			return &crypto.ChainError{Seq: chain.Size(), EventID: eventIDOf(text), Code: faultMalformed, Detail: err.Error()}
		}
		if err := chain.Add(event); err != nil {
			return err
		}
		known.pass(chain, &event)
		return nil
	})
	if err == nil {
		err = chain.Finish(claim.head)
	}
	view.Events, view.Head, view.Unproven, view.Verified = chain.Size(), chain.Head(), chain.Unproven(), err == nil
	var bad *crypto.ChainError
	if errors.As(err, &bad) {
		view.Fault = &faultView{Seq: bad.Seq + 1, EventID: bad.EventID, Code: bad.Code, Detail: bad.Detail}
		if bad.Code == crypto.ChainHeadMismatch {
			view.Fault.Seq = bad.Seq // it is about the last event
		}
	}
	if err == nil && claim.version != nil && *claim.version != uint64(chain.Size()) {
		return view.fail(faultVersion, "the file says that the chain has %d events, it holds %d", *claim.version, chain.Size())
	}
	return err
}

// eventIDOf finds the id of an event that is otherwise no good.
func eventIDOf(text json.RawMessage) string {
	var e struct {
		EventID string `json:"eventId"`
	}
	_ = json.Unmarshal(text, &e) // no id is an answer too
	return e.EventID
}

func (p *program) printVerified(c *cli.Context, file string, view verifyView, fault error) error {
	err := p.emit(c, view, func(t *table) {
		if view.Verified {
			t.row("chain", "verified")
		} else {
			t.row("chain", "NOT verified")
		}
		t.row("good events", number(view.Events))
		t.row("head", view.Head)
		if view.Complete != "" {
			t.row("end", view.Complete)
		}
		t.row("keys from", view.KeysFrom)
		if view.Verified && view.Checkpoint != nil {
			view.Checkpoint.draw(t)
		}
		if f := view.Fault; f != nil {
			t.row("first bad event", fmt.Sprintf("seq %d  %s", f.Seq, orDash(f.EventID)))
			t.row("fault", f.Code)
			t.row("detail", f.Detail)
		}
	})
	if err != nil {
		return err
	}
	if view.Unproven > 0 {
		p.say("note: %d events claim a reporter's signature but do not carry it: that rests on the coordinator alone", view.Unproven)
	}
	if fault != nil {
		return refusedf("%s is not verified: %w", file, fault)
	}
	return nil
}

// readSeekCloser is a file, or standard input kept in memory.
type readSeekCloser interface {
	io.ReadSeeker
	io.Closer
}

type keptInput struct{ *bytes.Reader }

func (keptInput) Close() error { return nil }

func (p *program) openTwice(path string) (readSeekCloser, error) {
	if path == "-" {
		data, err := readBounded(p.in, maxPipedAudit)
		if err != nil {
			return nil, usagef("read standard input: %w", err)
		}
		return keptInput{bytes.NewReader(data)}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return f, nil
}

// trustedKeys returns the keys to verify with and says where they came from.
func (p *program) trustedKeys(c *cli.Context, api *client.Client, own []auditKey, view *verifyView) (map[string]crypto.PublicKey, error) {
	switch path := c.String("keys"); {
	case path != "":
		f, err := p.openTwice(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		var pinned auditClaim
		if err := pinned.read(f, nil); err != nil {
			return nil, usagef("--keys %s: %w", path, err)
		}
		view.KeysFrom = path
		p.say("keys are pinned: %d from %s", len(pinned.peers), path)
		return keyMap(pinned.peers)
	case api != nil:
		keys, err := fetchKeys(c.Context, api)
		if err != nil {
			return nil, err
		}
		view.KeysFrom = c.String("addr")
		p.say("keys are pinned: %d from the cluster at %s", len(keys), view.KeysFrom)
		return keyMap(keys)
	}
	view.KeysFrom = "file"
	p.say("keys are those in the file itself: this proves that it is consistent, not who made it; pin them with --keys FILE or --addr URL")
	return keyMap(own)
}

func keyMap(list []auditKey) (map[string]crypto.PublicKey, error) {
	keys := make(map[string]crypto.PublicKey, len(list))
	for _, k := range list {
		pub, err := crypto.ParsePublicKeyPEM(k.PublicKeyPEM)
		if err != nil {
			return nil, refusedf("key of %q: %w", k.PeerID, err)
		}
		if had, twice := keys[k.PeerID]; twice && had != pub {
			return nil, refusedf("two different keys of %q", k.PeerID)
		}
		keys[k.PeerID] = pub
	}
	if len(keys) == 0 {
		return nil, usagef("there are no keys to verify with: give --keys FILE or --addr URL")
	}
	return keys, nil
}
