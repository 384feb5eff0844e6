package node

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestP8NodesFillNoLogWithKeys: what Apply would refuse of keys gets no place in the
// log, keys that all share are the leader's to make and to switch to, and a node
// says only so much.
func TestP8NodesFillNoLogWithKeys(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	lead := c.nodes[0]
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	other := c.observer()
	from := other.id.NodeID
	said := func(body any) (fsm.Result, error) {
		t.Helper()
		cmd, err := fsm.New(fsm.Actor{NodeID: from}, body)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := lead.machine.Index()
		res, err := lead.servePropose(t.Context(), from, cmd)
		if after, _ := lead.machine.Index(); err == nil && res.OK() || after > before+20 { // ticks
			t.Errorf("kind %d of %d bytes: %+v, %d entries", cmd.Kind, len(cmd.Body), res, after-before)
		}
		return res, err
	}
	if _, err := said(fsm.KeyPrepare{Subject: "coordinator/" + from, Public: crypto.PublicKey{1}, Data: bytes.Repeat([]byte{7}, 900<<10)}); code(err) != client.CodeTooLarge {
		t.Errorf("a large one: %v", err)
	}
	for _, of := range []string{"gossip", "ca"} {
		if _, err := said(fsm.KeyPrepare{Subject: of, Public: crypto.PublicKey{1}}); code(err) != client.CodeForbidden {
			t.Errorf("the next key of %s: %v", of, err)
		}
	}
	st, _ := lead.standing(gossipSubject)
	if _, err := said(fsm.KeySwitch{Subject: "gossip", Key: st.Ring[0].Public.Fingerprint()}); code(err) != client.CodeForbidden {
		t.Errorf("a switch: %v", err)
	}
	if res, err := said(fsm.KeyPrepare{Subject: "coordinator/" + lead.id.NodeID, Public: crypto.PublicKey{1}}); err != nil || res.Code != fsm.CodeForbidden {
		t.Errorf("another's key: %+v, %v", res, err)
	}
	own, nowMs := lead.standing(fsm.CoordinatorSubject(from))
	next, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b := own.NextOrder(next.publicKey(), nowMs, nowMs)
	b.NotBeforeMs = 0 // at once
	b.Order, b.Proof = make([]byte, crypto.SignatureSize), make([]byte, crypto.SignatureSize)
	cmd, err := fsm.New(fsm.Actor{NodeID: from}, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range wordBurst + 1 {
		res, decided, err := lead.hearOfKeys(from, cmd)
		if late := i == wordBurst; decided || late != (code(err) == client.CodeOverloaded) {
			t.Fatalf("word %d in a row: %+v, %v", i+1, res, err)
		}
	}
}

// TestRevocationWaitsForNoRotation: of keys that are their owner's alone.
func TestRevocationWaitsForNoRotation(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	a := c.enroll(0, "an agent")
	c.eventually("key schedules", func() bool { level, _ := c.nodes[0].clusterLevel(); return level >= fsm.LevelKeys })
	l := c.nodes[0].lead.Load()
	l.rotating.Lock()
	defer l.rotating.Unlock()
	done := make(chan fsm.Result, 1)
	go func() {
		done <- c.asAdmin(fsm.KeyRevoke{Subject: "agent/" + a.id, Key: crypto.PublicOf(a.key).Fingerprint(), Reason: "stolen"})
	}()
	select {
	case res := <-done:
		if !res.OK() {
			t.Errorf("%+v", res)
		}
	case <-time.After(LocalTiming().Request / 2):
		t.Error("an agent's revocation waits for a rotation of what all share")
	}
}

// TestVouchedKeysVerify: what another coordinator says of a node brings back no key
// that ended, and one that is to come counts, as the clock here may be behind.
func TestVouchedKeysVerify(t *testing.T) {
	key := func(i byte) crypto.PublicKey { return crypto.PublicKey{i} }
	ring := fsm.Ring{{Public: key(1), NotAfterMs: 10}, {Public: key(2), RevokedAt: 5}, {Public: key(3), NotAfterMs: 90}, {Public: key(4), NotBeforeMs: 50}, {Public: key(5), NotBeforeMs: 80}}
	got := vouch{memberReply: memberReply{Coordinator: fsm.Coordinator{Keys: ring}}}.keys(60)
	slices.SortFunc(got, func(a, b crypto.PublicKey) int { return bytes.Compare(a[:], b[:]) })
	if !slices.Equal(got, []crypto.PublicKey{key(3), key(4), key(5)}) {
		t.Errorf("%v", got)
	}
	if revoked := (fsm.Ring{{Public: key(1), RevokedAt: 5}}); !activeOf(revoked, 60).IsZero() {
		t.Error("a revoked key is written down as a member's own")
	}
}
