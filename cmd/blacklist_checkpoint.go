package cmd

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

func trustFlag() cli.Flag {
	return &cli.StringFlag{Name: "trust", Usage: "`FILE` with whom to believe about checkpoints: cosigner sets (blacklist cosigners --out) or verifier keys, one a line"}
}

func outFlag() cli.Flag {
	return &cli.StringFlag{Name: "out", Usage: "`FILE` to write instead of standard output"}
}

func (p *program) blacklistCheckpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "the newest checkpoint of the chain that a majority of coordinators cosigned",
		UsageText: "edgecoder blacklist checkpoint [--trust FILE] [--out FILE]",
		Description: "A checkpoint is a signed note (c2sp.org/tlog-checkpoint): how many events there are, and the root of the tree over them.\n" +
			"Keep it: no later one may contradict it. --out writes the note itself, once it was verified.\n\n" +
			"Examples:\n  edgecoder blacklist checkpoint\n  edgecoder blacklist checkpoint --trust cosigners.txt --out today.note",
		Flags: []cli.Flag{trustFlag(), outFlag()}, Action: p.blacklistCheckpoint,
	}
}

func (p *program) blacklistCosignersCommand() *cli.Command {
	return &cli.Command{
		Name: "cosigners", Usage: "who cosigns checkpoints, and who did",
		UsageText: "edgecoder blacklist cosigners [--trust FILE] [--out FILE]",
		Description: "Each version is signed by a majority of the one before: who trusts any follows to the newest. Save them once over a\n" +
			"connection that you trust, compare the hash with other operators, and give the file to `--trust` from then on.\n\n" +
			"Examples:\n  edgecoder blacklist cosigners --out cosigners.txt\n  edgecoder blacklist cosigners --trust cosigners.txt",
		Flags: []cli.Flag{trustFlag(), outFlag()}, Action: p.blacklistCosigners,
	}
}

func (p *program) blacklistProofCommand() *cli.Command {
	return &cli.Command{
		Name: "proof", Usage: "write a proof that an event is in the chain, to hand to whom it concerns",
		UsageText: "edgecoder blacklist proof AGENT|--seq N [--trust FILE] [--out FILE]",
		Description: "The bundle (c2sp.org/tlog-proof) holds the event, its place in the tree and a checkpoint that a majority cosigned.\n" +
			"`edgecoder blacklist verify FILE --trust FILE` checks it without any cluster.\n" +
			"AGENT names the ban in force on an agent, --seq any event, a lift for example.\n\n" +
			"Examples:\n  edgecoder blacklist proof agent-1 --out agent-1.tlog-proof\n  edgecoder blacklist proof --seq 7 > event-7.tlog-proof",
		Flags: []cli.Flag{&cli.Uint64Flag{Name: "seq", Usage: "number of the event in the chain, from 1"}, trustFlag(), outFlag()}, Action: p.blacklistProof,
	}
}

// checkpointView is a verified checkpoint in JSON.
type checkpointView struct {
	Origin    string   `json:"origin"`
	Size      uint64   `json:"size"`
	Root      string   `json:"root"`
	AtMs      int64    `json:"at_ms"` // when the slowest of a majority signed
	Cosigned  []string `json:"cosigned"`
	Set       uint64   `json:"cosigner_set"` // version that vouches for it; 0: keys that were named
	TrustFrom string   `json:"trust_from"`   // "cluster" proves consistency only
	Note      string   `json:"note"`
}

func viewOf(o checkpoint.Opened, version uint64, from string, note []byte) checkpointView {
	v := checkpointView{Origin: o.Origin.String(), Size: o.Size, Root: o.Root.String(), AtMs: o.MajorityAtS() * 1000, Set: version, TrustFrom: from, Note: string(note)}
	for _, s := range o.Cosignatures {
		v.Cosigned = append(v.Cosigned, s.Key.CoordinatorID())
	}
	return v
}

func (v checkpointView) draw(t *table) { v.drawOf(t, "events") }

// drawOf draws the checkpoint of a log of events or records.
func (v checkpointView) drawOf(t *table, what string) {
	t.row("origin", v.Origin)
	t.row(what, number(v.Size))
	t.row("root", v.Root)
	t.row("signed", t.when(v.AtMs))
	t.row("cosigned by", strings.Join(v.Cosigned, " "))
	if v.Set > 0 {
		t.row("cosigner set", number(v.Set))
	}
	t.row("trust from", v.TrustFrom)
}

