package cmd

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/node"
)

var somePlan = node.RecoveryPlan{
	ClusterID: testClusterID, Chosen: "id-2", ChosenName: "node2", ChosenDir: "/var/lib/two", MayLose: true, WallMs: testNowMs,
	Copies: []*node.SurvivingCopy{
		{DataDir: "/var/lib/two", NodeID: "id-2", Name: "node2", Role: "coordinator", Epoch: 1, SnapshotIndex: 8192, LastIndex: 9001, LastTerm: 4,
			CurrentTerm: 5, ChainSize: 3, ChainHead: hashText, Voters: []string{"id-1", "id-2", "id-3"}},
		{DataDir: "/var/lib/one", NodeID: "id-1", Name: "node1", Role: "coordinator", Epoch: 1, LastIndex: 8000, LastTerm: 4,
			CurrentTerm: 4, ChainHead: "BLACKLIST_GENESIS", Voters: []string{"id-1", "id-2", "id-3"}, Damage: []string{"raft.db: entry 7: the checksum does not match"}},
	},
	Why:       []string{"node2: no sound copy of a coordinator is newer", "1 of 3 voters have a sound copy here"},
	Reachable: []node.ReachablePeer{{NodeID: "id-3", Name: "node3", Address: "10.0.0.3:4301", Answer: "its server answers"}},
	Risk:      &someRisk,
}

var someRisk = node.RecoveryRisk{OtherTokens: 3, BansInForce: 2, ActiveAgents: 7,
	Tokens: []node.RiskyToken{{ID: "t1", Role: "admin", Label: "bootstrap", CreatedMs: testNowMs - 3_600_000}, {ID: "t2", Role: "operator", CreatedMs: testNowMs - 60_000}},
	Known: []node.CopyLoss{{Name: "node1", DataDir: "/var/lib/one", TokensRevoked: []string{"t2"}, BansLost: 1, AgentsChanged: 1,
		BansLostList: []client.Ban{{AgentID: "a-1", EventID: "e-1", ReasonCode: "manual_review"}},
		AgentsList:   []client.AgentChange{{AgentID: "a-2", State: "revoked", Then: "active"}}}}}

var someRecovery = recoveredView{
	RecoveryDone: node.RecoveryDone{ClusterID: testClusterID, NodeID: "id-2", Name: "node2", DataDir: "/var/lib/two", Epoch: 2,
		ChainSize: 3, ChainHead: hashText, AdmissionsFromMs: testNowMs + 120_001},
	Next: []string{"first", "then"},
}

var someClocks = client.Clocks{Epoch: 1, ClockMs: testNowMs + 3_600_000, MaxSkewMs: 120_000, Voters: []client.VoterClock{
	{ID: "id-1", Name: "node1", Leader: true, WallMs: testNowMs, AheadMs: 3_600_000},
	{ID: "id-2", Name: "node2", WallMs: testNowMs + 3_700_000, AheadMs: -100_000},
	{ID: "id-3", Name: "node3"},
}}

