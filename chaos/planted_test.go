package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// planted is a bug of a build with the tag "planted", the shortest run found
// that shows it, and the promise and check that must say so.
type planted struct {
	bug, promise, check string
	run                 Scenario
}

// plantedBugs is the table of docs/chaos.md.
func plantedBugs() []planted {
	calm := scenario("calm", "no fault", 11*seconds)
	all := scenario("restored", "all die at once and come back from their snapshots", 14*seconds,
		step(6*seconds, 1*seconds, "kill", map[string]any{"target": "all"}))
	all.Traffic.Agents = 40 // so many that some are banned whenever a snapshot is taken
	return []planted{
		{"local_time", "P4", "digests agree", calm},
		{"receipt_time", "P1", "claims admitted once", narrowWindow()},
		{"restore_no_bans", "P2", "bans hold", all},
		{"old_snapshot", "P3", "records kept", all},
		{"tag_ignored", "P1", "claims admitted once", scenario("calm", "no fault", 4*seconds)},
		{"stale_head", "P3", "chain verifies", manyBans()},
		{"ack_early", "P1", "claims admitted once", loneLeader()},
		{"stale_strong", "P3", "log follows time", scenario("paused", "a follower is paused and wakes up behind", 8*seconds,
			step(3*seconds, 2*seconds, "pause", map[string]any{"target": "follower"}))},
		{"ledger_lost", "P7", "money moved once", onlyMoney()},
		{"ledger_twice", "P7", "ledger adds up", onlyMoney()},
		{"ledger_floor", "P7", "ledger adds up", onlyMoney()},
		{"ledger_half", "P7", "money moved once", onlyMoney()},
	}
}

// endsItself names the bugs that a server may find in its own history while it
// replays its log: it then ends, and what the judge sees is that it stays away.
var endsItself = map[string]bool{"restore_no_bans": true}

// narrowWindow replays what is still acceptable although it is old: agents whose
// clocks run ahead, and a window that passes while the run lasts.
func narrowWindow() Scenario {
	s := scenario("narrow", "no fault, a window of 3 s, agents' clocks are off", 11*seconds)
	s.Traffic.SkewMs, s.Traffic.Weights.PolicySet = 3_000, 0
	s.Traffic.Weights.Replay = 60
	return s
}

func manyBans() Scenario {
	s := scenario("many-bans", "no fault, many bans at once", 6*seconds)
	s.Traffic.Clients, s.Traffic.Weights.Ban = 8, 60
	return s
}

// onlyMoney is little else than the ledger.
func onlyMoney() Scenario {
	s := scenario("only-money", "no fault, money moves", 4*seconds)
	s.Traffic.Weights = Weights{Claim: 10, Move: 60, AccountRead: 10}
	return s
}

// loneLeader takes the followers away and then the leader, before it noticed:
// what it answered meanwhile no majority ever had.
func loneLeader() Scenario {
	const ms = Duration(time.Millisecond)
	return scenario("lone-leader", "followers die, then the leader; it is the last to come back", 18*seconds,
		step(4*seconds, 3*seconds, "kill", map[string]any{"target": "followers"}),
		step(4_700*ms, 8*seconds, "kill", map[string]any{"target": "leader"}))
}

// TestPlanted judges the judges: each planted bug must be found, by the check
// that is meant to find it. It needs EDGECODER_PLANTED=1 (make chaos-planted).
func TestPlanted(t *testing.T) {
	if os.Getenv("EDGECODER_PLANTED") == "" {
		t.Skip("builds a server of its own and takes four minutes: make chaos-planted, of which CI runs two that the simulation is not tried on; it plants eleven itself")
	}
	binary := filepath.Join(t.TempDir(), "edgecoder")
	if out, err := exec.Command("go", "build", "-tags", "planted", "-o", binary, "../cmd/edgecoder").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	bugs := plantedBugs()
	t.Run("none", func(t *testing.T) { // the same build and run without a bug is found good
		if res := runPlanted(t, binary, "", bugs[slices.IndexFunc(bugs, func(p planted) bool { return p.bug == "old_snapshot" })].run); !res.Passed() {
			t.Errorf("judged %s:\n%s", res.Verdict.Result, res.Summary)
		}
	})
	for _, p := range bugs {
		t.Run(p.bug, func(t *testing.T) {
			res := runPlanted(t, binary, p.bug, p.run)
			found := false
			for _, ch := range res.Verdict.Checks {
				for _, f := range ch.Findings {
					if f.Result != judge.Fail {
						continue
					}
					t.Logf("%s [%s] %s", ch.Name, f.Promise, f.What)
					found = found || (ch.Name == p.check && f.Promise == p.promise) || (endsItself[p.bug] && ch.Name == "it works again")
					break
				}
			}
			if !res.Failed() || !found {
				t.Errorf("judged %s, want %s broken by %q:\n%s", res.Verdict.Result, p.promise, p.check, res.Summary)
			}
		})
	}
}

func runPlanted(t *testing.T, binary, bug string, s Scenario) Result {
	t.Helper()
	t.Setenv("PLANTED_BUG", bug)
	res, err := Run(t.Context(), s, Options{Dir: filepath.Join(t.TempDir(), "run"), Binary: binary, Patience: 12 * time.Second, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return res
}
