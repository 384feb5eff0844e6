package judge

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// plenty is a run of ten seconds in which enough happened.
func (s *story) plenty() {
	s.run.About.TrafficNS = int64(10 * time.Second)
	s.run.About.Expect = []Kind{KindClaim, KindBan, KindLift, KindPolicySet}
	for i := range int64(10) {
		s.claimBy("b", 1000*i, 1000*i+5, fmt.Sprint("plenty ", i), admitted(uint64(100*i+10), 1000*i+1))
	}
	for i := range int64(2) {
		s.ban("a", 1000*i+10, 1000*i+11, uint64(100*i+11))
		s.lift("a", 1000*i+20, 1000*i+21, uint64(100*i+12))
		s.setPolicy(1000*i+30, 1000*i+31, uint64(i+1), 3, func(op *Op) { op.Index = uint64(100*i + 13) })
	}
}

func (s *story) fault(what, trouble string) *Event {
	s.run.Timeline = append(s.run.Timeline, Event{AtNS: int64(time.Second), EndNS: int64(2 * time.Second), What: what, Fault: true, Error: trouble})
	return &s.run.Timeline[len(s.run.Timeline)-1]
}

func TestEnough(t *testing.T) {
	const enough = "enough happened"
	tell(t, []tale{
		{name: "enough", tell: (*story).plenty},
		{name: "nothing", check: enough, want: Undecided, says: "empty", tell: func(*story) {}},
		{name: "no ban went through", check: enough, want: Undecided, says: "only 0 of ban", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindBan}
			s.unknownBan("a", 0, 5, true)
		}},
		{name: "one of each is not enough", check: enough, want: Undecided, says: "only 1 of admissions succeeded", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindClaim}
			s.claim(0, 5, "n", "c1", admitted(10, 1))
		}},
		{name: "a few in a long run are not enough", check: enough, want: Undecided, says: "want at least 60", tell: func(s *story) {
			s.plenty()
			s.run.About.TrafficNS = int64(time.Minute)
		}},
		{name: "no lift went through", check: enough, want: Undecided, says: "only 0 of lift", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindBan} // as an older history has it
			s.ban("a", 0, 1, 10)
			s.ban("a", 2, 3, 11)
		}},
		{name: "no policy change went through", check: enough, want: Undecided, says: "only 0 of policy_set", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindPolicySet}
			s.readPolicy(0, 1, 1, 3, true)
		}},
		{name: "all denied", check: enough, want: Undecided, says: "only 0 of admissions", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindClaim}
			s.ban("a", 0, 5, 10)
			s.claim(6, 7, "n", "c", denied(client.VerdictBlacklisted))
			s.claim(8, 9, "n2", "c", denied(client.VerdictBlacklisted))
		}},
		{name: "not healed", check: enough, want: Undecided, says: "n2 does not answer", tell: func(s *story) {
			s.claim(0, 1, "n", "c", admitted(10, 0))
			s.run.About.Healed, s.run.About.HealDetail = false, "n2 does not answer"
		}},
		{name: "a broken promise outweighs a doubt", check: once, want: Fail, tell: func(s *story) {
			s.run.About.Healed = false
			s.claim(0, 1, "n", "c", denied(client.VerdictReplay))
		}},
	})
}

func TestFaultsBit(t *testing.T) {
	const enough = "enough happened"
	tell(t, []tale{
		{name: "a fault bit", tell: func(s *story) {
			s.plenty()
			s.fault("kill", "")
		}},
		{name: "two wanted one node", tell: func(s *story) {
			s.plenty()
			s.fault("kill", "")
			s.fault("pause", "busy").Busy = true
		}},
		{name: "a skip was allowed", tell: func(s *story) {
			s.plenty()
			s.run.About.AllowSkips = true
			s.fault("kill", "")
			s.fault("partition", "skipped: needs root")
		}},
		{name: "a skip", check: enough, want: Undecided, says: "did not bite: partition", tell: func(s *story) {
			s.plenty()
			s.fault("kill", "")
			s.fault("partition", "skipped: needs root")
		}},
		{name: "a failure is no skip", check: enough, want: Undecided, says: "nobody leads", tell: func(s *story) {
			s.plenty()
			s.run.About.AllowSkips = true
			s.fault("kill", "")
			s.fault("kill", "nobody leads")
		}},
		{name: "nothing but skips", check: enough, want: Undecided, says: "no planned fault bit", tell: func(s *story) {
			s.plenty()
			s.run.About.AllowSkips = true
			s.fault("partition", "skipped: needs root")
		}},
		{name: "nothing of what was planned", check: enough, want: Undecided, says: "no planned fault bit", tell: func(s *story) {
			s.plenty()
			s.run.About.Planned = 3
		}},
	})
}

