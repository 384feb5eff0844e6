package node

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
)

// addressBook knows where coordinators listen: from gossip cards, which are
// newest, from the replicated records, and from a file that survives restarts
// (a cluster that was killed whole must find itself before any log entry can
// be applied). Addresses are hints only: certificates decide who answers.
type addressBook struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	heard map[string]peerAddress  // from gossip
	met   map[string]netip.Addr   // where each was that last proved it by its certificate, one for each node that ever did
	homes map[netip.Addr][]string // the nodes at each address, of all these; see locate
	memberFile
}

// memberFile is what the book keeps on disk: the records of the replicated
// state as of a log index. A replica that restarts has an older state until
// it hears of a leader, and must know the others before that. Index 0 is what a
// node knows before it has a state at all (introduced, restart): it counts until
// the state has this node's own record.
type memberFile struct {
	Index   uint64                 `json:"index"`
	Members map[string]peerAddress `json:"members"`
}

// peerAddress is where one coordinator listens.
type peerAddress struct {
	Name   string `json:"name"`
	API    string `json:"api"`
	Raft   string `json:"raft"`
	Gossip string `json:"gossip"`
	// Reached is where gossip's packets come from, of what was heard only.
	Reached string `json:"-"`
	// Who it is, of records only; gossip does not tell.
	Role       fsm.Role         `json:"role,omitempty"`
	TLSKey     crypto.Hash      `json:"tls_key,omitzero"`
	SigningKey crypto.PublicKey `json:"signing_key,omitzero"`
	// OtherKeys verify beside SigningKey, or are to come: the file is for a node that
	// has been away and has no state yet.
	OtherKeys keyTexts `json:"other_keys,omitempty"`
	// OtherTLSKeys are beside TLSKey as OtherKeys are, and TLSSignedMs is when the last
	// order for one was signed: what proves to be older is none.
	OtherTLSKeys hashTexts `json:"other_tls_keys,omitempty"`
	TLSSignedMs  int64     `json:"tls_signed_ms,omitzero"`
}

// keyTexts lists public keys in base64 with spaces between, so that records compare.
type keyTexts string

func textsOf(keys []crypto.PublicKey) keyTexts {
	texts := make([]string, 0, len(keys))
	for _, k := range keys {
		texts = append(texts, k.String())
	}
	return keyTexts(strings.Join(texts, " "))
}

// keys returns those that are well formed: the file is a help, no authority.
func (t keyTexts) keys() (out []crypto.PublicKey) {
	for text := range strings.FieldsSeq(string(t)) {
		if key, err := crypto.ParsePublicKey(text); err == nil {
			out = append(out, key)
		}
	}
	return out
}

// hashTexts lists names of TLS keys in hex with spaces between.
type hashTexts string

// tlsTexts lists the keys of a ring but one that have not ended.
func tlsTexts(ring fsm.Ring, but crypto.Hash, nowMs int64) hashTexts {
	var texts []string
	for i, k := range ring {
		if state := ring.StateOf(i, nowMs); crypto.Hash(k.Public) != but && state != fsm.KeyRetired && state != fsm.KeyRevoked {
			texts = append(texts, crypto.Hash(k.Public).String())
		}
	}
	return hashTexts(strings.Join(texts, " "))
}

// tlsRing returns the TLS keys, none of which has a window here.
func (a peerAddress) tlsRing() (out fsm.Ring) {
	if a.TLSKey.IsZero() {
		return nil
	}
	out = append(out, fsm.Key{Public: crypto.PublicKey(a.TLSKey), Succession: &fsm.Succession{SignedMs: a.TLSSignedMs}})
	for text := range strings.FieldsSeq(string(a.OtherTLSKeys)) {
		if key, err := crypto.ParseHash(text); err == nil && len(out) < fsm.MaxRingKeys {
			out = append(out, fsm.Key{Public: crypto.PublicKey(key)})
		}
	}
	return out
}

// lastSigned is when the last order for a key of a ring was signed.
func lastSigned(ring fsm.Ring) (ms int64) {
	for _, k := range ring {
		if k.Succession != nil {
			ms = max(ms, k.Succession.SignedMs)
		}
	}
	return ms
}

// ring returns the signing keys, none of which has a window here.
func (a peerAddress) ring() (out fsm.Ring) {
	if a.SigningKey.IsZero() {
		return nil
	}
	for _, key := range append([]crypto.PublicKey{a.SigningKey}, a.OtherKeys.keys()...) {
		out = append(out, fsm.Key{Public: key})
	}
	return out
}

