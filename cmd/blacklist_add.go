package cmd

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// operatorReporter reports what a person decided: manual_review needs no
// reporter's signature, but every event names a reporter.
const operatorReporter = "operator"

func (p *program) blacklistAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "ban an agent",
		UsageText: "edgecoder blacklist add AGENT --reason TEXT [--reason-code CODE] [--expires 72h] [--wait quorum|all]",
		Description: "Reason codes: " + strings.Join(crypto.ReasonCodes(), ", ") + ".\nAll but manual_review need the signature of an enrolled reporter: give --reporter and --reporter-key.\n" +
			"The evidence is a file's SHA-256; without one, that of the reason's text.\n\n" +
			"Examples:\n  edgecoder blacklist add agent-1 --reason 'forged three results'\n" +
			"  edgecoder blacklist add agent-1 --reason 'forged three results' --wait all\n" +
			"  edgecoder blacklist add agent-1 --reason-code forged_results --reason 'see log' --evidence-file run.log \\\n      --reporter watcher-1 --reporter-key watcher-1.key --expires 72h",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason-code", Value: crypto.ReasonManualReview, Usage: "what kind of offence"},
			&cli.StringFlag{Name: "reason", Usage: "what happened; it stays in the chain for ever"},
			&cli.StringFlag{Name: "evidence-file", Usage: "`FILE` whose SHA-256 is the evidence, - for standard input; the file stays with you"},
			&cli.StringFlag{Name: "evidence-sha256", Usage: "the evidence's SHA-256 itself, 64 lower-case hex digits"},
			&cli.StringFlag{Name: "reporter", Usage: "`ID` of who reports; with manual_review \"operator\" unless given"},
			&cli.StringFlag{Name: "reporter-key", Usage: "the reporter's key `FILE`, which signs the report"},
			&cli.StringFlag{Name: "expires", Usage: "end of the ban, such as 72h or 30d from now; without it the ban stays until lifted"},
			passphraseFlag(), waitFlag(),
		},
		Action: p.blacklistAdd,
	}
}

func (p *program) blacklistAdd(c *cli.Context) error {
	args, err := operands(c, "AGENT")
	if err != nil {
		return err
	}
	need, err := waitOf(c)
	if err != nil {
		return err
	}
	req, err := p.banRequest(c, args[0])
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	change, err := api.Ban(c.Context, req)
	if err != nil {
		return err
	}
	return p.emitChange(c, api, need, "banned", req.AgentID, change)
}

func (p *program) banRequest(c *cli.Context, agent string) (client.BanRequest, error) {
	now := p.now()
	req := client.BanRequest{
		AgentID: agent, ReasonCode: c.String("reason-code"), Reason: c.String("reason"), ReporterID: c.String("reporter"),
		TimestampMs: now.UnixMilli(),
	}
	switch {
	case crypto.CheckID(agent) != nil:
		return req, usagef("AGENT: %w", crypto.CheckID(agent))
	case req.Reason == "":
		return req, usagef("--reason is missing: say what %s did", agent)
	case !crypto.KnownReasonCode(req.ReasonCode):
		return req, usagef("--reason-code %q: want one of %s", req.ReasonCode, strings.Join(crypto.ReasonCodes(), ", "))
	}
	if text := c.String("expires"); text != "" {
		life, err := parseDuration("expires", text)
		if err != nil {
			return req, err
		}
		req.ExpiresAtMs = now.Add(life).UnixMilli()
	}
	var err error
	if req.EvidenceSHA256, err = p.evidence(c, req.Reason); err != nil {
		return req, err
	}
	return req, p.signReport(c, &req)
}

// evidence returns the hash of what proves the offence.
func (p *program) evidence(c *cli.Context, reason string) (string, error) {
	path, text := c.String("evidence-file"), c.String("evidence-sha256")
	switch {
	case path != "" && text != "":
		return "", usagef("--evidence-file and --evidence-sha256: give one of them")
	case path != "":
		return p.hashFile("evidence-file", path)
	case text != "":
		hash, err := crypto.ParseHash(text)
		if err != nil {
			return "", usagef("--evidence-sha256: %w", err)
		}
		return hash.String(), nil
	}
	return crypto.Sum([]byte(reason)).String(), nil
}

// hashFile streams: evidence may be a disk image.
func (p *program) hashFile(flag, path string) (string, error) {
	in := p.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usagef("--%s: %w", flag, err)
		}
		defer f.Close()
		in = f
	}
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return "", usagef("--%s %s: %w", flag, path, err)
	}
	return crypto.Hash(h.Sum(nil)).String(), nil
}

// signReport adds the reporter, and its signature where a key is given.
func (p *program) signReport(c *cli.Context, req *client.BanRequest) error {
	path := c.String("reporter-key")
	if path == "" {
		if req.ReasonCode != crypto.ReasonManualReview {
			return usagef("--reason-code %s needs a reporter's signature: give --reporter ID and --reporter-key FILE, or use %s", req.ReasonCode, crypto.ReasonManualReview)
		}
		if req.ReporterID == "" {
			req.ReporterID = operatorReporter
		}
		return nil
	}
	if req.ReporterID == "" {
		return usagef("--reporter is missing: name the agent whose key %s is", path)
	}
	key, err := p.readKey("reporter-key", path, c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	evidence := crypto.ReporterEvidence{
		AgentID: req.AgentID, ReasonCode: req.ReasonCode, Reason: req.Reason,
		EvidenceHashSHA256: req.EvidenceSHA256, ReporterID: req.ReporterID, TimestampMs: req.TimestampMs,
	}
	req.ReporterPublicKey = crypto.PublicOf(key).PEM()
	req.ReporterSignature = base64.StdEncoding.EncodeToString(evidence.Sign(key))
	return nil
}
