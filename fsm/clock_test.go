package fsm

import "testing"

// One bad stamp would age every nonce, ban and token for good, so the clock
// moves far only on the word of a majority, and never back.

func walls(atMs int64, offsets ...int64) []VoterWall {
	var out []VoterWall
	for i, d := range offsets {
		out = append(out, VoterWall{NodeID: string(rune('a' + i)), WallMs: atMs + d})
	}
	return out
}

func TestClockAheadRefused(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	clock := w.s.ClockMs()
	bodies := []any{
		AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{claimOf("a", "n", clock+MaxAheadMs+1, "")}},
		TokenCreate{ID: "t", Role: RoleViewer, Uses: -1},
		Tick{Term: 1},
		Tick{Term: 2, Mark: true},
	}
	for _, body := range bodies {
		for _, at := range []int64{clock + MaxAheadMs + 1, clock + 86_400_000, MaxTimeMs + 1, 1<<63 - 1} {
			w.want(w.doAt(at, admin, nil, body), CodeClockAhead)
		}
	}
	if w.s.ClockMs() != clock || len(w.s.Marks()) != 0 {
		t.Fatalf("the clock moved by %d", w.s.ClockMs()-clock)
	}
	w.must(w.doAt(clock+MaxAheadMs, admin, nil, Tick{Term: 1})) // the bound itself is accepted
}

func TestClockNeverRunsBack(t *testing.T) {
	w := genesisWorld(t)
	clock := w.s.ClockMs()
	for _, at := range []int64{clock - 1, 0, -5, -1 << 63, clock - 86_400_000} {
		res := w.must(w.doAt(at, admin, nil, Tick{Term: 1}))
		if res.ClockMs != clock || w.s.ClockMs() != clock {
			t.Fatalf("at %d the clock is %d, was %d", at, w.s.ClockMs(), clock)
		}
	}
}

func TestClockFirstTickOfATermNeedsAMajority(t *testing.T) {
	jump := worldStart + 3_600_000
	cases := map[string]struct {
		tick Tick
		want Code
	}{
		"no walls":                  {Tick{Term: 2, Voters: 3}, CodeClockAhead},
		"one of three":              {Tick{Term: 2, Voters: 3, Walls: walls(jump, 0)}, CodeClockAhead},
		"two of four":               {Tick{Term: 2, Voters: 4, Walls: walls(jump, 0, 0)}, CodeClockAhead},
		"two of three":              {Tick{Term: 2, Voters: 3, Walls: walls(jump, 0, 5_000)}, CodeOK},
		"one agrees, two do not":    {Tick{Term: 2, Voters: 3, Walls: walls(jump, 0, 5_001, -5_001)}, CodeClockAhead},
		"the stamp agrees with two": {Tick{Term: 2, Voters: 3, Walls: walls(jump, -5_000, 9_999, 5_000)}, CodeOK},
		"one voter, itself":         {Tick{Term: 2, Voters: 1, Walls: walls(jump, 0)}, CodeOK},
		"no voters at all":          {Tick{Term: 2, Walls: walls(jump, 0, 0)}, CodeClockAhead},
		"negative voters":           {Tick{Term: 2, Voters: -3, Walls: walls(jump, 0, 0)}, CodeClockAhead},
		"the same voter twice":      {Tick{Term: 2, Voters: 3, Walls: []VoterWall{{NodeID: "a", WallMs: jump}, {NodeID: "a", WallMs: jump}}}, CodeClockAhead},
		"not the first of the term": {Tick{Term: 1, Voters: 3, Walls: walls(jump, 0, 0, 0)}, CodeClockAhead},
		"an older term":             {Tick{Term: 0, Voters: 3, Walls: walls(jump, 0, 0, 0)}, CodeClockAhead},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := genesisWorld(t)
			w.must(w.do(Actor{}, Tick{Term: 1}))
			w.want(w.doAt(jump, Actor{}, nil, c.tick), c.want)
			if moved := w.s.ClockMs() == jump; moved != (c.want == CodeOK) {
				t.Errorf("the clock is %+d ms from the start", w.s.ClockMs()-worldStart)
			}
		})
	}
}

func TestClockSecondTickOfTheTermRefused(t *testing.T) {
	w := genesisWorld(t)
	jump := worldStart + 3_600_000
	w.must(w.doAt(w.wallMs, Actor{}, nil, Tick{Term: 5}))
	w.want(w.doAt(jump, Actor{}, nil, Tick{Term: 5, Voters: 3, Walls: walls(jump, 0, 0, 0)}), CodeClockAhead)
	w.must(w.doAt(jump, Actor{}, nil, Tick{Term: 6, Voters: 3, Walls: walls(jump, 0, 0, 0)}))
	w.want(w.doAt(2*jump, Actor{}, nil, Tick{Term: 6, Voters: 3, Walls: walls(2*jump, 0, 0, 0)}), CodeClockAhead)

	// A refused first tick leaves the term's one chance open.
	w.want(w.doAt(2*jump, Actor{}, nil, Tick{Term: 7, Voters: 3, Walls: walls(2*jump, 0)}), CodeClockAhead)
	w.must(w.doAt(2*jump, Actor{}, nil, Tick{Term: 7, Voters: 3, Walls: walls(2*jump, 0, 0)}))
}

// The jump of a majority closes what it passed: nothing of before is open again.
func TestClockJumpClosesTheWindow(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	c := claimOf("a", "n", w.wallMs, "")
	w.wantVerdict(c, CodeOK)
	jump := w.wallMs + 3_600_000
	w.must(w.doAt(jump, Actor{}, nil, Tick{Term: 2, Voters: 1, Walls: walls(jump, 0)}))
	w.wantVerdict(c, CodeTimestampSkew) // a slow leader stamps the old time: the clock stays
	if w.s.ClockMs() != jump {
		t.Errorf("the clock is %+d ms from the jump", w.s.ClockMs()-jump)
	}
}

func TestMarksKeepTheLastSixteen(t *testing.T) {
	w := genesisWorld(t)
	for range 20 {
		w.pass(5_000)
		w.mark()
	}
	marks := w.s.Marks()
	if len(marks) != MaxMarks || marks[MaxMarks-1].Index != w.s.Index() {
		t.Fatalf("%d marks, newest at %d", len(marks), marks[len(marks)-1].Index)
	}
	for i := 1; i < len(marks); i++ {
		if marks[i].Index <= marks[i-1].Index {
			t.Errorf("mark %d of index %d follows %d", i, marks[i].Index, marks[i-1].Index)
		}
	}
}
