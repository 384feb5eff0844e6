package gossip

import "sync/atomic"

// Stats counts since Start; the last three are of now.
type Stats struct {
	NewsReceived   uint64 // well-formed messages from members, repeats included
	NewsNew        uint64 // of these, what OnNews or OnHead called new
	NewsRepeated   uint64 // known already
	NewsUntrusted  uint64 // named a member that is unknown or not trusted
	Malformed      uint64 // messages and states that do not parse
	InboxDropped   uint64 // lost because the loop did not keep up
	CardsRefused   uint64 // alive messages with a bad, forged or foreign card, or too many members
	CardsReplayed  uint64 // older than a card already seen
	NameConflicts  uint64 // somebody claims a live member's name from another address
	PacketsDropped uint64 // not ours, too large, or above the rate
	StreamsRefused uint64 // not ours, or above a bound
	StreamsTLS     uint64 // handed to OnStream
	RejoinTried    uint64 // addresses tried by the rejoin loop
	RejoinDone     uint64 // of these, reached

	Members int // listed, the dead included
	Alive   int // live and trusted, self included
	Queued  int // broadcasts waiting
}

// counters are the same, as they are counted. Every field is atomic; anybody may add.
type counters struct {
	newsReceived, newsNew, newsRepeated, newsUntrusted, malformed, inboxDropped atomic.Uint64
	cardsRefused, cardsReplayed, nameConflicts                                  atomic.Uint64
	packetsDropped, streamsRefused, streamsTLS                                  atomic.Uint64
	rejoinTried, rejoinDone                                                     atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		NewsReceived: c.newsReceived.Load(), NewsNew: c.newsNew.Load(), NewsRepeated: c.newsRepeated.Load(),
		NewsUntrusted: c.newsUntrusted.Load(), Malformed: c.malformed.Load(), InboxDropped: c.inboxDropped.Load(),
		CardsRefused: c.cardsRefused.Load(), CardsReplayed: c.cardsReplayed.Load(), NameConflicts: c.nameConflicts.Load(),
		PacketsDropped: c.packetsDropped.Load(), StreamsRefused: c.streamsRefused.Load(), StreamsTLS: c.streamsTLS.Load(),
		RejoinTried: c.rejoinTried.Load(), RejoinDone: c.rejoinDone.Load(),
	}
}