func TestRecoverUsage(t *testing.T) {
	cleanEnv(t)
	pass := writeTemp(t, "pass", "correct horse battery\n")
	empty := t.TempDir()
	for _, tt := range []struct {
		args   string
		status int
		says   string
	}{
		{"recover", exitUsage, "--data-dir is missing"},
		{"recover what", exitUsage, "unknown command"},
		{"recover --data-dir a --data-dir b --data-dir c --passphrase-file p --passphrase-file q", exitUsage, "2 times for 3 directories"},
		{"recover --data-dir " + empty + " --passphrase-file " + empty + "/none", exitUsage, "no such file"},
		{"recover --data-dir " + empty + " --passphrase-file " + pass, exitRefused, "no server's data directory"},
		{"recover --data-dir " + empty + "/none --passphrase-file " + pass, exitRefused, "no such file"},
		{"recover --data-dir " + empty + " --format yaml", exitUsage, "--format"},
		{"recover --retire --data-dir " + empty + "/none", exitRefused, "no such file"},
		{"recover clock now", exitUsage, "unexpected argument"},
	} {
		r := runArgs(t, "", strings.Fields(tt.args)...)
		if r.status != tt.status || !strings.Contains(r.err, tt.says) || r.out != "" {
			t.Errorf("%s: exit status %d\n%s%s", tt.args, r.status, r.out, r.err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(empty, "none")); err == nil {
		t.Errorf("a look made the directory: %v", entries)
	}
}

// TestRecoverTokenSteps: what is to be done about tokens depends on what may be lost.
func TestRecoverTokenSteps(t *testing.T) {
	for _, tt := range []struct {
		done   node.RecoveryDone
		revoke bool
		says   string
	}{
		{node.RecoveryDone{}, false, ""},
		{node.RecoveryDone{Risk: &someRisk}, false, "2 tokens of admins and operators"},
		{node.RecoveryDone{Risk: &someRisk, AdminToken: "t9"}, true, "the new admin token is t9"},
		{node.RecoveryDone{Finished: true}, true, "no token was revoked"},
	} {
		got := strings.Join(tokenSteps(tt.done, tt.revoke), "\n")
		if tt.says == "" != (got == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%+v: %s", tt.done, got)
		}
	}
	drawn := &table{now: time.UnixMilli(testNowMs)}
	drawRecovered(drawn, recoveredView{RecoveryDone: node.RecoveryDone{Risk: &someRisk, AdminToken: "t9"}})
	var text bytes.Buffer
	if err := drawn.write(&text, false); err != nil || strings.Contains(text.String(), "in force again") || !strings.Contains(text.String(), "7 are active") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestRecoverRetire(t *testing.T) {
	cleanEnv(t)
	dir := filepath.Dir(writeTemp(t, "node.keys", "keys"))
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := runArgs(t, "", "recover", "--retire", "--data-dir", dir, "--reason", "replaced", "--format", "json")
	wantStatus(t, r, exitDone)
	text, err := os.ReadFile(filepath.Join(dir, "retired.json"))
	var mark node.Retirement
	if err != nil || json.Unmarshal(text, &mark) != nil || mark.Reason != "replaced" || mark.AtMs != testNowMs {
		t.Errorf("the mark: %s %v", text, err)
	}
}

func TestRecoverClockShowsFirst(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/recover/clock":  always(someClocks),
		"POST /v1/recover/clock": always(client.ClockRecovered{Epoch: 2, ClockMs: testNowMs, AdmissionsFromMs: testNowMs + 120_001, Index: 9}),
	})
	pointAt(t, f)
	r := runArgs(t, "", "recover", "clock")
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.out, "1h0m0s") || !strings.Contains(r.err, "--yes") || len(f.asked("POST /v1/recover/clock")) != 0 {
		t.Errorf("%s%s", r.out, r.err)
	}
	r = runArgs(t, "", "recover", "clock", "--reason", "ahead", "--yes", "--format", "json")
	wantStatus(t, r, exitDone)
	var done client.ClockRecovered
	if err := json.Unmarshal([]byte(r.out), &done); err != nil || done.Epoch != 2 {
		t.Errorf("%v %s", err, r.out)
	}
	if asked := f.asked("POST /v1/recover/clock"); len(asked) != 1 || asked[0].body != `{"reason":"ahead"}` {
		t.Errorf("asked: %+v", asked)
	}
}

func TestRecoverClockThatIsRight(t *testing.T) {
	clocks := someClocks
	for what, status := range map[string]int{"behind": exitRefused, "unknown": exitUnknown} {
		leader := client.VoterClock{ID: "id-1", Name: "node1", Leader: true, WallMs: testNowMs, AheadMs: -20}
		if what == "unknown" {
			leader.WallMs, leader.AheadMs = 0, 0
		}
		clocks.Voters = []client.VoterClock{leader}
		f := newFakeAPI(t, map[string]reply{
			"GET /v1/recover/clock":  always(clocks),
			"POST /v1/recover/clock": always(&client.Error{Code: client.CodeConflict, Detail: "the cluster clock does not run ahead"}),
		})
		pointAt(t, f)
		if r := runArgs(t, "", "recover", "clock"); r.status != status {
			t.Errorf("%s: exit status %d\n%s", what, r.status, r.err)
		}
		if r := runArgs(t, "", "recover", "clock", "--yes"); r.status != exitRefused {
			t.Errorf("%s, --yes: exit status %d\n%s", what, r.status, r.err)
		}
	}
}

// A copy that holds a restore says what is wrong with it.
func TestRecoverNamesARestore(t *testing.T) {
	for state, c := range map[string]node.SurvivingCopy{
		"sound":               {Role: "coordinator"},
		"restore passed over": {Role: "coordinator", Restore: "passed over"},
		"restore unconfirmed": {Role: "coordinator", Restore: "unconfirmed"},
		"recovered":           {Role: "coordinator", Restore: "passed over", Recovered: true},
		"damaged":             {Role: "coordinator", Restore: "unconfirmed", Damage: []string{"torn"}},
	} {
		if got := copyState(&c); got != state {
			t.Errorf("%+v: %q, want %q", c, got, state)
		}
	}
}
