package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// saw is what the polls saw of a key that nodes made.
type saw struct {
	not   int64 // when it surely had not begun yet, Unix milliseconds
	begun bool  // it stands in the book
}

// keyList is what the leader says of all keys, and when it may have looked.
func (y *keyYears) keyList() (list client.KeyList, at span, err error) {
	err = errors.New("no server runs")
	for _, s := range y.sorted() {
		if s.running() == nil {
			continue
		}
		at.lo = nowMs()
		if list, err = y.client(s).KeyList(y.t.Context(), "", client.Strong()); err == nil {
			at.hi = nowMs()
			return list, at, nil
		}
	}
	return list, at, err
}

// poll sees which keys of coordinators, of gossip and of the CA have begun.
func (y *keyYears) poll() {
	list, at, err := y.keyList()
	if err != nil {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, row := range list.Keys {
		if byNodes(row.Subject) {
			y.observe(row, at)
		}
	}
}

// observe takes one subject in. The caller holds mu.
func (y *keyYears) observe(row client.Keys, at span) {
	known := y.seen[row.Subject]
	first := known == nil
	if first {
		known = map[string]*saw{}
		y.seen[row.Subject] = known
	}
	for _, k := range row.Keys {
		have := known[k.KeyID]
		if have == nil {
			have = &saw{}
			if last := known[""]; last != nil {
				have.not = last.not
			}
			known[k.KeyID] = have
			if k.Certificate != "" {
				y.cas[k.KeyID] = []byte(k.Certificate)
			}
			if k.PeerID != "" {
				y.peers[k.PeerID] = [2]string{row.Subject, k.KeyID}
			}
		}
		switch k.State {
		case client.KeyNext:
			have.not = at.lo
		case client.KeyActive, client.KeyRetiring, client.KeyRetired:
			if !have.begun {
				have.begun = true
				from := span{have.not, at.hi}
				if first {
					from.lo = 0
				}
				y.book.begins(row.Subject, k.KeyID, from)
			}
		}
	}
	known[""] = &saw{not: at.lo} // whoever is not here by now had not begun
}

// look sees by what the servers that are well go: CAs and gossip keys that they hold, and who believes the certificates that they show.
func (y *keyYears) look(dice *mathrand.Rand) {
	y.mu.Lock()
	cas := map[string][]byte{}
	for id, text := range y.cas {
		cas[id] = text
	}
	y.mu.Unlock()
	for _, s := range y.sorted() {
		n := y.sound(s)
		if n == nil {
			continue
		}
		set, at := n.shared.Load(), span{nowMs(), nowMs()}
		var gossip, trusted []string
		for _, key := range set.ring {
			gossip = append(gossip, fsm.PoolKeyName(key).KeyID())
		}
		for _, a := range set.cas {
			trusted = append(trusted, crypto.PublicKey(a.id()).KeyID())
		}
		y.book.held("gossip", s.name+" holds", gossip, at)
		y.book.held("ca", s.name+" trusts", trusted, at)
		if dice.IntN(2) > 0 {
			continue
		}
		for id, ca := range cas {
			from := nowMs()
			accepted, decided := y.shakeHands(s, ca)
			if decided && y.sound(s) == n {
				y.book.used(keyUseSeen{subject: "ca", key: id, span: span{from, nowMs()}, accepted: accepted, what: s.name + " shows its certificate to whoever trusts this CA alone"})
			}
		}
	}
}

// ban has whoever leads sign an event.
func (y *keyYears) ban(dice *mathrand.Rand) {
	s := y.sorted()[dice.IntN(len(y.servers))]
	if s.running() == nil {
		return
	}
	id := "bad-" + y.fresh()
	_, err := y.client(s).Ban(y.t.Context(), client.BanRequest{AgentID: id, ReasonCode: crypto.ReasonManualReview, Reason: "a test", EvidenceSHA256: crypto.Sum([]byte(id)).String(), ReporterID: "operator"})
	switch code(err) {
	case client.CodeForbidden, client.CodeUnauthorized, client.CodeInvalid, client.CodeConflict:
		y.book.find("a legitimate ban was refused: %v", err)
	}
}

// readChain takes every event of the chain for a use of the key that signed it, at the time that stands in it, and walks the chain with the keys that
// a server tells of.
func (y *keyYears) readChain() {
	s := y.leader()
	cl := y.client(s)
	peers, err := cl.MeshPeers(y.t.Context())
	if err != nil {
		y.t.Fatal(err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, p := range peers.Peers {
		keys[p.PeerID] = parsePEM(y.t, p.PublicKeyPEM)
	}
	var events []json.RawMessage
	audit, err := cl.Audit(y.t.Context(), func(text json.RawMessage) error {
		e, err := crypto.ParseBlacklistEvent(text)
		by := y.peers[e.SourceCoordinatorID]
		y.book.used(keyUseSeen{subject: by[0], key: by[1], span: span{e.TimestampMs, e.TimestampMs}, accepted: true, what: "event " + e.EventID + " by " + e.SourceCoordinatorID})
		events = append(events, slices.Clone(text))
		return err
	})
	if err == nil {
		err = walkChain(events, audit.ChainHead, keys)
	}
	if err != nil {
		y.t.Errorf("the chain does not verify with the keys that are served: %v", err)
	}
}

// orders are what is asked for in a season, one after the other.
func (y *keyYears) orders() (out []func()) {
	dice := mathrand.New(mathrand.NewPCG(y.dice.Uint64(), 4))
	if y.season > 0 && dice.IntN(3) == 0 {
		out = append(out, y.schedules)
	}
	for _, o := range y.owners {
		switch dice.IntN(8) {
		case 0, 1, 2, 3, 4:
			out = append(out, func() { o.rotate(dice) })
		case 5:
			out = append(out, func() { o.lose(dice) })
		}
	}
	for _, of := range append([]string{"gossip", "ca"}, y.coordinators()...) {
		switch n := dice.IntN(12); {
		case n < 4 || kindOf(of) != "coordinator" && n < 7:
			out = append(out, func() {
				y.insist(of+" is to be rotated", func(cl *client.Client) error {
					_, err := cl.RotateKey(y.t.Context(), of, client.RotateRequest{})
					return err
				})
			})
		case n == 11:
			out = append(out, func() { y.revokeActive(of) })
		}
	}
	dice.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func (y *keyYears) coordinators() (out []string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for of := range y.seen {
		if kindOf(of) == "coordinator" {
			out = append(out, of)
		}
	}
	slices.Sort(out)
	return out
}

// revokeActive has the key in use revoked, if the polls know which it is.
func (y *keyYears) revokeActive(of string) {
	list, at, err := y.keyList()
	if err != nil {
		return
	}
	for _, row := range list.Keys {
		if row.Subject != of || row.KeyID == "" {
			continue
		}
		y.mu.Lock()
		y.observe(row, at)
		y.mu.Unlock()
		y.revoke(of, row.KeyID)
	}
}

// schedules draws the schedules of all kinds anew.
func (y *keyYears) schedules() {
	const hour, day = int64(fsm.MinPeriodMs), 24 * int64(fsm.MinPeriodMs)
	for _, kind := range []string{"agent", "manifest", "coordinator", "gossip", "ca"} {
		period := []int64{hour, hour, day, 30 * day}[y.dice.IntN(4)]
		if kind == "coordinator" {
			period = max(period, fsm.MinSigningPeriodMs)
		}
		lead := []int64{0, 0, (5 * time.Minute).Milliseconds()}[y.dice.IntN(3)]
		overlap := []int64{30_000, 60_000, 120_000}[y.dice.IntN(3)]
		y.book.overlap(kind, overlap)
		y.insist("the schedule of "+kind, func(cl *client.Client) error {
			now, err := cl.KeySchedule(y.t.Context(), kind, client.Strong())
			if err == nil {
				_, err = cl.SetKeySchedule(y.t.Context(), kind, now.Version, client.KeyScheduleUpdate{PeriodMs: &period, OverlapMs: &overlap, LeadMs: &lead})
			}
			return err
		})
	}
}

// held notes which of all keys that are known a server goes by.
func (b *keyBook) held(of, what string, held []string, at span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.subject(of).keys {
		b.uses = append(b.uses, keyUseSeen{subject: of, key: k.name, span: at, accepted: slices.Contains(held, k.name), what: what})
	}
}

// kept counts keys by the kind of their subject.
func (b *keyBook) kept() string {
	n := map[string]int{}
	for of, s := range b.subjects {
		n[kindOf(of)] += len(s.keys)
	}
	return fmt.Sprint(n)
}
