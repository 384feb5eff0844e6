package fsm

import (
	"fmt"
	"testing"
)

// TestSigningKeysLeaveRoom: rotations that nobody asked for never fill the table, so
// that others join, and a coordinator whose key was revoked signs again.
func TestSigningKeysLeaveRoom(t *testing.T) {
	w := keysWorld(t)
	w.s.signingKeys.cap = 20
	n1, by, made := CoordinatorSubject("n1"), "node n1", 0
	for ; ; made++ {
		next := fmt.Sprint("n1 ", made)
		res := w.do(node("n1"), w.order(n1, by, next, 0))
		if !res.OK() {
			w.want(res, CodeOverloaded)
			break
		}
		by = next
		w.pass(keyDayMs)
	}
	if got := w.s.signingKeys.size(); got != 18 || made == 0 {
		t.Errorf("%d of 20 keys, %d of them rotated", got, made)
	}
	w.must(w.do(admin, KeyRevoke{Subject: n1.String(), Key: keyRef(by), Reason: "stolen"}))
	if activeIn(w.s, n1, 0).IsZero() {
		w.must(w.do(node("n1"), KeyPrepare{Subject: n1.String(), Public: publicKey("fresh"), SignedMs: w.wallMs}))
	} else {
		active := fmt.Sprint("n1 ", made-2)
		w.must(w.do(node("n1"), w.order(n1, active, "fresh", 0)))
	}
	n7 := nodeOf("n7", RoleCoordinator)
	n7.Level = LevelKeys
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n7}))
}

// TestCoordinatorsRotateOnceADayAtMost: each key is kept for ever.
func TestCoordinatorsRotateOnceADayAtMost(t *testing.T) {
	w := keysWorld(t)
	d := Schedule{PeriodMs: MinSigningPeriodMs - 1, OverlapMs: MinOverlapMs}
	for _, subject := range []string{"coordinator", "coordinator/n0"} {
		if res := w.want(w.do(admin, KeyScheduleSet{Subject: subject, Schedule: d}), CodeInvalid); res.Field != "period_ms" {
			t.Errorf("%+v", res)
		}
	}
	d.PeriodMs++
	w.must(w.do(admin, KeyScheduleSet{Subject: "coordinator", Schedule: d}))
	d.PeriodMs = MinPeriodMs
	w.must(w.do(admin, KeyScheduleSet{Subject: "agent", Schedule: d}))
}
