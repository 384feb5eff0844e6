package cmd

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// Whether events are missing at the end of a saved chain. The file itself
// cannot tell: a truncated one is as consistent as a whole one. Only a head
// that was kept elsewhere, or the cluster, can.

// Faults of a chain file beside those of crypto.ChainError.
const (
	faultMalformed    = "malformed"
	faultVersion      = "version_mismatch"     // the number of events is not the one it claims
	faultHeadMissing  = "trusted_head_missing" // it does not contain the head of --head
	faultNotInCluster = "not_in_cluster_chain" // the cluster has another event there, or none
)

// chainEnd looks out for the head of --head while the chain is walked.
type chainEnd struct {
	head string // "": none was given
	seen bool
	at   int // events up to it
	tree *signedTree
}

func newEnd(head string) *chainEnd {
	return &chainEnd{head: head, seen: head == crypto.BlacklistGenesis}
}

func (e *chainEnd) pass(chain *crypto.ChainVerifier, event *crypto.BlacklistEvent) {
	if e.tree != nil {
		e.tree.add(event.WireJSON())
	}
	if chain.Head() == e.head {
		e.seen, e.at = true, chain.Size()
	}
}

func (e *chainEnd) complete(events int) string {
	if e.at == events {
		return fmt.Sprintf("complete: it ends at the given head, event %d", events)
	}
	return fmt.Sprintf("%s; the given head is event %d", openEnd(events), e.at)
}

func headOf(c *cli.Context) (string, error) {
	head := c.String("head")
	if head == "" || head == crypto.BlacklistGenesis {
		return head, nil
	}
	if _, err := crypto.ParseHash(head); err != nil {
		return "", usagef("--head: %w", err)
	}
	return head, nil
}

func openEnd(events int) string {
	return fmt.Sprintf("complete up to event %d only: a truncated file looks the same", events)
}

// checkEnd compares the end of a good chain with the head that was given and
// with the cluster, and says in view what is known. fault means that the chain
// is not verified, err that the cluster did not answer.
func (p *program) checkEnd(c *cli.Context, api *client.Client, known *chainEnd, view *verifyView) (fault, err error) {
	view.Complete = openEnd(view.Events)
	if known.head != "" {
		if !known.seen {
			return view.fail(faultHeadMissing, "the head %s is not in the chain: events are missing, or it is another chain", known.head), nil
		}
		view.Complete = known.complete(view.Events)
	}
	if api != nil {
		return p.compareLive(c, api, view)
	}
	if known.head == "" || known.at < view.Events {
		p.say("note: the chain is %s; compare with a newer head that you saved (--head HASH) or with the cluster (--addr URL)", view.Complete)
	}
	return nil, nil
}

// compareLive asks the cluster for the event at the end of the file.
func (p *program) compareLive(c *cli.Context, api *client.Client, view *verifyView) (fault, err error) {
	page, err := api.ChainEvents(c.Context, uint64(max(view.Events, 1)), 1, client.Strong())
	if err != nil {
		return nil, err
	}
	size := uint64(view.Events)
	if page.Size < size {
		return view.fail(faultNotInCluster, "the cluster's chain has %d events only", page.Size), nil
	}
	if size > 0 {
		if fault := sameEvent(page, view); fault != nil {
			return fault, nil
		}
	}
	newer := page.Size - size
	view.Newer = &newer
	view.Complete = fmt.Sprintf("the cluster's chain has this head at event %d, and %d newer events", size, newer)
	return nil, nil
}

func sameEvent(page client.ChainPage, view *verifyView) error {
	if len(page.Events) != 1 || page.Events[0].Seq != uint64(view.Events) {
		return view.fail(faultNotInCluster, "the cluster did not show event %d", view.Events)
	}
	live, err := crypto.ParseBlacklistEvent(page.Events[0].Event)
	if err != nil {
		return view.fail(faultNotInCluster, "event %d of the cluster is malformed: %v", view.Events, err)
	}
	if hash := live.ComputeHash().String(); hash != view.Head {
		return view.fail(faultNotInCluster, "the cluster's chain has %s at event %d, the file %s", hash, view.Events, view.Head)
	}
	return nil
}

// fail notes a fault at the end of the chain.
func (v *verifyView) fail(code, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	v.Verified, v.Complete = false, ""
	v.Fault = &faultView{Seq: v.Events, Code: code, Detail: detail}
	return errors.New(code + ": " + detail)
}
