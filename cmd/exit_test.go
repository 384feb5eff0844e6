package cmd

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/terminal"
)

func TestExitStatusOfErrors(t *testing.T) {
	for code, want := range map[string]int{
		client.CodeUnauthorized: 1, client.CodeForbidden: 1, client.CodeNotFound: 1, client.CodeConflict: 1, client.CodeInvalid: 1,
		client.CodeTooLarge: 1, client.CodeRateLimited: 1,
		client.CodeOverloaded: 3, client.CodeUnavailable: 3, client.CodeUnknownOutcome: 3, client.CodeDiskFull: 3, client.CodeInternal: 3,
	} {
		if got := exitStatusOf(code); got != want {
			t.Errorf("%s: exit status %d, want %d", code, got, want)
		}
	}
}

func TestErrorsSayWhatToDoNext(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/status":  always(&client.Error{Code: client.CodeUnauthorized, Detail: "the token is revoked", RequestID: "r-1"}),
		"GET /v1/members": always(&client.Error{Code: client.CodeForbidden, Detail: "role verifier may not"}),
	})
	pointAt(t, f)
	r := runArgs(t, "", "status")
	wantStatus(t, r, exitRefused)
	for _, want := range []string{"edgecoder: unauthorized: the token is revoked", "--token-file", "request id: r-1"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("stderr %q lacks %q", r.err, want)
		}
	}
	wantStatus(t, runArgs(t, "", "members"), exitRefused)
	if r.out != "" {
		t.Errorf("an error wrote to standard output: %q", r.out)
	}
}

// TestHintsNameTheCredentialThatWasRefused: an API token does not mend a join.
func TestHintsNameTheCredentialThatWasRefused(t *testing.T) {
	refused := fmt.Errorf("join at 127.0.0.1:1: %w", &client.Error{Code: client.CodeUnauthorized, Detail: "the join token is used up"})
	var out strings.Builder
	printError(&out, didNotStart("c2", refused))
	for _, want := range []string{"server c2 did not start", "used up", "--join-token-file", "EDGECODER_JOIN_TOKEN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
	if strings.Contains(out.String(), "--token-file") || strings.Contains(out.String(), "EDGECODER_TOKEN") {
		t.Errorf("%q speaks of API tokens", out.String())
	}
	if exitStatus(didNotStart("c2", refused)) != exitRefused || exitStatus(didNotStart("c2", &client.Error{Code: client.CodeUnavailable})) != exitUnknown {
		t.Error("the hint changed the exit status")
	}
}

func TestNobodyAnswersIsUnavailable(t *testing.T) {
	f := newFakeAPI(t, nil)
	pointAt(t, f)
	f.Close()
	wantStatus(t, runArgs(t, "", "status", "--timeout", "300ms"), exitUnknown)
}

func TestUsageErrors(t *testing.T) {
	cleanEnv(t)
	token := testToken(t, "admin")
	for _, tt := range []struct {
		line []string
		want string
	}{
		{[]string{"status"}, "run `. DIR/env`"},
		{[]string{"status", "--addr", "127.0.0.1:1"}, "want a URL"},
		{[]string{"status", "--addr", "http://127.0.0.1:1"}, "no API token"},
		{[]string{"status", "--addr", "https://127.0.0.1:1", "--token", token}, "no cluster CA"},
		{[]string{"status", "--addr", "http://10.0.0.1:1", "--token", token}, "only https"},
		{[]string{"status", "--addr", "http://127.0.0.1:1", "--token", "hunter2"}, "no EdgeCoder token"},
		{[]string{"status", "--addr", "http://127.0.0.1:1", "--token-file", "/nowhere"}, "/nowhere"},
		{[]string{"status", "--format", "xml"}, "--addr"},
		{[]string{"version", "--format", "xml"}, "want table or json"},
		{[]string{"status", "extra"}, `unexpected argument "extra"`},
		{[]string{"agent", "show"}, "ID is missing"},
		{[]string{"agent", "show", ""}, "ID is empty"},
		{[]string{"cluster"}, "which of these"},
		{[]string{"cluster", "up", "--nodes", "9"}, "want 1 to 7"},
		{[]string{"cluster", "up", "--nodes", "three"}, "three"},
		{[]string{"cluster", "status", "--data", "/nowhere"}, "there is no cluster"},
		{[]string{"token", "create"}, "--role"},
		{[]string{"token", "create", "--role", "admin", "--ttl", "soon"}, "--ttl"},
		{[]string{"token", "create", "--role", "admin", "--uses", "0"}, "--uses"},
		{[]string{"policy", "set"}, "KEY=VALUE... is missing"},
		{[]string{"completion", "tcsh"}, "bash, zsh or fish"},
		{[]string{"frobnicate"}, "unknown command"},
	} {
		r := runArgs(t, "", tt.line...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) || r.out != "" {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q; want 2 and %q", tt.line, r.status, r.out, r.err, tt.want)
		}
	}
}

func TestTextsOfOthersDoNotDriveTheTerminal(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/agents/a": always(&client.Error{Code: client.CodeNotFound, Detail: "\x1b[2Jgone\u202e"}),
	})
	pointAt(t, f)
	r := runArgs(t, "", "agent", "show", "a")
	if strings.ContainsAny(r.err, "\x1b\u202e") || !strings.Contains(r.err, `\x1b[2Jgone\u202e`) {
		t.Errorf("stderr %q", r.err)
	}
}

