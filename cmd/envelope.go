package cmd

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/envelope"
)

// maxPublicKeyText bounds a file with a public key, which is a line or three.
const maxPublicKeyText = 4 << 10

func (p *program) envelopeCommand() *cli.Command {
	return &cli.Command{
		Name: "envelope", Usage: "seal files, tasks and results for one reader, and open them",
		Subcommands: []*cli.Command{p.envelopeSealCommand(), p.envelopeOpenCommand(), p.envelopeTaskCommand(), p.envelopeResultCommand()},
	}
}

func (p *program) envelopeSealCommand() *cli.Command {
	return &cli.Command{
		Name: "seal", Usage: "encrypt a file of any size so that only the holder of one key can read it",
		UsageText: "edgecoder envelope seal --to KEY|--agent ID [--out FILE] [--force] [FILE|-]",
		Description: "KEY is an X25519 public key: base64 of the raw key, or a file with that or with PEM. --agent asks the cluster for the key that an\n" +
			"active agent enrolled with, and checks the agent's own signature on it. Without FILE standard input is sealed, without --out the result goes to standard output. The\n" +
			"envelope does not say who sealed it: anybody who has the public key can.\n\n" +
			"Examples:\n  edgecoder envelope seal --agent agent-1 --out model.sealed model.bin\n" +
			"  tar c work | edgecoder envelope seal --to reader.pub > work.sealed",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "public `KEY` of the reader, or a file with it"},
			&cli.StringFlag{Name: "agent", Usage: "the reader is the agent with this `ID`"},
			&cli.StringFlag{Name: "agent-key", Usage: "with --agent: its signing key as you know it, `FILE|BASE64`; without, the cluster's word is taken for it"},
		}, outFlags()...),
		Action: p.envelopeSeal,
	}
}

func (p *program) envelopeOpenCommand() *cli.Command {
	return &cli.Command{
		Name: "open", Usage: "decrypt what `envelope seal` made, and verify all of it",
		UsageText: "edgecoder envelope open --key FILE [--out FILE] [--force] [FILE|-]",
		Description: "With --out the file gets its name (mode 0600) only after the last chunk verified. To standard output goes each chunk of 64 KiB as soon\n" +
			"as it verified, never anything else; if a later one does not, or the end is missing, the exit status is 1 and what came out is only\n" +
			"the beginning: a program behind a pipe must look at the exit status before it acts.\n\n" +
			"Examples:\n  edgecoder envelope open --key reader.key --out model.bin model.sealed\n" +
			"  edgecoder envelope open --key reader.key < work.sealed > work.tar && tar xf work.tar",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "`FILE` with the reader's X25519 key, encrypted or PKCS#8 PEM"},
			passphraseFlag(),
		}, outFlags()...),
		Action: p.envelopeOpen,
	}
}

func outFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "out", Usage: "`FILE` to write, instead of standard output"},
		&cli.BoolFlag{Name: "force", Usage: "replace the file of --out if it is there"},
	}
}

// envelopeView is the JSON of `envelope seal --out` and `envelope open --out`.
type envelopeView struct {
	File      string `json:"file"`
	Recipient string `json:"recipient"`    // key id
	Bytes     int64  `json:"bytes"`        // of the plain file
	Sealed    int64  `json:"sealed_bytes"` // of the envelope
}

func (p *program) envelopeSeal(c *cli.Context) error {
	job, err := p.newFileJob(c, "sealed", c.String("to") == "-")
	if err != nil {
		return err
	}
	if job.out == "" && isTerminal(p.out) {
		return usagef("a sealed file is not for the terminal: give --out FILE, or redirect standard output")
	}
	to, err := p.recipientKey(c)
	if err != nil {
		return err
	}
	in, out, err := p.runFileJob(c, job, func(dst io.Writer, src io.Reader) error { return sealStream(dst, src, to) })
	if err != nil || job.out == "" {
		return err
	}
	return p.emitEnvelope(c, job, envelopeView{job.out, crypto.EncryptionKeyID(to), in, out})
}

func sealStream(dst io.Writer, src io.Reader, to *ecdh.PublicKey) error {
	w, err := envelope.NewWriter(dst, to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, src); err != nil {
		return err // and no Close: half a file must not pass for a whole one
	}
	return w.Close()
}

func (p *program) envelopeOpen(c *cli.Context) error {
	job, err := p.newFileJob(c, "opened", c.String("passphrase-file") == "-")
	if err != nil {
		return err
	}
	key, err := p.readEncryptionKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	in, out, err := p.runFileJob(c, job, func(dst io.Writer, src io.Reader) error {
		r, err := envelope.NewReader(src, key)
		if err == nil {
			_, err = io.Copy(dst, r)
		}
		return err
	})
	if err != nil {
		return openFault(job, out, err)
	}
	if job.out == "" {
		return nil
	}
	return p.emitEnvelope(c, job, envelopeView{job.out, crypto.EncryptionKeyID(key.PublicKey()), out, in})
}

