package cmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
)

// maxSecretBytes bounds a token file: a token is one line.
const maxSecretBytes = 64 << 10

// secretSource lists where a token may come from: a flag beats a file beats
// the environment.
type secretSource struct {
	what string // "API token"
	flag string // flag that holds the secret itself; using it is warned of
	file string // flag that names a file
	env  string // variable that holds the secret itself
}

// apiToken returns the API token of the global flags.
func (p *program) apiToken(c *cli.Context) (string, error) {
	token, err := p.secret(c, secretSource{what: "API token", flag: "token", file: "token-file", env: "EDGECODER_TOKEN"})
	if err == nil && token == "" {
		err = usagef("no API token: run `. DIR/env` (`edgecoder cluster up` wrote it), or give --token-file FILE, EDGECODER_TOKEN_FILE or EDGECODER_TOKEN")
	}
	return token, err
}

// secret returns a token's text, "" if no source has one.
func (p *program) secret(c *cli.Context, s secretSource) (string, error) {
	if s.flag != "" && c.String(s.flag) != "" {
		p.say("warning: --%s shows the %s to every user of this machine: use --%s or %s", s.flag, s.what, s.file, s.env)
		return checkSecret(s.what, "--"+s.flag, c.String(s.flag))
	}
	path, env := c.String(s.file), os.Getenv(s.env)
	if env != "" && !p.given[s.file] { // a file named by a variable as well does not outrank it
		return checkSecret(s.what, s.env, env)
	}
	if path == "" {
		return "", nil
	}
	text, err := p.secretFile(s.what, path)
	if err != nil {
		return "", err
	}
	return checkSecret(s.what, path, text)
}

// secretFile reads a small secret. One that others may read is warned of
// rather than refused: containers mount secrets that way.
func (p *program) secretFile(what, path string) (string, error) {
	if path == "-" {
		text, err := readBounded(p.in, maxSecretBytes)
		if err != nil {
			return "", usagef("read %s from standard input: %w", what, err)
		}
		defer clear(text)
		return string(text), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", usagef("read %s: %w", what, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && !isCredential(path) {
		p.say("warning: others may read %s (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := readBounded(f, maxSecretBytes)
	if err != nil {
		return "", usagef("read %s from %s: %w", what, path, err)
	}
	defer clear(text)
	return string(text), nil
}

// isCredential tells whether systemd made the file for this process alone: an
// access list of its shows as rights of the group.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(path) == filepath.Clean(dir)
}

// checkSecret refuses what is certainly no token, so that the wrong file is not sent anywhere.
func checkSecret(what, where, text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", usagef("the %s from %s is empty", what, where)
	}
	if _, err := crypto.ParseTokenText(text); err != nil {
		return "", usagef("the %s from %s: %w", what, where, err)
	}
	return text, nil
}

// readInput reads a file that a flag names, or standard input for "-".
func (p *program) readInput(flag, path string, limit int) ([]byte, error) {
	if path == "-" {
		data, err := readBounded(p.in, limit)
		if err != nil {
			return nil, usagef("--%s: read standard input: %w", flag, err)
		}
		return data, nil
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("--%s %s: there is no such file", flag, path)
		}
		return nil, usagef("--%s: %w", flag, err)
	}
	defer f.Close()
	data, err := readBounded(f, limit)
	if err != nil {
		return nil, usagef("--%s %s: %w", flag, path, err)
	}
	return data, nil
}

func readBounded(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return data, nil
}
