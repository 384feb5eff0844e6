package node

import (
	"context"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestEventsResumeAtAnyNode: what one node told half of, the next tells the
// rest of, without a gap or a repeat.
func TestEventsResumeAtAnyNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	for _, id := range []string{"agent-1", "agent-2"} {
		c.enroll(0, id)
	}
	viewer := c.token("viewer", -1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	after := client.EventStart
	var got []string
	last := uint64(0)
	for step := range 6 { // a node each in turn
		n := 0
		for e, err := range c.client(step%3, viewer).Events(ctx, client.EventFilter{After: after, Types: []string{client.EventAgent}}) {
			if err != nil {
				t.Fatalf("node %d after %s: %v", step%3, after, err)
			}
			if e.Index <= last {
				t.Errorf("index %d after %d", e.Index, last)
			}
			after, last = e.ID, e.Index
			got = append(got, e.Action+" "+e.Subject)
			if n++; n == 1 {
				break
			}
		}
		if len(got) == 4 {
			break
		}
	}
	want := []string{"agent_enroll agent-1", "agent_active agent-1", "agent_enroll agent-2", "agent_active agent-2"}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
