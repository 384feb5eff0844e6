package node

import (
	"context"
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// The cluster clock never runs back by itself: if a majority of the voters'
// clocks was ahead once, it stays ahead until the world has caught up, and
// meanwhile every honest timestamp is refused as too old. `recover clock` sets
// it back to the leader's wall clock, which a majority must support. All else
// goes on: a leader may stamp below the cluster clock, which then stands still.

// recoverClock completes a clock recovery as the leader: it adds the voters'
// wall clocks.
func (n *Node) recoverClock(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	body, err := fsm.BodyOf[fsm.ClockRecover](cmd)
	if err != nil {
		return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	var clock int64
	n.machine.Read(func(s *fsm.State) { clock = s.ClockMs() })
	// What does not run ahead is for Apply to refuse, which may know the call.
	if ahead := clock - n.wallMs(); ahead > 0 && ahead <= fsm.MaxClockSpreadMs {
		return fsm.Result{}, &client.Error{Code: client.CodeConflict, Detail: fmt.Sprintf(
			"the cluster clock runs only %d ms ahead of the leader's, which is within what voters may differ by (%d ms): it will pass by itself", ahead, fsm.MaxClockSpreadMs)}
	}
	ids := voters(n.servers())
	whole, err := fsm.New(cmd.Actor, fsm.ClockRecover{Voters: len(ids), Walls: n.voterWalls(ids), Reason: body.Reason})
	if err != nil {
		return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	whole.Idem = cmd.Idem
	future, err := n.enqueue(l, whole)
	if err != nil {
		return fsm.Result{}, err
	}
	return n.await(ctx, future)
}

// voterWalls returns the wall clocks of the voters that reported lately, as
// this node estimates them now.
func (n *Node) voterWalls(ids []string) []fsm.VoterWall {
	now := n.wallMs()
	var out []fsm.VoterWall
	for id, offset := range n.offsets(ids) {
		out = append(out, fsm.VoterWall{NodeID: id, WallMs: now + offset})
	}
	return out
}

// Clocks implements api.Cluster: the cluster clock beside the voters' wall
// clocks, from local knowledge.
func (n *Node) Clocks() client.Clocks {
	servers := n.servers()
	now, offsets := n.wallMs(), n.offsets(voters(servers))
	_, leader := n.raft.LeaderWithID()
	out := client.Clocks{Voters: []client.VoterClock{}}
	n.machine.Read(func(s *fsm.State) {
		meta := s.Meta()
		out.Epoch, out.ClockMs, out.MaxSkewMs, out.AdmissionsFromMs = meta.Epoch, meta.ClockMs, s.Policy().MaxSkewMs, s.Recovering()
		for _, id := range voters(servers) {
			c, _ := s.Coordinator(id)
			row := client.VoterClock{ID: id, Name: c.Name, Leader: id == string(leader)}
			if o, known := offsets[id]; known {
				row.WallMs = now + o
				row.AheadMs = meta.ClockMs - row.WallMs
			}
			out.Voters = append(out.Voters, row)
		}
	})
	return out
}
