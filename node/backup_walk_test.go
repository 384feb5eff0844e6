package node

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// walked feeds a walk with a chain that it makes.
type walked struct {
	t    *testing.T
	key  crypto.PrivateKey
	walk *chainWalk
	head string
	seq  uint64
}

func newWalked(t *testing.T, s *fsm.State) *walked {
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &walked{t: t, key: key, walk: &chainWalk{}, head: crypto.BlacklistGenesis}
	w.walk.begin(s)
	pub := crypto.PublicOf(key)
	w.walk.chain = crypto.NewChainVerifier(map[string]crypto.PublicKey{pub.CoordinatorID(): pub})
	return w
}

func (w *walked) add(agent, evidence string, atMs, untilMs int64) string {
	w.t.Helper()
	w.seq++
	e := crypto.BlacklistEvent{EventID: fmt.Sprint("event-", w.seq), AgentID: agent, ReasonCode: "manual_review", Reason: "why", EvidenceHashSHA256: evidence,
		ReporterID: "operator", ReportedBy: "operator", TimestampMs: atMs, ExpiresAtMs: &untilMs}
	if untilMs == 0 {
		e.ExpiresAtMs = nil
	}
	e.Link(w.head, w.key)
	w.head = e.EventHash
	if err := w.walk.next(fsm.Record{Stream: fsm.StreamBlacklist, Seq: w.seq, Data: e.WireJSON()}); err != nil {
		w.t.Fatal(err)
	}
	return e.EventHash
}

// TestVerificationForgetsBansThatEnded: it holds the bans that may matter at the
// end, however many there were.
func TestVerificationForgetsBansThatEnded(t *testing.T) {
	t.Parallel()
	var s *fsm.State
	l := newLoneState(t)
	l.machine.Read(func(have *fsm.State) { s = have }) // nobody changes it any more
	w := newWalked(t, s)
	some, now := strings.Repeat("ab", 32), s.ClockMs()
	old := now - 3*fsm.MaxSkewMs
	for i := range 500 {
		w.add(fmt.Sprint("ended-", i), some, old, old+1000)
		lifted := w.add(fmt.Sprint("lifted-", i), some, old, 0)
		w.add(fmt.Sprint("lifted-", i), lifted, old+1, old)
	}
	if len(w.walk.bans) != 0 {
		t.Errorf("%d bans are held", len(w.walk.bans))
	}
	// The lift of a ban that has ended since may carry a time of after its end.
	late := w.add("late", some, now-1000, now-1)
	w.add("late", late, now+fsm.MaxSkewMs, now+fsm.MaxSkewMs-1)
	if len(w.walk.bans) != 0 {
		t.Errorf("a lift stays: %d bans are held", len(w.walk.bans))
	}
	w.add("in force", some, now, now+1000)
	w.add("for ever", some, old, 0)
	w.add("just ended", some, old, now-1)
	if len(w.walk.bans) != 3 {
		t.Errorf("%d bans are held, want 3", len(w.walk.bans))
	}
	w.add("for ever", some, old, old+1)
	if _, held := w.walk.bans["for ever"]; held {
		t.Error("the newest ban ended long ago, the one before is held")
	}
}
