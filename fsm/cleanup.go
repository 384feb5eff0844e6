package fsm

import "fmt"

const (
	// MinSilenceMs is how long a coordinator has been silent before anybody but
	// an administrator removes it: a day is more than a reboot, a repair or a
	// night.
	MinSilenceMs = 24 * 60 * 60 * 1000
	// MinCoordinators stay whatever happens: of three, two must agree, and with
	// two left the next failure stops the cluster.
	MinCoordinators = 3
)

// CoordinatorCleanUp removes a coordinator that nobody has heard of for long and
// whose place another has taken (from LevelUpgrades on). It is the leader's own
// to make; the rules that need no clock are asked in Apply, so that no leader
// that is mistaken thins the cluster out.
type CoordinatorCleanUp struct {
	ID       string `cbor:"1,keyasint"`
	SilentMs int64  `cbor:"2,keyasint"` // since when the leader has heard nothing of it, in milliseconds before AtMs
}

func (s *State) applyCoordinatorCleanUp(c *change, b CoordinatorCleanUp) Result {
	if s.meta.v.Level < LevelUpgrades {
		return refuse(CodeConflict, "", "the cluster is at feature level %d, a clean-up needs %d", s.meta.v.Level, LevelUpgrades)
	}
	if by, ok := s.coordinators.get(c.actor.NodeID); !ok || by.Role != RoleCoordinator || b.ID == by.ID {
		return refuse(CodeForbidden, "", "only a coordinator that leads cleans up, and never itself")
	}
	if fault := s.CleanUpFault(b.ID, b.SilentMs); fault != "" {
		return refuse(CodeConflict, "id", "%s", fault)
	}
	s.dropCoordinator(c, b.ID, false)
	gone, _ := s.removed.get(b.ID)
	gone.SilentMs = b.SilentMs
	s.removed.put(b.ID, gone)
	s.record(c, "coordinator_clean_up", b.ID, fmt.Sprintf("silent_ms=%d", b.SilentMs))
	return Result{Code: CodeOK, ID: b.ID}
}

// CleanUpFault tells why a coordinator that has been silent for so long stays
// all the same, or "".
func (s *State) CleanUpFault(id string, silentMs int64) string {
	n, ok := s.coordinators.get(id)
	switch {
	case !ok:
		return fmt.Sprintf("there is no coordinator %q", id)
	case n.Role != RoleCoordinator:
		return fmt.Sprintf("%s is an %s, which no majority counts", id, n.Role)
	case s.removed.full():
		return fmt.Sprintf("%d coordinators were removed, no room to remember one more", MaxRemoved)
	case silentMs < MinSilenceMs || silentMs > MaxTimeMs:
		return fmt.Sprintf("%s has been silent for %d ms, which is not between %d and any time", id, silentMs, int64(MinSilenceMs))
	case n.JoinedMs > s.meta.v.ClockMs-silentMs:
		return fmt.Sprintf("%s joined %d ms ago: nobody can have missed it for %d", id, s.meta.v.ClockMs-n.JoinedMs, silentMs)
	case !s.replaced(id, s.meta.v.ClockMs-silentMs):
		return fmt.Sprintf("no coordinator has joined since %s fell silent: nobody takes its place", id)
	}
	left := 0
	for _, other := range s.coordinators.m {
		if other.Role == RoleCoordinator && other.ID != id {
			left++
		}
	}
	if least := s.LeastCoordinators(); left < least {
		return fmt.Sprintf("without %s there would be %d coordinators, and %d are the least", id, left, least)
	}
	return ""
}

// replaced tells whether another coordinator has joined since.
func (s *State) replaced(id string, sinceMs int64) bool {
	for _, other := range s.coordinators.m {
		if other.ID != id && other.Role == RoleCoordinator && other.JoinedMs > sinceMs {
			return true
		}
	}
	return false
}

// LeastCoordinators is how many coordinators a clean-up leaves at least: three,
// or all but one of the most that were members at one time since the cluster has
// been at LevelUpgrades.
func (s *State) LeastCoordinators() int {
	return max(MinCoordinators, s.meta.v.MostCoordinators-1)
}

// countMost notes how many coordinators are members, if there never were more.
func (s *State) countMost() {
	if s.meta.v.Level < LevelUpgrades {
		return
	}
	now := 0
	for _, n := range s.coordinators.m {
		if n.Role == RoleCoordinator {
			now++
		}
	}
	s.meta.v.MostCoordinators = max(s.meta.v.MostCoordinators, now)
}