// trusted returns whom to believe: --trust, brought up to date by the cluster, or else the cluster's own word.
func (p *program) trusted(c *cli.Context, api *client.Client) (*trust, error) {
	t := &trust{from: "cluster"}
	if path := c.String("trust"); path != "" {
		var err error
		if t, err = readTrust(path); err != nil {
			return nil, err
		}
	}
	if api == nil {
		return t, nil
	}
	if err := t.follow(c.Context, api); err != nil {
		return nil, err
	}
	if t.from == "cluster" {
		p.say("note: %s", noTrustNote)
	}
	return t, nil
}

func (p *program) blacklistCheckpoint(c *cli.Context) error {
	return p.showCheckpoint(c, checkpoint.LogBlacklist, "events", (*client.Client).Checkpoint)
}

// showCheckpoint verifies and prints the newest checkpoint of a log, and saves it.
func (p *program) showCheckpoint(c *cli.Context, log, what string, get func(*client.Client, context.Context, ...client.Option) ([]byte, error)) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	t, err := p.trusted(c, api)
	if err != nil {
		return err
	}
	note, err := get(api, c.Context)
	if err != nil {
		return err
	}
	o, version, err := t.openLog(note, log)
	if err != nil {
		return refusedf("the cluster's checkpoint is not verified: %w", err)
	}
	if out := c.String("out"); out != "" {
		if err := intoFile(out, true, func(f *os.File) error { _, err := f.Write(note); return err }); err != nil {
			return err
		}
		p.say("wrote the checkpoint of %d %s to %s", o.Size, what, out)
	}
	view := viewOf(o, version, t.from, note)
	return p.emit(c, view, func(t *table) { view.drawOf(t, what) })
}

func (p *program) blacklistCosigners(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	t, err := p.trusted(c, api)
	if err != nil {
		return err
	}
	if t.keys != nil {
		return usagef("--trust holds keys, from which no version follows: give a file of cosigner sets, or none to see what the cluster says")
	}
	all, err := t.told(c.Context, api)
	if err != nil {
		return err
	}
	if out := c.String("out"); out != "" {
		if err := intoFile(out, true, t.save); err != nil {
			return err
		}
		p.say("saved %d cosigner sets to %s; the newest is version %d, %s: compare that with other operators", len(t.sets), out, t.newest(), t.sets[len(t.sets)-1].Hash())
	}
	return p.emit(c, all, func(t *table) {
		t.row("VERSION", "EPOCH", "SINCE", "HASH", "VOUCHED FOR BY", "COSIGNERS")
		for _, s := range all.Sets {
			by := "itself"
			if s.Previous != "" {
				by = "version " + number(s.Version-1)
			}
			t.row(number(s.Version), number(s.Epoch), t.when(s.AtMs), s.Hash, by, strings.Join(s.Cosigners, " "))
		}
	})
}

// proofView is the JSON of `blacklist proof`.
type proofView struct {
	Seq         uint64         `json:"seq"`
	EventID     string         `json:"event_id"`
	AgentID     string         `json:"agent_id"`
	Lift        bool           `json:"lift"`
	ExpiresAtMs *int64         `json:"expires_at_ms,omitempty"` // absent: permanent
	Checkpoint  checkpointView `json:"checkpoint"`
	Bundle      string         `json:"bundle"`
}

func (v proofView) what() string { return eventKind(v.Lift) + " of " + v.AgentID }

func eventKind(lift bool) string {
	if lift {
		return "the lift of a ban"
	}
	return "a ban"
}

// proofEnd is when a proven ban ends by itself; a lift has no end.
func proofEnd(t *table, lift bool, at *int64) string {
	switch {
	case lift:
		return "-"
	case at == nil:
		return until(t, 0)
	}
	return t.when(*at)
}

