// Package edge is a verifier beside a service: it holds the verified blacklist, keeps it fresh, and answers whether an agent may act.
//
//	hints ──► Syncer ──► Source (coordinators, other edges)      service ──► Server ──► Judge ──► Set, Lease, allow-list
//	             │  pages, checkpoints, cosigner sets                            └──► Forward (admissions, to a coordinator)
//	             └──► Trust ──► Store ──► Set, Lease
//
// Nothing that a source says is believed: a page counts once its events link, carry their coordinators' signatures and lead to the
// root of a checkpoint that a majority of the cosigners signed whom this edge trusts. Then, and only then, the set changes, from one
// such size to the next in one step.
//
// # Who owns what
//
// One goroutine, [Syncer.Run], writes: it alone calls Store and changes Set, Lease and Trust. Everybody else reads, without waiting
// for it: a [View] is immutable and a Lease an atomic value.
//
// The package knows neither raft nor gossip: hints come in by [Syncer.Hint], members to ask by [Config].Sources.
package edge
