package cmd

import (
	"crypto/ecdh"
	"errors"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/envelope"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

func sessionFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "session", Usage: usage}
}

func v1Flag() cli.Flag {
	return &cli.BoolFlag{Name: "v1", Usage: "version 1, for existing agents: it names no sender and leaves the metadata unauthenticated"}
}

func (p *program) envelopeTaskCommand() *cli.Command {
	return &cli.Command{
		Name: "task", Usage: "seal a task for one agent, and open it there",
		UsageText:   "edgecoder envelope task seal|open",
		Description: "Example:\n  edgecoder envelope task seal --key sender.key --agent agent-1 --subtask-id s-1 --session s-1.session --out s-1.task input.json",
		Subcommands: []*cli.Command{
			{
				Name: "seal", Usage: "sign and encrypt a task, and keep the key of its one result",
				UsageText: "edgecoder envelope task seal --key FILE --to KEY|--agent ID --subtask-id ID --session FILE [--out FILE] [FILE|-]",
				Description: "FILE holds the payload, up to 1 MiB. --session names a new file for the key that opens the result; keep it as you keep keys.\n" +
					"Class, priority, language and timeout travel in the clear; they are signed along. Envelopes do not stop replays: the agent\n" +
					"remembers subtask ids.\n\n" +
					"Example:\n  edgecoder envelope task seal --key sender.key --agent agent-1 --subtask-id s-1 --session s-1.session --out s-1.task input.json",
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "key", Usage: "the sender's key `FILE`, which signs; not with --v1"},
					&cli.StringFlag{Name: "to", Usage: "X25519 public `KEY` of the agent, or a file with it"},
					&cli.StringFlag{Name: "agent", Usage: "the agent's `ID`: its key is the cluster's, with the agent's signature on it"},
					&cli.StringFlag{Name: "agent-key", Usage: "with --agent: its signing key as you know it, `FILE|BASE64`"},
					&cli.StringFlag{Name: "subtask-id", Usage: "`ID` of the task; never use one twice"},
					&cli.StringFlag{Name: "class", Usage: "cpu or gpu"},
					&cli.IntFlag{Name: "priority", Usage: "`N` from 0 to 100"},
					&cli.StringFlag{Name: "language", Usage: "such as python"},
					&cli.DurationFlag{Name: "limit", Usage: "longest the task may take"},
					sessionFlag("new `FILE` for the key of the result"), v1Flag(), passphraseFlag(),
				}, outFlags()...),
				Action: p.taskSeal,
			},
			{
				Name: "open", Usage: "verify and decrypt a task, and keep the key to seal its one result",
				UsageText: "edgecoder envelope task open --key FILE --from KEY [--from KEY]… --session FILE [--out FILE] [FILE|-]",
				Description: "The task must be signed by one of the --from keys. With --v1 nobody signed it: only the payload and the subtask id are authentic,\n" +
					"and anybody who has the public key can have made it. The version is what you say, never what the file says.\n\n" +
					"Example:\n  edgecoder envelope task open --key agent-1.box --from sender.pem --session s-1.session --out input.json s-1.task",
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "key", Usage: "`FILE` with the agent's X25519 key"},
					&cli.StringSliceFlag{Name: "from", Usage: "public signing key of a sender that tasks are taken from, `FILE|BASE64`; may be given again"},
					sessionFlag("new `FILE` for the key that seals the result"), v1Flag(), passphraseFlag(),
				}, outFlags()...),
				Action: p.taskOpen,
			},
		},
	}
}

func (p *program) envelopeResultCommand() *cli.Command {
	flags := func(usage string) []cli.Flag { return append([]cli.Flag{sessionFlag(usage)}, outFlags()...) }
	return &cli.Command{
		Name: "result", Usage: "seal the one result of a task, and open it",
		UsageText:   "edgecoder envelope result seal|open",
		Description: "Example:\n  edgecoder envelope result open --session s-1.session --out output.json s-1.result",
		Subcommands: []*cli.Command{
			{
				Name: "seal", Usage: "encrypt the result of a task that was opened here", UsageText: "edgecoder envelope result seal --session FILE [--out FILE] [FILE|-]",
				Description: "The session file is removed: its key is good for one result. Send the same envelope again if it got lost.\n\n" +
					"Example:\n  edgecoder envelope result seal --session s-1.session --out s-1.result output.json",
				Flags: flags("`FILE` that `envelope task open` wrote"), Action: p.resultSeal,
			},
			{
				Name: "open", Usage: "verify and decrypt the result of a task that was sealed here", UsageText: "edgecoder envelope result open --session FILE [--out FILE] [FILE|-]",
				Description: "The session file is removed once a result opened; what does not open leaves it alone.\n\n" +
					"Example:\n  edgecoder envelope result open --session s-1.session --out output.json s-1.result",
				Flags: flags("`FILE` that `envelope task seal` wrote"), Action: p.resultOpen,
			},
		},
	}
}

