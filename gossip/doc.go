// Package gossip answers two questions: who is here, and what is the news.
//
// It is a thin, suspicious layer over hashicorp/memberlist. Members introduce themselves with signed cards, news and
// chain heads are opaque bytes signed by whoever made them, and nothing learnt here grants anything: gossip may only make a
// node more careful. Raft membership, keys and bans are decided elsewhere; this package knows none of those words.
//
// # How it hangs together
//
//	sockets ── Transport ── memberlist ── delegate ──► inbox ──► loop ──► Trust, OnNews, OnHead
//	             │ 0x16                                            │
//	             └──► OnStream                                     └──► table ──► Members, push/pull
//
// The Transport owns one TCP and one UDP port. A stream that opens with a TLS hello goes to OnStream, so that a join service
// can live on the gossip port; everything else must look like gossip of this cluster before memberlist sees it. memberlist calls the
// delegate with its own locks held, so the delegate only copies bytes into the inbox; one loop empties it and is the only
// goroutine that calls Trust, OnNews and OnHead. A second goroutine rejoins, because memberlist never does so by itself after a
// long partition.
//
// # Locks
//
// memberlist holds its node lock while it calls the delegate, and the delegate takes inbox.mu, table.mu or its own: so no code that
// holds one of these, or the log adapter's or the transport's, calls memberlist or a callback. Pool.life, Pool.leaving and Pool.keys
// are only ever taken by callers of Pool, outermost, and may be held across a memberlist call.
package gossip
