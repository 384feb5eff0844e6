// Package chaos starts a real cluster, breaks it on purpose while a few
// clients use it over the public API, and has chaos/judge decide from what the
// clients saw whether the promises of DESIGN.md held.
//
// A Scenario is data: a cluster size, a mix of traffic, and a schedule of
// faults, written out or drawn from a seed. Run carries one out and leaves a
// directory that holds everything: history, timeline, the nodes' logs and data,
// verdict and report. A failed run can be judged again with judge.Judge.
//
// What a machine cannot do (no root, no TUN device, no loop device, a binary
// without the hidden clock flag) is skipped with its reason in the timeline,
// never passed over in silence.
package chaos