// taskView is the JSON of these commands, with --out.
type taskView struct {
	File      string `json:"file"`
	SubtaskID string `json:"subtask_id,omitempty"`
	Sender    string `json:"sender,omitempty"` // key id
	Session   string `json:"session,omitempty"`
	Bytes     int    `json:"bytes"`
}

func (p *program) taskSeal(c *cli.Context) error {
	job, err := p.newFileJob(c, "sealed", c.String("to") == "-" || c.String("passphrase-file") == "-")
	if err != nil {
		return err
	}
	head := envelope.Clear{SubtaskID: c.String("subtask-id"), Metadata: envelope.Metadata{ResourceClass: c.String("class"), Language: c.String("language"),
		TimeoutMs: c.Duration("limit").Milliseconds()}}
	if c.IsSet("priority") {
		n := c.Int("priority")
		head.Metadata.Priority = &n
	}
	switch {
	case head.SubtaskID == "":
		return usagef("--subtask-id is missing")
	case c.Bool("v1") == (c.String("key") != ""):
		return usagef("--key names who signs the task; with --v1 nobody does: give one of the two")
	}
	if err := newSession(c); err != nil {
		return err
	}
	to, err := p.recipientKey(c)
	if err != nil {
		return err
	}
	seal := func(payload []byte) ([]byte, *envelope.Session, error) {
		return envelope.SealV1(p.rand, to, head, payload)
	}
	if !c.Bool("v1") {
		key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
		if err != nil {
			return err
		}
		defer clear(key)
		seal = func(payload []byte) ([]byte, *envelope.Session, error) {
			return envelope.SealV2(key, to, head, payload)
		}
	}
	payload, err := p.wholeInput(c, job, envelope.MaxPayloadBytes)
	if err != nil {
		return err
	}
	text, session, err := seal(payload)
	if err != nil {
		return usagef("%s: %w", job.name, err)
	}
	defer session.Close()
	kept, err := session.Keep()
	if err != nil {
		return err
	}
	// The key first: an envelope whose result nobody can open must not get out.
	if err := keepSession(c, kept); err != nil {
		return err
	}
	return p.writeWhole(c, job, text, taskView{SubtaskID: head.SubtaskID, Session: c.String("session"), Bytes: len(payload)})
}

func (p *program) taskOpen(c *cli.Context) error {
	job, err := p.newFileJob(c, "opened", c.String("passphrase-file") == "-")
	if err != nil {
		return err
	}
	if c.Bool("v1") == (len(c.StringSlice("from")) > 0) {
		return usagef("--from names whose tasks are taken; with --v1 nobody signed them: give one of the two")
	}
	var senders []crypto.PublicKey
	for _, text := range c.StringSlice("from") {
		key, err := p.publicKey("from", text)
		if err != nil {
			return err
		}
		senders = append(senders, key)
	}
	if err := newSession(c); err != nil {
		return err
	}
	key, err := p.readEncryptionKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	text, err := p.wholeInput(c, job, envelope.MaxTextBytes)
	if err != nil {
		return err
	}
	opened, err := openTask(key, senders, text)
	if err != nil {
		return refusedf("%s: %w; nothing was written", job.name, err)
	}
	defer opened.Close()
	kept, err := opened.KeepResultKey()
	if err != nil {
		return err
	}
	if err := keepSession(c, kept); err != nil {
		return err
	}
	return p.writeWhole(c, job, opened.Payload, taskView{SubtaskID: opened.Clear.SubtaskID, Sender: opened.Sender, Session: c.String("session"), Bytes: len(opened.Payload)})
}

