package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/client"
)

// maxClocksTold bounds the clocks that a denial names; those furthest off come first.
const maxClocksTold = 7

// tellClocks adds to a denial for its time how far the coordinators' own clocks
// are off: the agent's need not be the wrong one. It is a member of its own, since
// callers pass the detail on to the agent, whom the coordinators do not concern.
func (s *Server) tellClocks(out *client.Admission) {
	if out.Code != client.VerdictTimestampSkew || out.MaxSkewMs == 0 {
		return
	}
	voters := s.node.Clocks().Voters
	off := func(v client.VoterClock) int64 {
		if v.WallMs == 0 {
			return -1
		}
		return max(v.AheadMs, -v.AheadMs)
	}
	slices.SortStableFunc(voters, func(a, b client.VoterClock) int { return cmp.Compare(off(b), off(a)) })
	var told []string
	for _, v := range voters[:min(len(voters), maxClocksTold)] {
		if name := cmp.Or(v.Name, v.ID); v.WallMs == 0 {
			told = append(told, name+" not heard lately")
		} else {
			told = append(told, fmt.Sprintf("%s %+d ms", name, -v.AheadMs))
		}
	}
	out.NodeClocks = strings.Join(told, ", ")
}
