package keyfile

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine gives out no pseudo-terminal, which the prompt is tried on: ", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// echoes reports whether the terminal shows what is typed.
func echoes(t *testing.T, terminal *os.File) bool {
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Error(err)
		return false
	}
	return state.Lflag&unix.ECHO != 0
}

// silent waits until the echo is off: the prompt comes just before.
func silent(t *testing.T, terminal *os.File) {
	for deadline := time.Now().Add(10 * time.Second); echoes(t, terminal) && time.Now().Before(deadline); {
		runtime.Gosched()
	}
}

// TestPromptWithoutEcho asks on a real terminal: what is typed comes back as the
// passphrase and is not shown, and afterwards the terminal shows again.
func TestPromptWithoutEcho(t *testing.T) {
	person, program := openTerminal(t)
	defer func(stdin, stderr *os.File) { os.Stdin, os.Stderr = stdin, stderr }(os.Stdin, os.Stderr)
	os.Stdin, os.Stderr = program, program
	if !echoes(t, program) {
		t.Fatal("a fresh terminal should echo")
	}
	typed := make(chan string, 1)
	go func() {
		shown := ""
		for _, prompt := range []string{"Enter new passphrase: ", "Repeat new passphrase: "} {
			for !strings.Contains(shown, prompt) {
				part := make([]byte, 256)
				n, err := person.Read(part)
				shown += string(part[:n])
				if err != nil {
					break
				}
			}
			silent(t, program)
			if _, err := person.WriteString("typed words\n"); err != nil {
				break
			}
		}
		typed <- shown
	}()
	got, err := PassphraseSource{Prompt: true, Confirm: true, Label: "new passphrase"}.Get()
	if err != nil || string(got) != "typed words" {
		t.Errorf("%q, %v", got, err)
	}
	shown := <-typed
	if !strings.Contains(shown, "Repeat new passphrase: ") || strings.Contains(shown, "typed") {
		t.Errorf("the terminal shows %q", shown)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays without echo")
	}
	rest := make([]byte, 256)
	if n, err := person.Read(rest); err != nil || strings.Contains(string(rest[:n]), "typed") { // the line end after the last prompt
		t.Errorf("the terminal shows %q, %v", rest[:n], err)
	}
}

// TestPromptInterrupted: who changes their mind gets the echo back.
func TestPromptInterrupted(t *testing.T) {
	person, program := openTerminal(t)
	defer func(stdin, stderr *os.File) { os.Stdin, os.Stderr = stdin, stderr }(os.Stdin, os.Stderr)
	os.Stdin, os.Stderr = program, program
	killed := make(chan error, 1)
	go func() {
		silent(t, program)
		killed <- unix.Kill(os.Getpid(), unix.SIGINT)
	}()
	ended := make(chan struct{})
	got, err := askWith(func(terminal int) ([]byte, error) {
		defer close(ended)
		return term.ReadPassword(terminal)
	}, "passphrase: ")
	if !errors.Is(err, errInterrupted) || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays without echo")
	}
	if _, err := person.WriteString("\n"); err != nil { // lets the read that was left behind end
		t.Fatal(err)
	}
	<-ended
}