// TestLinesOfOthersDoNotPassForOurs: a server's text has no line at the margin.
func TestLinesOfOthersDoNotPassForOurs(t *testing.T) {
	var out strings.Builder
	printError(&out, fmt.Errorf("ours\ntoo: %w", &client.Error{Code: client.CodeConflict, Detail: "x\nedgecoder: done", RequestID: "r\nedgecoder: done", ClaimID: "a;b\n"}))
	const want = "edgecoder: ours\ntoo: conflict: x\n      edgecoder: done\n  repeat it under the same id: --claim-id 'a;b\\n'\n  request id: r\\nedgecoder: done\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestEveryOutputIsCleaned(t *testing.T) {
	const evil = "a\x1b]0;x\a\x7f\u009b2J\u202eb\U000e0041\nc\x9b"
	const shown = "a\\x1b]0;x\\a\\x7f\\u009b2J\\u202eb\\U000e0041\nc\\ufffd"
	if got := terminal.Plain(evil); got != shown {
		t.Errorf("clean: %q", got)
	}
	if got := terminal.Plain("\x9b2J"); got != `\ufffd2J` { // nothing but a byte that is no UTF-8
		t.Errorf("clean: %q", got)
	}
	if got := terminal.Plain("plain — … ✓ 漢字\n"); got != "plain — … ✓ 漢字\n" {
		t.Errorf("clean: %q", got)
	}
	var out strings.Builder
	p := &program{err: &out}
	p.say("%s", evil)
	if out.String() != shown+"\n" {
		t.Errorf("say: %q", out.String())
	}
	out.Reset()
	if err := writeJSON(&out, map[string]string{"a<": evil}); err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if strings.ContainsAny(out.String(), "\x1b\x7f\u009b\u202e\U000e0041") || json.Unmarshal([]byte(out.String()), &back) != nil || back["a<"] != strings.ToValidUTF8(evil, "\ufffd") {
		t.Errorf("JSON: %q", out.String())
	}
}

func TestChaosSummariesAreCleaned(t *testing.T) {
	var out strings.Builder
	p := &program{out: &out}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.String("format", formatTable, "")
	_ = p.printVerdict(cli.NewContext(nil, flags, nil), chaos.Result{Summary: "one\n\x1b[2Jtwo", Report: "r"}) // undecided
	if out.String() != "one\n\\x1b[2Jtwo\nreport: r\n" {
		t.Errorf("%q", out.String())
	}
}

func TestHelpOfEveryCommandHasAnExample(t *testing.T) {
	app := testProgram().app()
	for _, c := range app.Commands {
		leaves := c.Subcommands
		if len(leaves) == 0 {
			leaves = append(leaves, c)
		}
		for _, leaf := range leaves {
			if !strings.Contains(leaf.Description, "Example") || leaf.UsageText == "" || leaf.Usage == "" {
				t.Errorf("%s %s lacks usage or an example", c.Name, leaf.Name)
			}
			words := []string{c.Name, leaf.Name, "--help"}
			if leaf == c {
				words = words[1:]
			}
			if r := runArgs(t, "", words...); r.status != 0 || !strings.Contains(r.out, leaf.UsageText) {
				t.Errorf("%q: exit status %d, %q", words, r.status, r.out)
			}
		}
	}
}

func TestJSONIsOneDocumentOfTheWireType(t *testing.T) {
	want := client.Status{Node: client.NodeRef{ID: "i", Name: "node1"}, State: "leader", Leader: &client.Leader{Name: "node1"}, Term: 3}
	f := newFakeAPI(t, map[string]reply{"GET /v1/status": always(want)})
	pointAt(t, f)
	r := runArgs(t, "", "--format", "json", "status")
	wantStatus(t, r, exitDone)
	dec := json.NewDecoder(strings.NewReader(r.out))
	var got client.Status
	if err := dec.Decode(&got); err != nil || got.Term != 3 || got.Leader.Name != "node1" || dec.More() {
		t.Fatalf("%v, %+v", err, got)
	}
}
