package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// nowhere is a process without input, environment or terminal.
func nowhere() surroundings {
	return surroundings{stdin: strings.NewReader(""), lookup: func(string) (string, bool) { return "", false }}
}

func environment(vars map[string]string) surroundings {
	around := nowhere()
	around.lookup = func(name string) (string, bool) {
		value, set := vars[name]
		return value, set
	}
	return around
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPassphraseSources(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "pass"), "from file\r\n", 0o600)
	writeFile(t, filepath.Join(dir, "cred"), "from systemd\n", 0o400)
	vars := map[string]string{"PASS": "from env\n", credentialsDir: dir}
	stdin := environment(vars)
	stdin.stdin = strings.NewReader("from stdin\n\n")
	prompting := environment(vars)
	prompting.ask = func(string) ([]byte, error) { return []byte("from prompt"), nil }
	for name, c := range map[string]struct {
		source PassphraseSource
		around surroundings
		want   string
	}{
		"file":                      {PassphraseSource{File: file, Env: "PASS", Prompt: true}, prompting, "from file"},
		"stdin, one newline off":    {PassphraseSource{File: "-"}, stdin, "from stdin\n"},
		"environment":               {PassphraseSource{Env: "PASS", CredentialName: "cred"}, prompting, "from env"},
		"systemd":                   {PassphraseSource{Env: "NONE", CredentialName: "cred", Prompt: true}, prompting, "from systemd"},
		"prompt":                    {PassphraseSource{Env: "NONE", CredentialName: "none", Prompt: true}, prompting, "from prompt"},
		"prompt, asked twice":       {PassphraseSource{Prompt: true, Confirm: true}, prompting, "from prompt"},
		"only the prompt was asked": {PassphraseSource{Prompt: true}, prompting, "from prompt"},
	} {
		got, err := c.source.get(c.around)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPassphraseRefused(t *testing.T) {
	dir := t.TempDir()
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n", 0o600)
	large := writeFile(t, filepath.Join(dir, "large"), strings.Repeat("x", maxPassphraseBytes+1), 0o600)
	vars := map[string]string{"PASS": "from env", "EMPTY": "", credentialsDir: dir, "": "nameless"}
	around := environment(vars)
	prompt := environment(vars)
	answers := []string{"one", "two", ""}
	prompt.ask = func(string) ([]byte, error) {
		answer := answers[0]
		answers = answers[1:]
		return []byte(answer), nil
	}
	failing := nowhere()
	failing.ask = func(string) ([]byte, error) { return nil, errors.New("terminal gone") }
	for _, c := range []struct {
		name   string
		source PassphraseSource
		around surroundings
		want   string
	}{
		{"file absent: the next is not tried", PassphraseSource{File: filepath.Join(dir, "none"), Env: "PASS"}, around, "none"},
		{"file empty", PassphraseSource{File: empty, Env: "PASS"}, around, "empty"},
		{"file large", PassphraseSource{File: large}, around, "larger"},
		{"file is a directory", PassphraseSource{File: dir}, around, "directory"},
		{"variable empty", PassphraseSource{Env: "EMPTY"}, around, "EMPTY is empty"},
		{"credential empty", PassphraseSource{CredentialName: "empty"}, around, "empty"},
		{"credential is a path", PassphraseSource{CredentialName: "../x"}, around, "path"},
		{"credential is a parent", PassphraseSource{CredentialName: ".."}, around, "path"},
		{"stdin empty", PassphraseSource{File: "-"}, around, "standard input is empty"},
		{"prompt entries differ", PassphraseSource{Prompt: true, Confirm: true}, prompt, "differ"},
		{"prompt empty", PassphraseSource{Prompt: true}, prompt, "empty"},
		{"prompt fails", PassphraseSource{Prompt: true}, failing, "terminal gone"},
		{"no terminal", PassphraseSource{Prompt: true, Env: "NONE", CredentialName: "none"}, around, "NONE is not set, no systemd credential none, standard input is not a terminal"},
		{"nothing at all", PassphraseSource{}, around, "no source"},
	} {
		got, err := c.source.get(c.around)
		if err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if _, err := (PassphraseSource{Env: "NONE"}).get(around); !errors.Is(err, ErrNoPassphrase) {
		t.Errorf("nothing applies: %v", err)
	}
	if _, err := (PassphraseSource{File: filepath.Join(dir, "none")}).get(around); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file absent: %v", err)
	}
}

// TestPassphraseFileOfOthers: a passphrase that others may read protects nothing. What systemd hands out is private
// by its directory, whatever rights the file shows.
func TestPassphraseFileOfOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits")
	}
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "pass"), "secret words", 0o600)
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o440, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := PassphraseSource{File: path}.get(nowhere())
		if !errors.Is(err, ErrShared) || got != nil || !strings.Contains(err.Error(), "chmod 600 "+path) || strings.Contains(err.Error(), "secret words") {
			t.Errorf("mode %o: %q, %v", mode, got, err)
		}
		systemd := environment(map[string]string{credentialsDir: dir + "/"})
		for _, source := range []PassphraseSource{{CredentialName: "pass"}, {File: path}} {
			if got, err := source.get(systemd); err != nil || string(got) != "secret words" {
				t.Errorf("mode %o, credential %+v: %q, %v", mode, source, got, err)
			}
		}
		elsewhere := environment(map[string]string{credentialsDir: filepath.Join(dir, "other")})
		if _, err := (PassphraseSource{File: path}).get(elsewhere); !errors.Is(err, ErrShared) {
			t.Errorf("mode %o, not a credential: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if got, err := (PassphraseSource{File: path}).get(nowhere()); err != nil || string(got) != "secret words" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPassphraseFromPipe: `--passphrase-file <(command)`, whatever mode the pipe shows.
func TestPassphraseFromPipe(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux names an open pipe by /proc/self/fd, as CI does")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("from a pipe\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := (PassphraseSource{File: fmt.Sprintf("/proc/self/fd/%d", r.Fd())}).get(nowhere())
	if err != nil || string(got) != "from a pipe" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPassphraseFromStandardInputOnATerminal: a line read from a terminal would show on it.
func TestPassphraseFromStandardInputOnATerminal(t *testing.T) {
	around := nowhere()
	around.stdin = strings.NewReader("read with echo\n")
	asked := 0
	around.ask = func(string) ([]byte, error) { asked++; return []byte("typed"), nil }
	if got, err := (PassphraseSource{File: "-", Confirm: true}).get(around); err != nil || string(got) != "typed" || asked != 2 {
		t.Errorf("%q, %v, asked %d times", got, err, asked)
	}
}

// owned is a file of a user.
type owned struct {
	fs.FileInfo
	sys any
}

func (o owned) Sys() any { return o.sys }

// TestPassphraseFileOfAnotherUser: its owner knows the passphrase, whatever the mode says.
func TestPassphraseFileOfAnotherUser(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "pass"), "secret\n", 0o600)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	uid, known := ownerOf(info)
	if !known {
		t.Skip("Windows has no user ids")
	}
	if uid != os.Geteuid() || checkOwner(path, info) != nil {
		t.Errorf("a file of our own is of %d: %v", uid, checkOwner(path, info))
	}
	for other, refused := range map[int]bool{0: false, os.Geteuid(): false, os.Geteuid() + 1: true} {
		if err := checkOwner(path, owned{info, sysOf(other)}); errors.Is(err, ErrForeign) != refused {
			t.Errorf("of user %d: %v", other, err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Skip("only a file system that lets root give a file away can hold a foreign one (CI runs this as root): ", err)
	}
	if _, err := (PassphraseSource{File: path}).get(nowhere()); !errors.Is(err, ErrForeign) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