func openAddressBook(dir string, log *slog.Logger) *addressBook {
	b := &addressBook{path: filepath.Join(dir, filePeers), log: log,
		heard: map[string]peerAddress{}, met: map[string]netip.Addr{}}
	defer b.locate()
	data, err := os.ReadFile(b.path)
	if err == nil {
		err = json.Unmarshal(data, &b.memberFile)
	}
	if err != nil && !os.IsNotExist(err) {
		log.Warn("the member file is unreadable, gossip will fill it again", "file", b.path, "error", err)
		b.memberFile = memberFile{}
	}
	return b
}

// record replaces the records and writes them to the file, unless they are
// older than what is there: a state that was just restored lies in the past.
func (b *addressBook) record(all memberFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if all.Index < b.Index || maps.Equal(b.Members, all.Members) {
		b.Index = max(b.Index, all.Index)
		return
	}
	b.memberFile = all
	b.locate()
	b.write()
}

// write puts the records into the file. Called with mu locked.
func (b *addressBook) write() {
	data, err := json.MarshalIndent(b.memberFile, "", "  ")
	if err == nil {
		err = keyfile.WriteAtomic(b.path, data)
	}
	if err != nil {
		b.log.Warn("cannot write the member file", "file", b.path, "error", err)
	}
}

// hear notes what a trusted gossip card says.
func (b *addressBook) hear(id string, a peerAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard[id] != a {
		b.heard[id] = a
		b.locate()
	}
}

// meet notes where a node proved to be.
func (b *addressBook) meet(id string, at netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.met[id] != at {
		b.met[id] = at
		b.locate()
	}
}

// locate finds anew who is at which address. Names are not looked up: gossip tells
// where such a node is reached. Called with mu locked, or before others know b.
func (b *addressBook) locate() {
	b.homes = map[netip.Addr][]string{}
	for _, from := range []map[string]peerAddress{b.Members, b.heard} {
		for id, a := range from {
			for _, address := range []string{a.Raft, a.API, a.Gossip, a.Reached} {
				b.settle(id, limit.HolderOf(address))
			}
		}
	}
	for id, at := range b.met {
		b.settle(id, at)
	}
}

func (b *addressBook) settle(id string, at netip.Addr) {
	if at.IsValid() && !slices.Contains(b.homes[at], id) {
		b.homes[at] = append(b.homes[at], id)
	}
}

// at returns the nodes that are at an address, as limit.Holder counts them. Nobody
// changes the answer.
func (b *addressBook) at(addr netip.Addr) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.homes[addr]
}

// recordOf returns the record of a node as the replicated state last had it,
// and the index as of which that is.
func (b *addressBook) recordOf(id string) (a peerAddress, asOf uint64, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, known = b.Members[id]
	return a, b.Index, known
}

// restart has the records count until the state that this node fetches anew has
// its own record.
func (b *addressBook) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Index = 0
	b.write()
}

// doubt forgets who the members are, but for their addresses, if the records are of
// a log index that raft has not: no state of this node ever was there.
func (b *addressBook) doubt(last uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Index <= last {
		return
	}
	b.log.Warn("the member file is of a log index that this node never reached: only the addresses in it count", "file", b.path, "index", b.Index, "last", last)
	b.memberFile = introduced(b.memberFile, peerName{})
	b.write()
}

// coordinators returns the recorded voters-to-be but our own.
func (b *addressBook) coordinators(self string) []string {
	return b.others(self, func(r fsm.Role) bool { return r == fsm.RoleCoordinator })
}

// witnesses are the coordinators and those of whom only the address is known: who they
// are shows when they answer.
func (b *addressBook) witnesses(self string) []string {
	return b.others(self, func(r fsm.Role) bool { return r == fsm.RoleCoordinator || r == "" })
}

func (b *addressBook) others(self string, of func(fsm.Role) bool) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for id, a := range b.Members {
		if id != self && of(a.Role) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// coordinatorAddresses returns where coordinators listen, by node id: what gossip
// heard goes before the records.
func (b *addressBook) coordinatorAddresses() map[string]peerAddress {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]peerAddress{}
	for id, a := range b.Members {
		if a.Role == fsm.RoleCoordinator {
			out[id] = a
		}
	}
	maps.Copy(out, b.heard)
	return out
}

// raftAddresses returns the addresses to try for a node, newest first.
func (b *addressBook) raftAddresses(id string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, from := range []map[string]peerAddress{b.heard, b.Members} {
		if a, ok := from[id]; ok && !slices.Contains(out, a.Raft) {
			out = append(out, a.Raft)
		}
	}
	return out
}

// gossipSeeds returns every known gossip address but our own.
func (b *addressBook) gossipSeeds(self string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, from := range []map[string]peerAddress{b.Members, b.heard} {
		for id, a := range from {
			if id != self && !slices.Contains(out, a.Gossip) {
				out = append(out, a.Gossip)
			}
		}
	}
	slices.Sort(out)
	return out
}
