package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// maxPassphraseBytes bounds what is read; a passphrase is a line, not a file.
const maxPassphraseBytes = 4 << 10

// credentialsDir is where systemd puts credentials (systemd.exec(5), LoadCredential=).
const credentialsDir = "CREDENTIALS_DIRECTORY"

// ErrNoPassphrase says that none of the places of a [PassphraseSource] had one.
var ErrNoPassphrase = errors.New("keyfile: no passphrase given")

// PassphraseSource lists the places a passphrase may come from. The first that applies is used; when it fails,
// the next is not tried, so that a misspelt file name does not end in a prompt nobody sees.
type PassphraseSource struct {
	File           string // a path, or "-" for standard input
	Env            string // name of an environment variable that holds the passphrase itself; unset does not apply
	CredentialName string // a file in $CREDENTIALS_DIRECTORY; an absent one does not apply
	Prompt         bool   // ask on the terminal, without echo

	Label   string // what the prompt calls it, "passphrase" if empty
	Confirm bool   // prompt twice; for a passphrase that seals something new
}

// surroundings are what Get needs from the process, so that tests can do without a terminal.
type surroundings struct {
	stdin  io.Reader
	lookup func(name string) (string, bool)
	ask    func(prompt string) ([]byte, error) // nil when there is no terminal
}

// Get returns the passphrase, without one trailing line end, and never empty. It is secret: clear it after use.
func (s PassphraseSource) Get() ([]byte, error) {
	around := surroundings{stdin: os.Stdin, lookup: os.LookupEnv}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		around.ask = askTerminal
	}
	return s.get(around)
}

func (s PassphraseSource) get(around surroundings) ([]byte, error) {
	if s.File == "-" && around.ask != nil {
		return s.fromPrompt(around.ask) // a line read from a terminal would show on it
	}
	if s.File == "-" {
		return readPassphrase(around.stdin, "standard input")
	}
	if s.File != "" {
		return s.fromFile(s.File, around)
	}
	if value, set := around.lookup(s.Env); s.Env != "" && set {
		return readPassphrase(strings.NewReader(value), "environment variable "+s.Env)
	}
	if secret, applies, err := s.fromCredential(around); applies {
		return secret, err
	}
	if s.Prompt && around.ask != nil {
		return s.fromPrompt(around.ask)
	}
	return nil, fmt.Errorf("%w: %s", ErrNoPassphrase, s.describe())
}

// fromFile refuses a file that others may read: what it protects would lie open with it. Pipes and devices are as
// private as whoever made them, and files in systemd's directory as the directory: they may belong to root and carry
// an access list, which shows as rights of the group.
func (s PassphraseSource) fromFile(path string, around surroundings) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: passphrase: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keyfile: passphrase: %w", err)
	}
	if info.Mode().IsRegular() && isShared(info) && !isCredential(path, around) {
		return nil, fmt.Errorf("%w: passphrase file %s (mode %04o); mend it with: chmod 600 %s", ErrShared, path, info.Mode().Perm(), path)
	}
	if err := checkOwner(path, info); err != nil {
		return nil, err
	}
	return readPassphrase(f, path)
}

// ErrForeign says that a passphrase file belongs to another user.
var ErrForeign = errors.New("keyfile: this file belongs to another user")

// checkOwner refuses a file of another user than this one and root: its owner knows the passphrase, whatever the mode
// says, and can put another in its place.
func checkOwner(path string, info fs.FileInfo) error {
	uid, known := ownerOf(info)
	if !known || !info.Mode().IsRegular() || uid == 0 || uid == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%w: passphrase file %s (uid %d, this process runs as %d); copy it into a file of your own, or hand it over by a pipe", ErrForeign, path, uid, os.Geteuid())
}

// isCredential reports whether path lies in the directory that systemd made for this process alone.
func isCredential(path string, around surroundings) bool {
	dir, set := around.lookup(credentialsDir)
	return set && dir != "" && filepath.Dir(path) == filepath.Clean(dir)
}

func (s PassphraseSource) fromCredential(around surroundings) (secret []byte, applies bool, err error) {
	dir, set := around.lookup(credentialsDir)
	if !set || dir == "" || s.CredentialName == "" {
		return nil, false, nil
	}
	if !filepath.IsLocal(s.CredentialName) || filepath.Base(s.CredentialName) != s.CredentialName {
		return nil, true, fmt.Errorf("keyfile: passphrase: credential name %q is a path", s.CredentialName)
	}
	secret, err = s.fromFile(filepath.Join(dir, s.CredentialName), around)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return secret, true, err
}

func (s PassphraseSource) fromPrompt(ask func(string) ([]byte, error)) ([]byte, error) {
	label := s.Label
	if label == "" {
		label = "passphrase"
	}
	first, err := ask("Enter " + label + ": ")
	if err != nil {
		return nil, fmt.Errorf("keyfile: prompt for %s: %w", label, err)
	}
	if len(first) == 0 {
		return nil, fmt.Errorf("keyfile: prompt: %s is empty", label)
	}
	if !s.Confirm {
		return first, nil
	}
	second, err := ask("Repeat " + label + ": ")
	defer clear(second)
	if err != nil {
		clear(first)
		return nil, fmt.Errorf("keyfile: prompt for %s: %w", label, err)
	}
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, fmt.Errorf("keyfile: prompt: the two entries of %s differ", label)
	}
	return first, nil
}

// describe lists the places for the error that none had a passphrase.
func (s PassphraseSource) describe() string {
	var places []string
	if s.Env != "" {
		places = append(places, "environment variable "+s.Env+" is not set")
	}
	if s.CredentialName != "" {
		places = append(places, "no systemd credential "+s.CredentialName)
	}
	if s.Prompt {
		places = append(places, "standard input is not a terminal")
	}
	if len(places) == 0 {
		return "no source"
	}
	return strings.Join(places, ", ")
}

// errInterrupted is what a person answers who changed their mind.
var errInterrupted = errors.New("interrupted")

// askTerminal prompts on standard error, so that standard output stays clean. A signal ends it with the echo back on:
// the read itself cannot be called off, so it is left behind, and the process ends soon.
func askTerminal(prompt string) ([]byte, error) { return askWith(term.ReadPassword, prompt) }

func askWith(read func(terminal int) ([]byte, error), prompt string) ([]byte, error) {
	in := int(os.Stdin.Fd())
	before, err := term.GetState(in)
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer, 1)
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	go func() {
		secret, err := read(in)
		answers <- answer{secret, err}
	}()
	select {
	case a := <-answers:
		return a.secret, a.err
	case <-signals:
		return nil, errors.Join(errInterrupted, term.Restore(in, before))
	}
}

func readPassphrase(r io.Reader, name string) ([]byte, error) {
	text, err := readBounded(r, name, maxPassphraseBytes)
	if err != nil {
		return nil, err
	}
	line := bytes.TrimSuffix(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("keyfile: passphrase from %s is empty", name)
	}
	return line, nil
}
