// Package judge decides whether a cluster kept its promises (DESIGN.md
// section 1), from what its clients saw and nothing else. It keeps its own
// model of every promise and knows none of the server's code: a bug shared by
// all replicas is still a bug here.
//
// A history is a list of operations with the time each was asked and answered
// on one monotonic clock. An operation ended ok, refused (certainly not done)
// or unknown; an unknown one may have happened, may happen later, or never.
//
// The verdict is fail when a promise was broken, undecided when the run cannot
// show that they were kept (a checker ran out of time, too little happened,
// the cluster did not heal), and pass otherwise. Every finding names the
// promise, the operations and the evidence, and a saved run can be judged
// again:
//
//	run.json         what was run: nodes, agents, policy at the start, heal
//	history.jsonl    one operation a line
//	timeline.jsonl   one event a line: faults, their healing, marks of the harness
//	finals.json      each node's chain, keys and status after healing
//	verdict.json     written by Judge
package judge
