package cmd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

func (p *program) manifestSignCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign what an artifact is: name, version, digest, size, source, expiry",
		UsageText: "edgecoder manifest sign --key FILE (--name NAME --version VERSION --source URL [--expires 720h] | --append ENVELOPE) [--out FILE] ARTIFACT",
		Description: "The result is a DSSE envelope (github.com/secure-systems-lab/dsse), on standard output unless --out names a file. With --append a\n" +
			"further signer signs the statement of an envelope as it is; give the ARTIFACT, so that its digest is checked before.\n\n" +
			"A version is numbers with dots between them, such as 1.4.2, 1.4.2-rc.1 (Semantic Versioning) or 2026.01.1.\n\n" +
			"Examples:\n  edgecoder manifest sign --key release.key --name edgecoder-linux-amd64 --version 1.4.2 \\\n" +
			"      --source https://models.example/edgecoder-1.4.2 --out edgecoder.dsse.json bin/edgecoder\n" +
			"  edgecoder manifest sign --key second.key --append edgecoder.dsse.json --out edgecoder.dsse.json bin/edgecoder",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the signer's key `FILE`, encrypted or PKCS#8 PEM (`edgecoder agent keygen` makes one)"},
			&cli.StringFlag{Name: "name", Usage: "what the artifact is called, `NAME`; versions of one name follow each other"},
			&cli.StringFlag{Name: "version", Usage: "its `VERSION`"},
			&cli.StringFlag{Name: "source", Usage: "https `URL` that it comes from"},
			&cli.StringFlag{Name: "expires", Value: "720h", Usage: "`DURATION` for which the manifest holds, such as 720h or 90d"},
			&cli.StringFlag{Name: "append", Usage: "add a signature to this `ENVELOPE`"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write"},
			&cli.BoolFlag{Name: "force", Usage: "overwrite the file"},
			passphraseFlag(),
		},
		Action: p.manifestSign,
	}
}

// signedManifest is the JSON of `manifest sign --out`.
type signedManifest struct {
	manifest.Statement
	KeyID      string `json:"key_id"`
	Signatures int    `json:"signatures"`
	File       string `json:"file"`
}

func (p *program) manifestSign(c *cli.Context) error {
	if _, err := formatOf(c); err != nil {
		return err
	}
	if err := mayWriteManifest(c); err != nil {
		return err
	}
	state := p.newManifest
	if c.String("append") != "" {
		state = p.appendedManifest
	}
	envelope, st, err := state(c)
	if err != nil {
		return err
	}
	key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	if err := envelope.Sign(key); err != nil {
		return refusedf("%w", err)
	}
	text := append(envelope.Encode(), '\n')
	out := c.String("out")
	if out == "" {
		_, err = p.out.Write(text)
		return err
	}
	if err := writeManifest(c, out, text); err != nil {
		return err
	}
	view := signedManifest{Statement: st, KeyID: crypto.PublicOf(key).KeyID(), Signatures: len(envelope.Signatures), File: out}
	return p.emit(c, view, func(t *table) {
		t.row("signed", out)
		drawStatement(t, st)
		t.row("signatures", fmt.Sprintf("%d, this one by key %s", view.Signatures, view.KeyID))
	})
}

func mayWriteManifest(c *cli.Context) error {
	out := c.String("out")
	switch info, err := os.Lstat(out); {
	case out == "" || errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usagef("--out: %w", err)
	case !info.Mode().IsRegular():
		return usagef("--out %s exists and is no regular file, so it is not replaced", out)
	case !replacesManifest(c):
		return usagef("--out %s is there already: give another name, or --force to replace it", out)
	}
	return nil
}

// replacesManifest: an envelope may be appended to in place.
func replacesManifest(c *cli.Context) bool {
	return c.Bool("force") || c.String("out") == c.String("append")
}

// writeManifest puts an envelope in its place as a whole: what is there may hold
// the only copy of the signatures before this one.
func writeManifest(c *cli.Context, path string, text []byte) error {
	if err := mayWriteManifest(c); err != nil { // asked again: the passphrase may have taken its time
		return err
	}
	return intoFile(path, replacesManifest(c), func(f *os.File) error {
		if err := f.Chmod(0o644); err != nil { // nothing in it is secret
			return err
		}
		_, err := f.Write(text)
		return err
	})
}

