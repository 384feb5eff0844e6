package node

import (
	"errors"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// recoveryOutranksNotes: the one copy that is left was about to give its state
// up. Once a recovery made that state the cluster's, no start may do it, also
// when the recovery is cut off right behind its decision.
func (c *lostTrio) recoveryOutranksNotes(t *testing.T) {
	for _, kill := range []string{"", "snapshot stands"} {
		one := c.again(t)
		id := loadedIdentity(t, one.cfgs[1])
		id.Resync, id.Undo = true, 2 // the epoch that the recovery opens
		if err := id.save(one.dir(1), one.cfgs[1].Passphrase); err != nil {
			t.Fatal(err)
		}
		o := one.options(1)
		o.Choose, o.LoseAcknowledged = one.cfgs[1].Name, true
		o.step = func(name string) error {
			if name == kill {
				return errKilled
			}
			return nil
		}
		r := open(t, o)
		if _, err := r.Execute(); kill != "" && !errors.Is(err, errKilled) || kill == "" && err != nil {
			t.Fatalf("cut off at %q: %v", kill, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if kill != "" {
			one.start(1)
			one.checkRecovered(1)
		}
		if id = loadedIdentity(t, one.cfgs[1]); id.Resync || id.Undo != 0 {
			t.Errorf("cut off at %q: the next start is to resync %t, to undo epoch %d", kill, id.Resync, id.Undo)
		}
	}
}

// TestRecoverFromARestore: the copies that are left hold a restore that nobody
// else took. A recovery says so and does not go on from it unasked.
func TestRecoverFromARestore(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, _, holder := newTrioWithDyingLeader(t)
	o := RecoveryOptions{Log: testLog(t), LoseAcknowledged: true, IgnoreReachable: []string{"n1", "n2", "n3"},
		Dirs: []RecoveryDir{{DataDir: c.cfgs[holder].DataDir, Passphrase: c.cfgs[holder].Passphrase}}}
	refused := func(restore string) {
		t.Helper()
		r := open(t, o)
		p := r.Plan()
		if !refusedFor(p, leaveKeep) || p.Copies[0].Restore != restore || !p.MayLose {
			t.Errorf("%s: %+v, copy %+v", restore, p.Refusals, p.Copies[0])
		}
		if _, err := r.Execute(); !errors.Is(err, ErrRecovery) {
			t.Errorf("%s: recovered: %v", restore, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.nodes[holder].shutdown()
	c.nodes[holder] = nil
	refused(restoreUnconfirmed)

	c.eventually("the others go on", func() bool { return c.leader() >= 0 })
	c.ban(c.anyUp(), "without it")
	c.start(holder)
	c.givesUp(holder)
	c.stopAll()
	clear(c.nodes)
	refused(restorePassedOver)

	c.start(holder) // as it was told: that takes the restore back
	c.stopAll()
	if done := execute(t, o); done.Finished {
		t.Errorf("%+v", done)
	}
	c.start(holder)
	c.eventually("it leads alone", func() bool { return c.nodes[holder].lead.Load() != nil && c.nodes[holder].Ready() == nil })
	if _, err := c.client(holder, c.admin).BanOn(t.Context(), "after the backup", client.Strong()); err != nil {
		t.Errorf("a ban that all had acknowledged: %v", err)
	}
}