// openFault says what an envelope that did not open left behind. Faults of files and of the command line stay as they are.
func openFault(job fileJob, written int64, err error) error {
	switch {
	case errors.Is(err, envelope.ErrWrongKey):
		return refusedf("%s: %w: give the key it is sealed to with --key", job.name, err)
	case errors.Is(err, envelope.ErrMalformed), errors.Is(err, envelope.ErrNotAuthentic), errors.Is(err, envelope.ErrTruncated):
	default:
		return err
	}
	switch {
	case job.out != "":
		return refusedf("%s: %w; nothing was kept: get it again from whoever sealed it", job.name, err)
	case written > 0:
		return refusedf("%s: %w; the %d bytes on standard output are only the beginning: do not use them", job.name, err, written)
	}
	return refusedf("%s: %w; nothing was written: get it again from whoever sealed it", job.name, err)
}

func (p *program) emitEnvelope(c *cli.Context, job fileJob, v envelopeView) error {
	return p.emit(c, v, func(t *table) {
		t.row(job.done, v.File)
		t.row("recipient", v.Recipient)
		t.row("bytes", number(v.Bytes))
		t.row("sealed bytes", number(v.Sealed))
	})
}

// recipientKey returns the public key that --to or --agent names.
func (p *program) recipientKey(c *cli.Context) (*ecdh.PublicKey, error) {
	to, agent := c.String("to"), c.String("agent")
	switch {
	case to == "" && agent == "":
		return nil, usagef("--to or --agent is missing: name the reader's public key, or the agent that is the reader")
	case to != "" && agent != "":
		return nil, usagef("--to and --agent: give one, an envelope has one reader")
	case c.String("agent-key") != "" && agent == "":
		return nil, usagef("--agent-key goes with --agent: --to names the reader's key itself")
	case agent != "":
		return p.agentEncryptionKey(c, agent)
	}
	return p.encryptionPublicKey("to", to)
}

// encryptionPublicKey reads an X25519 public key that a flag gives: base64 of the
// raw key, or a file with that or with PEM.
func (p *program) encryptionPublicKey(flag, value string) (*ecdh.PublicKey, error) {
	pub, err := crypto.ParseEncryptionPublicKey(value)
	if err == nil || errors.Is(err, crypto.ErrWeakKey) {
		return pub, asUsage("--"+flag, err)
	}
	text, err := p.readInput(flag, value, maxPublicKeyText)
	if err != nil {
		return nil, usagef("%w (want the base64 of a raw X25519 public key, which `edgecoder keys generate --type x25519` prints, or a file with it)", err)
	}
	pub, err = crypto.ParseEncryptionPublicKey(strings.TrimSpace(string(text)))
	return pub, asUsage("--"+flag+" "+value, err)
}

func asUsage(where string, err error) error {
	if err == nil {
		return nil
	}
	return usagef("%s: %w", where, err)
}

// agentEncryptionKey asks the cluster, and its leader: an agent that was revoked must get nothing from a replica that
// lags.
func (p *program) agentEncryptionKey(c *cli.Context, id string) (*ecdh.PublicKey, error) {
	known, err := p.knownAgentKey(c)
	if err != nil {
		return nil, err
	}
	api, clusterID, err := p.connectNamed(c, withToken)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	agent, err := api.Agent(c.Context, id, client.Strong())
	switch {
	case err != nil:
		return nil, err
	case agent.State != "active":
		return nil, refusedf("agent %s is %s: its key is not trusted until it is active (`edgecoder agent approve %s`)", id, agent.State, shellWord(id))
	case agent.EncryptionKey == "":
		return nil, refusedf("agent %s enrolled without an encryption key: give its public key with --to, or enrol it with --encryption-key", id)
	}
	pub, err := crypto.ParseEncryptionPublicKey(agent.EncryptionKey)
	if err != nil {
		return nil, refusedf("the key that the cluster names for agent %s: %w", id, err)
	}
	return pub, checkAgentProof(agent, id, clusterID, pub, known)
}

// knownAgentKey returns the key of --agent-key, nil without it.
func (p *program) knownAgentKey(c *cli.Context) (*crypto.PublicKey, error) {
	text := c.String("agent-key")
	if text == "" {
		return nil, nil
	}
	key, err := p.publicKey("agent-key", text)
	return &key, err
}

// checkAgentProof asks that the agent itself signed its encryption key. The
// cluster keeps a proof only as long as neither key changes, so it is by the
// signing key of now. Which one that is, is the cluster's word, unless it is known.
func checkAgentProof(agent client.Agent, id, clusterID string, key *ecdh.PublicKey, known *crypto.PublicKey) error {
	signer, err := crypto.ParsePublicKeyPEM(agent.PublicKey)
	switch proof, decodeErr := base64.StdEncoding.Strict().DecodeString(agent.EncryptionProof); {
	case err != nil:
		return refusedf("the signing key that the cluster names for agent %s: %w", id, err)
	case known != nil && *known != signer:
		return refusedf("the cluster names signing key %s for agent %s, --agent-key is %s", signer.KeyID(), id, known.KeyID())
	case agent.EncryptionProof == "":
		return refusedf("the encryption key of agent %s is without a proof by its present signing key, so anybody who saw it on its way can have put in another: get the key from the agent and give it with --to, have the agent register with a proof (x25519Proof), or enrol a new id with `edgecoder agent enroll --encryption-key`", id)
	case decodeErr != nil || !crypto.VerifyEncryptionKey(signer, proof, clusterID, id, key.Bytes()):
		return refusedf("the encryption key that the cluster names for agent %s is not signed by that agent: it was changed, do not use it", id)
	}
	return nil
}
