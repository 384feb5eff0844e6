package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) blacklistAuditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "save the whole chain with the keys that signed it",
		UsageText: "edgecoder blacklist audit [--out FILE]",
		Description: "The file is {peers, events, version, chainHead}; verifiers of the older protocol read it as well.\n\n" +
			"Example:\n  edgecoder blacklist audit --out chain.json && edgecoder blacklist verify chain.json",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "out", Usage: "`FILE` to write instead of standard output"}},
		Action: p.blacklistAudit,
	}
}

// auditKey is a key in an audit file, as /identity and /mesh/peers name it.
type auditKey struct {
	PeerID       string `json:"peerId"`
	PublicKeyPEM string `json:"publicKeyPem"`
	Status       string `json:"status,omitempty"`
}

func (p *program) blacklistAudit(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	// The node that answers is brought up to date first: the route itself reads
	// what that node has, which may lack the ban of a moment ago.
	if _, err := api.Bans(c.Context, client.Strong(), client.Page("", 1)); err != nil {
		p.say("the chain may lack its newest events, the cluster confirmed nothing: %v", err)
	}
	if c.String("out") == "" {
		_, err := saveAudit(c.Context, api, p.out)
		return err
	}
	events, err := replaceFile(c.String("out"), func(w io.Writer) (int, error) { return saveAudit(c.Context, api, w) })
	if err != nil {
		return err
	}
	p.say("saved %d events to %s; check them with: edgecoder blacklist verify %s", events, c.String("out"), shellWord(c.String("out")))
	return nil
}

// replaceFile writes path in one step: a torn audit would look like a forged one.
func replaceFile(path string, write func(io.Writer) (int, error)) (int, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, usagef("--out: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed
	defer tmp.Close()
	n, err := write(tmp)
	if err != nil {
		return n, err
	}
	if err := tmp.Close(); err != nil {
		return n, err
	}
	return n, os.Rename(tmp.Name(), path)
}

// saveAudit streams the chain to w; only the keys are held in memory. They are
// read after the events, so that whoever signed the last one is among them.
func saveAudit(ctx context.Context, api *client.Client, w io.Writer) (events int, err error) {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, `{"events":[`) // bufio keeps the first error for Flush
	audit, err := api.Audit(ctx, func(event json.RawMessage) error {
		if events > 0 {
			out.WriteByte(',')
		}
		events++
		out.WriteByte('\n')
		_, err := out.Write(event)
		return err
	})
	if err != nil {
		return events, err
	}
	keys, err := fetchKeys(ctx, api)
	if err != nil {
		return events, err
	}
	tail, err := json.Marshal(struct {
		Version   uint64     `json:"version"`
		ChainHead string     `json:"chainHead"`
		Peers     []auditKey `json:"peers"`
	}{audit.Version, audit.ChainHead, keys})
	if err != nil {
		return events, err
	}
	fmt.Fprintf(out, "\n],%s\n", tail[1:])
	return events, out.Flush()
}

// fetchKeys asks a cluster for every key that ever signed its chain.
func fetchKeys(ctx context.Context, api *client.Client) ([]auditKey, error) {
	self, err := api.Identity(ctx)
	if err != nil {
		return nil, err
	}
	peers, err := api.MeshPeers(ctx)
	if err != nil {
		return nil, err
	}
	keys := []auditKey{{PeerID: self.PeerID, PublicKeyPEM: self.PublicKeyPEM}}
	for _, peer := range peers.Peers {
		if peer.PeerID == self.PeerID {
			continue
		}
		keys = append(keys, auditKey{PeerID: peer.PeerID, PublicKeyPEM: peer.PublicKeyPEM, Status: peer.Status})
	}
	return keys, nil
}
