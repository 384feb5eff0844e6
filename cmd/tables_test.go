package cmd

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
)

var update = flag.Bool("update", false, "rewrite the golden tables")

const hashText = "4d3433997a0d21861fc52928c323e72630ae09d4e4e2439a272b29e9539297c9"

// TestTables keeps what people see; run with -update after a wanted change.
func TestTables(t *testing.T) {
	const ms = testNowMs
	for name, draw := range map[string]func(t *table){
		"status": func(t *table) {
			drawStatus(t, client.Status{
				Node: client.NodeRef{ID: "id-1", Name: "node1"}, ClusterID: testClusterID, State: "follower",
				Leader: &client.Leader{Name: "node2", API: "https://127.0.0.1:4301"}, Term: 2, CommitIndex: 41, AppliedIndex: 40,
				Digest: hashText, DigestIndex: 35, Epoch: 1, ClockMs: ms - 1500, ClockSkewMs: -3,
				Voters: []client.Server{{Name: "node1", Address: "127.0.0.1:1", ClockSkewMs: new(int64(-3))}, {Name: "node2", Address: "127.0.0.1:2"}}, Version: "v1", FeatureLevel: 1, SupportedLevel: 5,
				Logs:       []client.LogStatus{{Log: "blacklist", Records: 9, Size: 7, Root: hashText, AtMs: testNowMs - 4000, Cosigned: 2, Set: 3, Withheld: "record 8 is not sound", ForkedWhy: "two heads"}, {Log: "other"}},
				LevelWaits: []client.LevelWait{{Name: "node2", Level: 4, Version: "v4", Reason: client.LevelOlder}, {Name: "node3", Reason: client.LevelSilent}, {Name: "node4", Reason: client.LevelRecord}},
			})
		},
		"members": func(t *table) {
			drawMembers(t, client.Members{Members: []client.Member{
				{ID: "id-1", Name: "node1", Role: "coordinator", API: "https://a", Raft: "r", Gossip: "g", State: "alive", SinceMs: ms - 7_200_000, ChainSize: 3, ChainHead: hashText},
				{ID: "id-2", Name: "evil\x1b[2J", Role: "edge", State: "dead", SinceMs: ms - 30_000, ChainHead: "BLACKLIST_GENESIS"},
			}})
		},
		"peers": func(t *table) {
			drawPeers(t, client.Peers{Peers: []client.Peer{{ID: "id-1", Name: "node1", Role: "coordinator", PeerID: "coord-1", API: "a", Suffrage: "voter", State: "active", JoinedMs: ms - 3_600_000,
				Health: "lagging", LastContactMs: new(int64(800)), Lag: new(uint64(300)), Version: "v1"},
				{ID: "id-2", Name: "node2", Suffrage: "none", State: "removed", Reason: "silent", RemovedMs: ms}}})
		},
		"policy": func(t *table) {
			drawPolicy(t, client.Policy{Version: 4, RateLimit: client.RateLimit{Requests: 30, WindowMs: 60_000}, MaxSkewMs: 120_000,
				Overrides:         map[string]client.RateLimit{"b": {Requests: 1, WindowMs: 1000}, "a": {Requests: 2, WindowMs: 2000}},
				SignatureProfiles: "rfc9421", AgentProfiles: map[string]string{"old": "any"}})
		},
		"tokens": func(t *table) {
			drawTokens(t, client.Tokens{Tokens: []client.Token{
				{ID: "t1", Role: "admin", State: "active", UsesLeft: -1, CreatedMs: ms - 90_000, Label: "bootstrap"},
				{ID: "t2", Role: "agent", State: "used", CreatedMs: ms - 72*3_600_000, ExpiresMs: ms + 60_000},
			}})
		},
		"agent": func(t *table) {
			drawAgent(t, client.Agent{AgentID: "a-1", State: "pending", KeyID: "k", EnrolledMs: ms, UpdatedMs: ms, Index: 9})
		},
		"agents": func(t *table) {
			drawAgents(t, client.Agents{Agents: []client.Agent{{AgentID: "a-1", State: "active", KeyID: "k", EnrolledMs: ms}}})
		},
		"verdict": func(t *table) {
			drawVerdict(t, client.Admission{Verdict: "admitted", Code: "ok", AgentID: "a-1", Index: 7, ClockMs: ms, ClaimID: "c", Repeated: true})
		},
		"bans": func(t *table) {
			drawBans(t, client.Bans{Bans: []client.Ban{
				{AgentID: "a-1", EventID: "e-1", Seq: 1, ReasonCode: "manual_review", TimestampMs: ms - 1000},
				{AgentID: "a-2", EventID: "e-2", Seq: 2, ReasonCode: "dos_behavior", TimestampMs: ms - 1000, ExpiresAtMs: ms + 72*3_600_000},
			}})
		},
		"change": func(t *table) {
			drawChange(t, "banned", "a-1", client.BlacklistChange{EventID: "e-1", ChainHead: hashText, Size: 1, Index: 5})
		},
		"enforcement": func(t *table) {
			drawEnforcement(t, &client.Enforcement{Size: 7, Coordinators: 3, Edges: 2, EnforcedBy: client.EnforcedBy{Coordinators: 3, Edges: 1}, Members: []client.Enforcing{
				{Name: "e-2", Role: "edge", State: "dead", ChainSize: 6}, {Name: "node1", Role: "coordinator", State: "alive", ChainSize: 7, Enforces: true},
			}})
		},
		"recover-plan":  func(t *table) { drawPlan(t, somePlan) },
		"recover-done":  func(t *table) { drawRecovered(t, someRecovery) },
		"recover-clock": func(t *table) { drawClocks(t, someClocks) },
		"cluster": func(t *table) {
			drawCluster(t, []cluster.NodeStatus{
				{Name: "node1", PID: 7, Running: true, State: "leader", Term: 2, AppliedIndex: 40, Digest: hashText, DigestIndex: 35, API: "https://a"},
				{Name: "node2", API: "https://b"},
				{Name: "node3", PID: 9, Running: true, API: "https://c", Error: "unavailable: no route"},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			drawn := &table{now: time.UnixMilli(ms)}
			draw(drawn)
			var got bytes.Buffer
			if err := drawn.write(&got, false); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got.String() != string(want) {
				t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, got.String(), want)
			}
		})
	}
}

func TestColourKeepsColumnsAligned(t *testing.T) {
	draw := func(colour bool) string {
		d := &table{}
		d.row("NAME", "STATE", "X")
		d.row("a", "dead", "1")
		d.row("b", "something else", "2")
		var out bytes.Buffer
		if err := d.write(&out, colour); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	painted := draw(true)
	if !bytes.Contains([]byte(painted), []byte(red+"dead"+reset)) {
		t.Errorf("%q", painted)
	}
	for _, code := range []string{plain, red, reset} {
		painted = string(bytes.ReplaceAll([]byte(painted), []byte(code), nil))
	}
	if painted != draw(false) {
		t.Errorf("got:\n%s\nwant:\n%s", painted, draw(false))
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"24h": 24 * time.Hour, "30d": 720 * time.Hour, "1m30s": 90 * time.Second, "0": 0, "-1h": 0, "d": 0, "1.5d": 0, "99999999d": 0, "": 0} {
		got, err := parseDuration("ttl", text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
}