func (p *program) blacklistProof(c *cli.Context) error {
	seq := c.Uint64("seq")
	var agent string
	if seq == 0 || c.Args().Present() {
		args, err := operands(c, "AGENT")
		if err != nil {
			return err
		}
		if agent = args[0]; seq != 0 {
			return usagef("give AGENT or --seq, not both")
		}
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	if agent != "" {
		ban, err := api.BanOn(c.Context, agent)
		if err != nil {
			return err
		}
		seq = ban.Seq
	}
	t, err := p.trusted(c, api)
	if err != nil {
		return err
	}
	bundle, view, err := p.makeBundle(c.Context, api, t, seq, c.Duration("timeout"))
	if err != nil {
		return err
	}
	if agent != "" && (view.AgentID != agent || view.Lift) {
		return refusedf("the cluster says that event %d is the ban on %s, and it is %s", seq, agent, view.what())
	}
	switch out := c.String("out"); {
	case out != "":
		if err := intoFile(out, true, func(f *os.File) error { _, err := f.WriteString(bundle); return err }); err != nil {
			return err
		}
		p.say("wrote the proof of event %d, %s, to %s; check it with: edgecoder blacklist verify %s --trust FILE", seq, view.what(), out, shellWord(out))
	case format == formatTable:
		_, err := p.out.Write([]byte(bundle))
		return err
	}
	return p.emit(c, view, func(t *table) {
		t.row("event", view.EventID)
		t.row("agent", view.AgentID)
		t.row("says", eventKind(view.Lift))
		t.row("until", proofEnd(t, view.Lift, view.ExpiresAtMs))
		t.row("seq", number(view.Seq))
		view.Checkpoint.draw(t)
	})
}

// checkpointPause is how long to wait for a checkpoint that holds an event of a moment ago.
const checkpointPause = 200 * time.Millisecond

// makeBundle gathers a proof and verifies it as whoever gets it will.
func (p *program) makeBundle(ctx context.Context, api *client.Client, t *trust, seq uint64, limit time.Duration) (string, proofView, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	note, o, version, err := checkpointWith(ctx, api, t, seq)
	if err != nil {
		return "", proofView{}, err
	}
	page, err := api.ChainEvents(ctx, seq, 1)
	if err != nil {
		return "", proofView{}, err
	}
	if len(page.Events) != 1 || page.Events[0].Seq != seq {
		return "", proofView{}, refusedf("the cluster did not show event %d", seq)
	}
	event, err := crypto.ParseBlacklistEvent(page.Events[0].Event)
	if err != nil {
		return "", proofView{}, refusedf("event %d: %w", seq, err)
	}
	proof, err := api.ProveInclusion(ctx, seq, o.Size)
	if err != nil {
		return "", proofView{}, err
	}
	hashes, err := parseHashes(proof.Hashes)
	if err != nil {
		return "", proofView{}, refusedf("the proof of event %d: %w", seq, err)
	}
	bundle := checkpoint.Bundle{Record: event.WireJSON(), Index: seq - 1, Hashes: hashes, Note: note}
	if err := checkpoint.VerifyInclusion(o.Checkpoint, bundle.Index, checkpoint.LeafHash(bundle.Record), hashes); err != nil {
		return "", proofView{}, refusedf("the cluster's proof of event %d: %w", seq, err)
	}
	text := string(bundle.Encode())
	return text, proofView{Seq: seq, EventID: event.EventID, AgentID: event.AgentID, Lift: event.EndsBeforeItBegins(), ExpiresAtMs: event.ExpiresAtMs,
		Checkpoint: viewOf(o, version, t.from, note), Bundle: text}, nil
}

// checkpointWith waits for a checkpoint that holds an event: one of a moment ago is in none yet.
func checkpointWith(ctx context.Context, api *client.Client, t *trust, seq uint64) ([]byte, checkpoint.Opened, uint64, error) {
	for {
		note, err := api.Checkpoint(ctx)
		if err != nil {
			return nil, checkpoint.Opened{}, 0, err
		}
		o, version, err := t.openLog(note, checkpoint.LogBlacklist)
		if err != nil {
			return nil, o, 0, refusedf("the cluster's checkpoint is not verified: %w", err)
		}
		if o.Size >= seq {
			return note, o, version, nil
		}
		select {
		case <-ctx.Done():
			return nil, o, 0, unknownf("the newest checkpoint holds %d events, not event %s yet: is a majority of coordinators up? see `edgecoder status`", o.Size, strconv.FormatUint(seq, 10))
		case <-time.After(checkpointPause):
		}
	}
}

func parseHashes(texts []string) (hashes []crypto.Hash, err error) {
	if len(texts) > checkpoint.MaxProofHashes {
		return nil, errors.New("too many hashes")
	}
	for _, text := range texts {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(raw) != crypto.HashSize {
			return nil, errors.New("a hash is no base64 of 32 bytes")
		}
		hashes = append(hashes, crypto.Hash(raw))
	}
	return hashes, nil
}