// openTask opens version 2 of known senders, and version 1 if there are none.
func openTask(key *ecdh.PrivateKey, senders []crypto.PublicKey, text []byte) (*envelope.Opened, error) {
	if len(senders) == 0 {
		return envelope.OpenV1(key, text)
	}
	return envelope.OpenV2(key, senders, text)
}

func (p *program) resultSeal(c *cli.Context) error {
	job, err := p.newFileJob(c, "sealed", false)
	if err != nil {
		return err
	}
	opened, err := readSession(c, envelope.ParseResultSealer)
	if err != nil {
		return err
	}
	defer opened.Close()
	payload, err := p.wholeInput(c, job, envelope.MaxPayloadBytes)
	if err != nil {
		return err
	}
	text, err := opened.SealResult(p.rand, payload)
	if err != nil {
		return usagef("%s: %w", job.name, err)
	}
	// The key goes first: one that stays could seal a second result.
	if err := os.Remove(c.String("session")); err != nil {
		return usagef("--session: %w", err)
	}
	return p.writeWhole(c, job, text, taskView{SubtaskID: opened.Clear.SubtaskID, Bytes: len(payload)})
}

func (p *program) resultOpen(c *cli.Context) error {
	job, err := p.newFileJob(c, "opened", false)
	if err != nil {
		return err
	}
	session, err := readSession(c, envelope.ParseSession)
	if err != nil {
		return err
	}
	defer session.Close()
	text, err := p.wholeInput(c, job, envelope.MaxTextBytes)
	if err != nil {
		return err
	}
	payload, err := session.OpenResult(text)
	if err != nil {
		return refusedf("%s: %w; nothing was written, and the session is good still", job.name, err)
	}
	if err := p.writeWhole(c, job, payload, taskView{Bytes: len(payload)}); err != nil {
		return err
	}
	if err := os.Remove(c.String("session")); err != nil { // only now: the result could not be opened again
		return usagef("--session: %w", err)
	}
	return nil
}

// newSession asks before anything is done whether the session file can be made.
func newSession(c *cli.Context) error {
	path := c.String("session")
	if path == "" {
		return usagef("--session is missing: name a new file for the key of the result")
	}
	return isFree(path)
}

// maxSessionBytes bounds a session file, which is one line with an id in it.
const maxSessionBytes = 4 << 10

// readSession reads a session file, which must be private to its owner.
func readSession[T any](c *cli.Context, parse func([]byte) (T, error)) (session T, err error) {
	path := c.String("session")
	if path == "" {
		return session, usagef("--session is missing: name the file that `edgecoder envelope task` wrote")
	}
	text, err := keyfile.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return session, usagef("--session %s: there is no such file; it goes with the first result", path)
	} else if err != nil {
		return session, usagef("--session: %w", err)
	}
	defer clear(text)
	if len(text) > maxSessionBytes {
		return session, usagef("--session %s: %d bytes, at most %d", path, len(text), maxSessionBytes)
	}
	session, err = parse(text)
	return session, asUsage("--session "+path, err)
}

func keepSession(c *cli.Context, kept []byte) error {
	defer clear(kept)
	return intoFile(c.String("session"), false, func(f *os.File) error {
		_, err := f.Write(append(kept, '\n'))
		return err
	})
}

// wholeInput reads an input that is opened in memory.
func (p *program) wholeInput(c *cli.Context, job fileJob, limit int) ([]byte, error) {
	input, _, err := p.openInput(job)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	pumped, release := interruptible(c.Context, input)
	defer release()
	data, err := readBounded(pumped, limit)
	if err != nil && c.Context.Err() != nil {
		return nil, c.Context.Err()
	}
	if err != nil {
		return nil, usagef("%s: %w", job.name, err)
	}
	return data, nil
}

// writeWhole writes the output of a job, and shows the view if that is a file.
func (p *program) writeWhole(c *cli.Context, job fileJob, data []byte, v taskView) error {
	if job.out == "" {
		_, err := p.out.Write(data)
		return err
	}
	err := intoFile(job.out, c.Bool("force"), func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	v.File = job.out
	return p.emit(c, v, func(t *table) {
		t.row(job.done, v.File)
		t.row("subtask", orDash(v.SubtaskID))
		t.row("sender", orDash(v.Sender))
		t.row("session", orDash(v.Session))
		t.row("bytes", number(v.Bytes))
	})
}
