package edge

import "encoding/binary"

// shard is an open-addressing table with linear probing. It has half as many slots again as bans, so 48 bytes a ban, and is never
// changed: a new one is made, of just the size that it needs, so growth costs the room of one shard and not of the set.
type shard []slot

// slot has 32 bytes. Events count from 1, so one without a seq is free.
type slot struct {
	key Key
	ban Ban
}

func (s *slot) used() bool { return s.ban.Seq != 0 }

// shard returns which shard a key belongs to.
func (k Key) shard() int { return int(binary.BigEndian.Uint16(k[:]) >> (16 - shardBits)) }

// slot returns where in a table of n slots a key's probing starts; other bits than the shard's.
func (k Key) slot(n int) int {
	return int(uint64(binary.BigEndian.Uint32(k[4:])) * uint64(n) >> 32)
}

// find returns the slot of a key, or -1.
func (s shard) find(key Key) int {
	if len(s) == 0 {
		return -1
	}
	for i := key.slot(len(s)); ; i++ {
		if i == len(s) {
			i = 0
		}
		switch at := &s[i]; {
		case !at.used():
			return -1
		case at.key == key:
			return i
		}
	}
}

func (s shard) get(key Key) (Ban, bool) {
	if i := s.find(key); i >= 0 {
		return s[i].ban, true
	}
	return Ban{}, false
}

// newShard makes a table of bans, each key once.
func newShard(bans []slot) shard {
	if len(bans) == 0 {
		return nil
	}
	s := make(shard, len(bans)+len(bans)/2+1) // one is free at least, which ends every search
	for _, b := range bans {
		s.put(b.key, b.ban)
	}
	return s
}

// put adds a key that the table does not have, to a table that has room.
func (s shard) put(key Key, ban Ban) {
	i := key.slot(len(s))
	for s[i].used() {
		if i++; i == len(s) {
			i = 0
		}
	}
	s[i] = slot{key, ban}
}

func (s shard) len() (n int) {
	for i := range s {
		if s[i].used() {
			n++
		}
	}
	return n
}

// with returns the table after changes, of which the last on a key decides, without bans that expired before a time.
func (s shard) with(changes []Change, expiredMs int64) shard {
	last := make(map[Key]Change, len(changes))
	for _, c := range changes {
		last[c.Key] = c
	}
	kept := make([]slot, 0, len(s)+len(last))
	for i := range s {
		if _, changed := last[s[i].key]; s[i].used() && !changed && s[i].ban.InForce(expiredMs) {
			kept = append(kept, s[i])
		}
	}
	for key, c := range last {
		if !c.Lift && c.Ban.InForce(expiredMs) {
			kept = append(kept, slot{key, c.Ban})
		}
	}
	return newShard(kept)
}
