package cmd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completions returns the candidates of a line whose words a bar parts; the
// last one is being typed.
func completions(t *testing.T, shell, line string) []string {
	t.Helper()
	r := runArgs(t, "", append([]string{completeCommand, shell}, strings.Split(line, "|")...)...)
	wantStatus(t, r, exitDone)
	var texts []string
	for row := range strings.Lines(r.out) {
		text, help, ok := strings.Cut(strings.TrimSuffix(row, "\n"), "\t")
		if !ok || strings.ContainsRune(help, '\t') {
			t.Fatalf("%q: row %q", line, row)
		}
		texts = append(texts, text)
	}
	return texts
}

func TestCompletions(t *testing.T) {
	for _, tt := range []struct{ shell, line, want string }{ // want: all of them, or with "…" some of them
		{"zsh", "", "blacklist cluster completion …"},
		{"zsh", "cl", "cluster"},
		{"zsh", "cluster|", "up down status start stop restart"},
		{"zsh", "peers|", "remove"},
		{"zsh", "cluster|st", "status start stop"},
		{"zsh", "cluster|up|-", "--help --data --nodes --format --addr …"},
		{"zsh", "cluster|up|--nod", "--nodes"},
		{"zsh", "cluster|up|--nodes|3|--nod", ""},
		{"zsh", "--no-such|cl", ""},
		{"zsh", "frobnicate|", ""},
		{"zsh", "--addr|x|cluster|do", "down"},
		{"zsh", "cluster|--data|d|do", "down"},
		{"zsh", "token|create|--role|o", "observer operator"},
		{"zsh", "token|create|--role=op", "--role=operator"},
		{"zsh", "token|create|--format|", "table json"},
		{"zsh", "--format|", "table json"},
		{"zsh", "keys|generate|--type|", "ed25519 x25519"},
		{"zsh", "blacklist|add|a|--reason-code|manual", "manual_review"},
		{"zsh", "agent|list|--state|p", "pending"},
		{"zsh", "server|--log-level|w", "warn"},
		{"zsh", "server|--clock", ""}, // hidden
		{"zsh", "audit|tail|--level|H", "HIGH"},
		{"zsh", "events|--type|ba", "ban"},
		{"zsh", "sign|--profile|", "five-header rfc9421 …"},
		{"zsh", "completion|", "bash zsh fish"},
		{"zsh", "completion|bash|", ""},
		{"zsh", "policy|set|auto", "auto_approve=true auto_approve=false"},
		{"zsh", "chaos|run|kill-l", "kill-leader …"},
		{"zsh", "sign|--key|", ""}, // a file: the shell's part
		{"zsh", "blacklist|add|--|--", ""},
		{"zsh", "recover|--data-dir|a|--data-d", "--data-dir"}, // may be given again
		{"bash", "token|create|--role|=|op", "operator"},
		{"bash", "token|create|--role|=", "coordinator observer operator admin …"},
		{"bash", "status|--addr|https|:|//h|:|1|--for", "--format"},
		{"bash", "policy|set|auto_approve|=|t", "true"},
	} {
		got := completions(t, tt.shell, tt.line)
		want := strings.Fields(tt.want)
		some := slices.Contains(want, "…")
		want = slices.DeleteFunc(want, func(s string) bool { return s == "…" })
		missing := slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(got, s) })
		if missing || !some && len(got) != len(want) {
			t.Errorf("%s %q: got %q, want %q", tt.shell, tt.line, got, tt.want)
		}
	}
}

// TestCompletionsReachEveryCommand walks the whole tree through the answers.
func TestCompletionsReachEveryCommand(t *testing.T) {
	for path, leaf := range leaves(testProgram().app().Commands, nil) {
		if leaf.Hidden {
			continue
		}
		words := strings.Fields(path)
		for i := range words {
			line := strings.Join(append(slices.Clone(words[:i]), ""), "|")
			if !slices.Contains(completions(t, "fish", line), words[i]) {
				t.Errorf("%q does not lead to %q", line, path)
			}
		}
	}
}

// TestCompletionScriptOfShell runs each script in its own shell, if that is here.
func TestCompletionScriptOfShell(t *testing.T) {
	for shell, check := range map[string]string{
		"bash": `. ./script; COMP_WORDS=(edgecoder token create --role = op); COMP_CWORD=5; _edgecoder; echo "${COMPREPLY[@]}"`,
		"zsh": `compdef() { :; }; . ./script
_describe() { print -l -- "${(@P)2}" | cut -d: -f1; }; _files() { print files; }
words=(edgecoder token create --role op); CURRENT=5; PREFIX=op; _edgecoder`,
		"fish": `source ./script; complete --do-complete "edgecoder token create --role op" | cut -f1`,
	} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed, and only it can say whether it takes the script (CI installs it); TestCompletions tries the engine behind all three", shell)
			}
			dir := t.TempDir()
			r := runArgs(t, "", "completion", shell)
			wantStatus(t, r, exitDone)
			if err := os.WriteFile(filepath.Join(dir, "script"), []byte(r.out), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(path, "-c", check)
			cmd.Dir = dir
			var errOut bytes.Buffer
			cmd.Stderr = &errOut
			out, err := cmd.Output()
			if strings.TrimSpace(string(out)) != "operator" || err != nil {
				t.Errorf("got %q, %v, %s", out, err, errOut.String())
			}
		})
	}
}

// FuzzComplete: whatever stands before the cursor, the answer has its form.
func FuzzComplete(f *testing.F) {
	for _, seed := range []string{"bash\x00token\x00--role\x00=\x00", "zsh\x00-", "fish\x00--x=\x00", "bash\x00=\x00:\x00"} {
		f.Add(seed)
	}
	app := testProgram().app()
	f.Fuzz(func(t *testing.T, joined string) {
		var out strings.Builder
		args := strings.Split(joined, "\x00")
		if err := testProgram().complete(&out, app, args); (err != nil) != (len(args) < 2) {
			t.Fatalf("%q: %v", args, err)
		}
		for row := range strings.Lines(out.String()) {
			if strings.Count(row, "\t") != 1 {
				t.Fatalf("%q: row %q", args, row)
			}
		}
	})
}
