package cmd

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func testProgram() *program {
	return &program{now: func() time.Time { return time.UnixMilli(1_767_225_600_000) }}
}

func TestSortArgs(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"status", "status"},
		{"status --addr x", "--addr=x status"},
		{"--addr x status", "--addr=x status"},
		{"-addr x status", "--addr=x status"},
		{"agent --format json show a-1", "--format=json agent show -- a-1"},
		{"agent show a-1 --format=json", "--format=json agent show -- a-1"},
		{"agent a show", "!unknown command \"a\""},
		{"cluster stop node1 --kill --data d", "cluster stop --kill --data=d -- node1"},
		{"cluster --data d stop --kill node1", "cluster stop --data=d --kill -- node1"},
		{"cluster stop --kill node1", "cluster stop --kill -- node1"},
		{"--data d cluster status", "cluster status --data=d"},
		{"cluster up --detach=false --nodes 5", "cluster up --detach=false --nodes=5"},
		{"sign --key k POST /tasks --agent a --body -", "sign --key=k --agent=a --body=- -- POST /tasks"},
		{"sign POST --key k -- --agent a", "sign --key=k -- POST --agent a"},
		{"blacklist verify -", "blacklist verify -- -"},
		{"blacklist add -- -agent-", "blacklist add -- -agent-"},
		{"blacklist add a --reason -x", "blacklist add --reason=-x -- a"},
		{"blacklist add a --reason=--addr", "blacklist add --reason=--addr -- a"},
		{"agent show help", "agent show -- help"},
		{"agent show h", "agent show -- h"},
		{"status --help", "status --help"},
		{"-h cluster up --nodes 3", "cluster up --help"},
		{"cluster up extra -h", "cluster up --help"},
		{"help cluster up", "cluster up --help"},
		{"--version", "version"},
		{"peers", "peers"},
		{"peers remove n", "peers remove -- n"},
		{"policy set a=b --timeout 3s c=d", "--timeout=3s policy set -- a=b c=d"},
		{"stat", `!unknown command "stat", did you mean status?`},
		{"cluster dwn", `!unknown command "dwn", did you mean down?`},
		{"blacklist -- add", `!unknown command "add"`},
		{"status --adr x", "!unknown flag --adr of `edgecoder status`, did you mean --addr?"},
		{"status --kill", "!unknown flag --kill"},
		{"--kill status", "!unknown flag --kill of `edgecoder status`"},
		{"cluster stop --kil n", "did you mean --kill?"},
		{"status --addr", "!flag --addr needs a value"},
		{"admit --method --path /x", "!flag --method needs a value"},
		{"admit --method -- /x", "!flag --method needs a value"},
	} {
		got, err := sortArgs(testProgram().app(), strings.Fields(tt.in))
		text := strings.Join(got.args, " ")
		if err != nil {
			text = "!" + err.Error()
			if exitStatus(err) != exitUsage {
				t.Errorf("%q: exit status %d, want %d", tt.in, exitStatus(err), exitUsage)
			}
		}
		if text != tt.want && (err == nil || !strings.Contains(text, strings.TrimPrefix(tt.want, "!"))) {
			t.Errorf("%q: got %q, want %q", tt.in, text, tt.want)
		}
	}
}

func TestSortArgsTellsWhatStoodOnTheLine(t *testing.T) {
	got, err := sortArgs(testProgram().app(), []string{"status", "-addr=x", "--strong"})
	if err != nil || !got.given["addr"] || !got.given["strong"] || got.given["ca"] {
		t.Fatalf("%v, %v", got.given, err)
	}
}

func TestAGroupAloneIsBare(t *testing.T) {
	for words, want := range map[string]bool{"cluster": true, "peers": false, "status": false, "": false} {
		got, err := sortArgs(testProgram().app(), strings.Fields(words))
		if err != nil || got.bare != want {
			t.Errorf("%q: %v, %v", words, got.bare, err)
		}
	}
}

// FuzzSortArgs: whatever is written, sorting neither panics nor changes what
// it already sorted, and operands keep their text and order.
func FuzzSortArgs(f *testing.F) {
	for _, seed := range []string{"status --addr x", "sign --key k POST /t -- -x", "cluster --data d stop n --kill", "-h", "--", "- -", "agent show --format", "--=x", "---a", "a=b"} {
		f.Add(strings.ReplaceAll(seed, " ", "\x00"))
	}
	app := testProgram().app()
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\x00")
		once, err := sortArgs(app, args)
		if err != nil {
			if exitStatus(err) != exitUsage {
				t.Fatalf("%q: %v", args, err)
			}
			return
		}
		twice, err := sortArgs(app, once.args)
		if err != nil || !slices.Equal(once.args, twice.args) {
			t.Fatalf("%q became %q became %q, %v", args, once.args, twice.args, err)
		}
		at := slices.Index(once.args, "--")
		if at < 0 {
			return
		}
		rest := args
		for _, operand := range once.args[at+1:] {
			i := slices.Index(rest, operand)
			if i < 0 {
				t.Fatalf("%q: operand %q came from nowhere or out of order", args, operand)
			}
			rest = rest[i+1:]
		}
	})
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"stauts": "status", "satus": "status", "x": "", "tokne": "token", "": ""} {
		if got := nearest(word, []string{"status", "token", "policy"}); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
