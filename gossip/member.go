package gossip

// The states a member is listed in.
const (
	StateAlive     = "alive"
	StateSuspect   = "suspect"   // our own last probe of it failed; it may still refute
	StateDead      = "dead"      // stopped answering without a goodbye
	StateLeft      = "left"      // said goodbye
	StateUntrusted = "untrusted" // alive, but Trust refuses its card; its news and heads are ignored
)

// Member is one line of the pool's view. It says what was seen, not what is true: a holder of the pool key can lie about
// liveness, but not about a card.
type Member struct {
	Card      Card
	State     string
	ChangedMs int64   // when State last changed, by our clock
	Addr      string  // where memberlist reaches it, host:port; may differ from Card.Gossip behind a NAT
	Head      []byte  // opaque signed head, the last that OnHead accepted
	Holds     []AckID // the keys it says it holds (Acknowledge); nil if it said nothing
}
