package gossip

import "time"

// All limits of the room, each with its reason and with what happens at it.
const (
	// MaxNews bounds the payload of one Broadcast. memberlist packs broadcasts into datagrams of udpBufferSize bytes and a message
	// that does not fit is skipped on every round without a word, for ever. 1,024 bytes, with the longest node id, the longest
	// cluster label, encryption and framing, still fit (TestLimitsFitOneDatagram). Larger is an error to the caller.
	MaxNews = 1024

	// MaxHead bounds a signed head, for the same reason; heads also travel in push/pull, once for every member. Larger is an
	// error to the caller, and malformed when it comes from the network.
	MaxHead = 512

	// MaxCard bounds an encoded member card. memberlist panics above 512 bytes of meta; the slack is for the next field.
	MaxCard = 480

	// MaxClusterID bounds the cluster id, because the label made of it is a part of every packet.
	MaxClusterID = 64

	// MaxMembers bounds the member table, the dead included. A new name above it is refused; the longest dead make room first.
	MaxMembers = 4096

	// KeyBytes is the size of a pool key: AES-256.
	KeyBytes = 32

	// udpBufferSize is memberlist's default, safe below the usual MTU of 1,500.
	udpBufferSize = 1400

	// maxPacket is the largest datagram read. Ours are at most udpBufferSize and a checksum; larger ones are dropped and counted.
	maxPacket = 2048

	// maxPacketsPerSecond bounds what one node decrypts: far above a large pool's traffic, far below what one core can do.
	// Packets above it are dropped and counted; gossip repeats itself anyway.
	maxPacketsPerSecond = 20_000

	// maxSilent bounds accepted streams that have not yet shown what they are, peekTimeout how long each may take. Above: the oldest
	// of the address that has most is closed and counted. Members have as many of their own.
	maxSilent   = 256
	peekTimeout = 3 * time.Second

	// maxStream bounds one encrypted push/pull message, and streamBudget what has come of all incoming ones together, because
	// memberlist buffers a whole message before it can authenticate it, up to 20 MiB a stream and any number of streams. A full table
	// of MaxMembers needs under 4 MiB. Each stream weighs streamWeight from the start, its goroutine, buffers and descriptor, so 512
	// are open at most. Above: the oldest of the address that has most is closed and counted. Members have a budget of their own.
	maxStream    = 8 << 20
	streamBudget = 32 << 20
	streamWeight = 64 << 10

	// maxStateHeads and maxStateBytes bound what push/pull carries beside memberlist's own table. Heads above the count are left
	// out by the sender, their owners still broadcast them; a larger state is dropped by the receiver as malformed.
	maxStateHeads = 1024
	maxStateBytes = 1 << 20

	// The inbox between memberlist and the loop: messages, and bytes in them. Above either: the message is dropped and counted.
	maxInbox      = 1024
	maxInboxBytes = 8 << 20

	// maxQueued bounds broadcasts waiting to be sent (alone in the pool nothing is ever sent). Above: the most transmitted go.
	maxQueued = 1024

	// The seen-set has two generations of seenGeneration ids; the older is forgotten when the younger is full or seenFor old.
	// Thus an id is remembered for at least seenFor unless more than seenGeneration came within it.
	seenGeneration = 8192
	seenFor        = 10 * time.Minute

	// A refused head is asked about again after at most twice this: it may have been refused only because we were behind.
	headSeenFor = time.Minute

	// keepDead is how long a dead or left member stays listed, and a dead one's address is tried again.
	keepDead = 24 * time.Hour

	// leaveGrace is how long after a death word of a goodbye still turns it into a departure.
	leaveGrace = time.Minute

	// cardFuture is how far ahead of our clock a card may push the replay floor of its node.
	cardFuture = 5 * time.Minute

	// maxJoin bounds the addresses tried in one rejoin round, maxJoinCall those of one Join call, resolveTimeout one name lookup.
	maxJoin        = 8
	maxJoinCall    = 64
	resolveTimeout = 3 * time.Second

	// deadReclaim is how long a dead member's name is barred to another address: a moved node is taken back after it.
	deadReclaim = 30 * time.Second

	// defaultRejoin is how often lost members and seeds are tried.
	defaultRejoin = 30 * time.Second

	// maxKeys bounds the keyring: the one in use, the next, the last, and room for a rotation that overlaps.
	maxKeys = 8

	// The log adapter lets this many memberlist lines through in a second: garbage from a stranger must not fill our disk.
	maxLogLines = 20
	maxLogLine  = 512

	// shutdownGrace is how long Shutdown waits for OnStream handlers that ignore the closing of their connection.
	shutdownGrace = 5 * time.Second
)
