package node

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// What other nodes say of keys, as the leader hears it. What Apply would refuse
// stands in the log all the same, so it is asked before.

const (
	// wordRate is how many words on keys a second a node may have in the log: a schedule
	// has hours between two. The burst is for rotations that were asked for.
	wordRate  = 0.2
	wordBurst = 16
	// maxWordBytes bounds one: a subject, two keys and three signatures are a quarter.
	maxWordBytes = 4 << 10
)

// hearOfKeys decides what of a node's command about keys needs no place in the log:
// a refusal that is known before, or what was said already.
func (n *Node) hearOfKeys(from string, cmd fsm.Command) (res fsm.Result, decided bool, err error) {
	own := cmd.Actor.NodeID == from
	if own && len(cmd.Body) > maxWordBytes && (cmd.Kind == fsm.KindKeyPrepare || cmd.Kind == fsm.KindKeyReady) {
		return res, false, &client.Error{Code: client.CodeTooLarge, Detail: fmt.Sprintf("a change of keys of %d bytes, at most %d", len(cmd.Body), maxWordBytes)}
	}
	switch cmd.Kind {
	case fsm.KindKeyReady:
		err = n.needsWord(from, cmd)
	case fsm.KindKeyPrepare:
		res, err = n.foresee(cmd)
		decided = err == nil && (!res.OK() || res.Repeated)
	default:
		return res, false, nil
	}
	if err != nil || decided || !own {
		return res, decided, err
	}
	if wait := n.words.Take(from); wait > 0 {
		err = &client.Error{Code: client.CodeOverloaded, RetryAfter: wait, Detail: fmt.Sprintf("node %s changes its keys too often", from)}
	}
	return res, false, err
}

// foresee returns what Apply would say of the next key of somebody.
func (n *Node) foresee(cmd fsm.Command) (res fsm.Result, err error) {
	b, err := fsm.BodyOf[fsm.KeyPrepare](cmd)
	if err != nil {
		return res, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	n.machine.Read(func(s *fsm.State) { res = s.CheckPrepare(cmd.Actor, b, s.ClockMs()) })
	return res, nil
}

// needsWord tells whether the word of a node that it holds a key is news. Anybody
// could fill the log with it else.
func (n *Node) needsWord(from string, cmd fsm.Command) error {
	body, err := fsm.BodyOf[fsm.KeyReady](cmd)
	if err != nil {
		return &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	waits := false
	n.machine.Read(func(s *fsm.State) {
		of, err := fsm.ParseSubject(body.Subject)
		if err != nil {
			return
		}
		ring, _ := s.KeyRing(of)
		for _, k := range ring {
			if k.Shared != nil && k.Public.Fingerprint() == body.Key {
				_, said := slices.BinarySearch(k.Shared.Ready, from)
				waits = k.Shared.Waits && !said
			}
		}
	})
	if !waits {
		return &client.Error{Code: client.CodeConflict, Field: "key", Detail: "no key of " + body.Subject + " waits for this node's word"}
	}
	return nil
}
