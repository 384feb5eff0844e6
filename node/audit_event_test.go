package node

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// wantEvent waits until the log of node i tells of an event of its own.
func (c *trio) wantEvent(i int, typ, level string, details ...string) {
	c.t.Helper()
	n := c.nodes[i]
	c.eventually(typ+" in the log of "+c.cfgs[i].Name, func() bool {
		page, err := n.audit.Read(c.t.Context(), audit.Query{Type: typ, Limit: 1, Newest: true})
		if err != nil || len(page.Lines) != 1 {
			return false
		}
		l, err := audit.ParseLine(page.Lines[0])
		ok := err == nil && l.Level == level && l.Actor == audit.Actor{Kind: "node", ID: n.id.NodeID, Proved: true}
		for k := 0; k+1 < len(details); k += 2 {
			ok = ok && strings.Contains(l.Details[details[k]], details[k+1])
		}
		return ok
	})
}

// TestAlarmsAreEvents: what a node alarms about stands in its audit log, under the
// types of WIRE.md.
func TestAlarmsAreEvents(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n, a := c.nodes[0], c.enroll(0, "reporter")
	text, err := crypto.ParseTokenText(c.token("operator", -1))
	if err != nil {
		t.Fatal(err)
	}
	operator := fsm.Actor{TokenID: text.ID}
	cmd, err := fsm.New(operator, c.forgery(a, operator, func(e *crypto.BlacklistEvent) {
		e.ReporterSignature = base64.StdEncoding.EncodeToString(make([]byte, 64))
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.proposeHere(t.Context(), n.lead.Load(), cmd); err == nil {
		t.Fatal("a forged event was taken")
	}
	c.wantEvent(0, "blacklist_chain_tamper", audit.LevelCritical, "subject", "victim", "reporter", "reporter")
	bad := &crypto.ChainError{Seq: 4, EventID: "event-5", Code: crypto.ChainBreak, Detail: "it follows another"}
	if err := n.restoreError(fmt.Errorf("%w: %w", ErrBackup, bad)); code(err) != client.CodeInvalid {
		t.Error(err)
	}
	c.wantEvent(0, "blacklist_chain_tamper", audit.LevelCritical, "subject", "event-5", "position", "4")
	n.noteChain("nowhere", errors.New("something else"))

	n.noteOverdue(time.Now(), errors.New("no leader"))
	c.wantEvent(0, "key_rotation_overdue", audit.LevelWarn, "error", "no leader")
	n.noteOverdue(time.Now().Add(2*leafLife), errors.New("no leader"))
	c.wantEvent(0, "key_expired", audit.LevelCritical, "subject", "certificate")
}

// TestNobodyJoinsWithoutATrace: the keys of the cluster go to nobody of whom the
// audit log cannot tell.
func TestNobodyJoinsWithoutATrace(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	token := c.token("coordinator", 1)
	if err := c.nodes[0].audit.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, "untold")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, token
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // it would ask again until somebody mends the disk
	defer cancel()
	n, err := Start(ctx, cfg)
	if err == nil {
		_ = n.shutdown()
		t.Error("it joined")
	}
	c.nodes[0].machine.Read(func(s *fsm.State) {
		if n := len(s.Coordinators()); n != 1 {
			t.Errorf("%d members", n)
		}
	})
}
