package judge

import "slices"

// checkEpochs holds that no node ever shows a recovery epoch other than the
// first one seen, unless the scenario restored or recovered the cluster: a new
// epoch takes away what was promised in the old one.
func checkEpochs(c *court) {
	var first *sighting
	for _, s := range c.run.sightings() {
		if s.status.Epoch == 0 && s.status.AppliedIndex == 0 && len(s.status.Digests) == 0 {
			continue // it has no state yet
		}
		c.Examined++
		switch {
		case first == nil:
			first = &s
		case s.status.Epoch != first.status.Epoch && !c.run.recovers():
			c.fail(append(s.ops(), first.ops()...), "%s shows epoch %d, %s had shown %d, and nobody asked for a recovery",
				s.node, s.status.Epoch, first.node, first.status.Epoch)
		}
	}
}

// recovers tells whether the scenario opened a new epoch.
func (r *Run) recovers() bool {
	return slices.ContainsFunc(r.Timeline, func(e Event) bool {
		return (e.What == "restore" || e.What == "recover") && e.Error == ""
	})
}