// sweep is what a healed cluster must do once more.
func (s *story) sweep(spoil func(*Op)) {
	version, index := uint64(1), uint64(1000)
	for i, node := range s.run.About.Nodes {
		from, begin := len(s.run.Ops), int64(20_000+1000*i)
		s.claim(begin, begin+5, "sweep "+node, "s"+node, signedAt(begin, admitted(index+1, begin+1)))
		s.ban("b", begin+10, begin+15, index+2)
		s.lift("b", begin+20, begin+25, index+3)
		s.setPolicy(begin+30, begin+35, version, 3, func(op *Op) { op.Index = index + 4 })
		version, index = version+1, index+10
		for j := from; j < len(s.run.Ops); j++ {
			s.run.Ops[j].Node, s.run.Ops[j].Sweep = node, true
			if s.run.Ops[j].Kind != KindClaim {
				s.run.Ops[j].Key = fmt.Sprint("sweep ", j)
			}
		}
	}
	if spoil != nil {
		spoil(&s.run.Ops[len(s.run.Ops)-8])
	}
}

func TestWorksAgain(t *testing.T) {
	const again = "it works again"
	swept := func(spoil func(*Op)) func(*story) { return func(s *story) { s.sweep(spoil) } }
	stuck := func(s *story) {
		s.claim(0, 5, "n", "c1", admitted(10, 1))
		s.run.About.Healed, s.run.About.HealDetail = false, "n2 counts 2 voters"
		s.run.Timeline = []Event{{What: "heal", EndNS: 5}}
		s.finals()
	}
	gone := func(s *story) {
		stuck(s)
		s.run.Finals[1] = Final{Node: "n2", Error: "connection refused"}
		s.run.About.HealDetail = "server did not come up: node2: the server ended: exit status 2 (connection refused)\npanic: history.db is damaged"
	}
	tell(t, []tale{
		{name: "all through every node", tell: swept(nil)},
		{name: "unknown, then asked again", tell: func(s *story) {
			s.claim(19_000, 19_005, "sweep n1", "sn1", signedAt(20_000, unknown))
			s.run.Ops[0].Sweep = true
			s.sweep(nil)
		}},
		{name: "an admission is refused", check: again, want: Fail, says: "claim does not work through n1", tell: swept(unavailable)},
		{name: "an admission stays unknown", check: again, want: Fail, says: "unknown_outcome", tell: swept(unknown)},
		{name: "a fresh request is denied", check: again, want: Fail, says: "denied through n1", tell: swept(denied(client.VerdictBlacklisted))},
		{name: "a node was left out", check: again, want: Undecided, says: "asked no lift of n2", tell: func(s *story) {
			s.sweep(nil)
			s.run.Ops[len(s.run.Ops)-2].Sweep = false
		}},
		{name: "all run and do not agree", check: again, want: Fail, says: "n2 counts 2 voters", tell: stuck},
		{name: "one does not run", check: "enough happened", want: Undecided, says: "n2 counts 2 voters", tell: func(s *story) {
			stuck(s)
			s.run.Finals[1].Status = nil
		}},
		{name: "a server that was only killed gives up", check: again, want: Fail, says: "does not come up again: server did not come up: node2", tell: func(s *story) {
			gone(s)
			s.run.Timeline = []Event{{What: "kill", Fault: true}}
		}},
		{name: "its data were damaged", check: "enough happened", want: Undecided, says: "did not come up", tell: func(s *story) {
			gone(s)
			s.run.Timeline = []Event{{What: "flip", Fault: true}}
		}},
		{name: "interrupted", check: "enough happened", want: Undecided, says: "n2 counts 2 voters", tell: func(s *story) {
			stuck(s)
			s.run.About.Interrupted = true
		}},
	})
}

// TestNotExamined holds that a check without anything to look at says so, and
// that it does not spoil the run.
func TestNotExamined(t *testing.T) {
	s := newStory()
	s.claim(0, 5, "n", "c1", admitted(10, 1))
	s.finals()
	v := Decide(&s.run, DefaultLimits())
	if v.Result != Pass {
		t.Errorf("the run was judged %s, want pass", v.Result)
	}
	for _, c := range v.Checks {
		if want := map[bool]Result{true: Pass, false: NotExamined}[c.Examined > 0]; c.Result != want {
			t.Errorf("%s: %s after %d examined, want %s", c.Name, c.Result, c.Examined, want)
		}
	}
	if len(v.Checks) == 0 || v.Checks[len(v.Checks)-1].Result != NotExamined {
		t.Error("nothing was expected, yet the last check says that it examined something")
	}
}