// newManifest states what the flags and the artifact say.
func (p *program) newManifest(c *cli.Context) (dsse.Envelope, manifest.Statement, error) {
	var none dsse.Envelope
	var st manifest.Statement
	args, err := operands(c, "ARTIFACT")
	if err != nil {
		return none, st, err
	}
	life, err := parseDuration("expires", c.String("expires"))
	if err != nil {
		return none, st, err
	}
	now := p.now().UnixMilli()
	st = manifest.Statement{Name: c.String("name"), Version: c.String("version"), Source: c.String("source"), IssuedMs: now, ExpiresMs: now + life.Milliseconds(),
		SHA256: crypto.Hash{1}, Size: 1} // until they are known: the flags are checked before a long reading
	if field, fault := st.Fault(); fault != "" {
		if field == "expires_ms" {
			field = "expires"
		}
		return none, st, usagef("--%s: %s", field, fault)
	}
	if st.SHA256, st.Size, err = p.hashArtifact(args[0]); err != nil {
		return none, st, err
	}
	if field, fault := st.Fault(); fault != "" {
		return none, st, usagef("%s: %s: %s", args[0], field, fault)
	}
	return dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}, st, nil
}

// appendedManifest is the envelope of --append, whose statement the signer sees
// before it is signed.
func (p *program) appendedManifest(c *cli.Context) (dsse.Envelope, manifest.Statement, error) {
	var none dsse.Envelope
	var st manifest.Statement
	for _, flag := range []string{"name", "version", "source", "expires"} {
		if p.given[flag] {
			return none, st, usagef("--append signs a statement as it is: --%s has no place", flag)
		}
	}
	args, err := operands(c, "[ARTIFACT]")
	if err != nil {
		return none, st, err
	}
	text, err := p.readInput("append", c.String("append"), dsse.MaxEnvelopeBytes)
	if err != nil {
		return none, st, err
	}
	envelope, st, err := parseManifest(c.String("append"), text)
	if err != nil {
		return none, st, err
	}
	p.say("signing: %s %s, sha256 %s, %d bytes, from %s, until %s", st.Name, st.Version, st.SHA256, st.Size, st.Source, time.UnixMilli(st.ExpiresMs).UTC().Format(time.RFC3339))
	if len(args) == 0 {
		p.say("warning: no ARTIFACT is named, so its digest is not checked: you sign what the first signer said")
		return envelope, st, nil
	}
	return envelope, st, p.checkArtifact(st, args[0])
}

// checkArtifact holds a file against a statement.
func (p *program) checkArtifact(st manifest.Statement, path string) error {
	digest, size, err := p.hashArtifact(path)
	if err != nil {
		return err
	}
	if digest != st.SHA256 || size != st.Size {
		return refusedf("%s is not the artifact of the manifest: it has %d bytes and sha256 %s, the manifest says %d bytes and %s", path, size, digest, st.Size, st.SHA256)
	}
	return nil
}

// hashArtifact reads a file once, in constant memory.
func (p *program) hashArtifact(path string) (digest crypto.Hash, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, 0, usagef("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return digest, 0, usagef("%w", err)
	}
	if !info.Mode().IsRegular() {
		return digest, 0, usagef("%s is no regular file", path)
	}
	h := sha256.New()
	size, err = io.Copy(h, p.watched(f, path, info.Size()))
	if err != nil {
		return digest, 0, usagef("read %s: %w", path, err)
	}
	return crypto.Hash(h.Sum(nil)), size, nil
}

// progressReader tells on a terminal how far a long reading came.
type progressReader struct {
	in       io.Reader
	out      io.Writer
	name     string
	size     int64
	read     int64
	reported int64 // percent
}

// quickBytes is what is read in well under a second: nobody waits for it.
const quickBytes = 256 << 20

// watched is the reader itself when nobody looks, or there is nothing to wait for.
func (p *program) watched(in io.Reader, name string, size int64) io.Reader {
	f, ok := p.err.(*os.File)
	if !ok || size < quickBytes || !term.IsTerminal(int(f.Fd())) {
		return in
	}
	return &progressReader{in: in, out: p.err, name: name, size: size}
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	r.read += int64(n)
	percent := min(100, r.read*100/max(1, r.size))
	if percent > r.reported || errors.Is(err, io.EOF) {
		r.reported = percent
		fmt.Fprintf(r.out, "\rreading %q: %d %%", r.name, percent)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(r.out)
		}
	}
	return n, err
}

func drawStatement(t *table, st manifest.Statement) {
	t.row("name", st.Name)
	t.row("version", st.Version)
	t.row("sha256", st.SHA256.String())
	t.row("size", number(st.Size))
	t.row("source", st.Source)
	t.row("issued", t.when(st.IssuedMs))
	t.row("expires", t.when(st.ExpiresMs))
}
