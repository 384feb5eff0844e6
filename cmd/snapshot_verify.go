package cmd

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/node"
)

func (p *program) snapshotVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check a backup: every checksum, and the whole signed chain",
		UsageText: "edgecoder snapshot verify FILE [--cluster]",
		Description: "Examples:\n  edgecoder snapshot verify before-upgrade.snapshot\n  edgecoder snapshot verify before-upgrade.snapshot --cluster\n\n" +
			"Each event's link, hash and signatures are checked, and that the bans follow from the chain. The keys are those in the file: that\n" +
			"proves that it is consistent. With --cluster they must be the cluster's, and the backup's head must be on the live chain.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "cluster", Usage: "compare with the cluster of --addr as well"}},
		Action: p.snapshotVerify,
	}
}

// checkedView is the JSON of `snapshot verify`.
type checkedView struct {
	Verified bool   `json:"verified"`
	KeysFrom string `json:"keys_from"` // "file" proves consistency only
	node.BackupReport
	Live  *liveView  `json:"live,omitempty"`
	Fault *faultView `json:"fault,omitempty"`
}

// liveView is how a backup stands to the live cluster.
type liveView struct {
	SameCluster  bool   `json:"same_cluster"`
	SameEpoch    bool   `json:"same_epoch"`
	Epoch        uint64 `json:"epoch"`
	OnChain      bool   `json:"on_chain"`      // its head is an event of the live chain
	EventsBehind uint64 `json:"events_behind"` // events that the live chain has on top
}

func (p *program) snapshotVerify(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	var api *client.Client
	if c.Bool("cluster") {
		if api, err = p.connect(c, withToken); err != nil {
			return err
		}
	}
	view := checkedView{KeysFrom: "file"}
	view.BackupReport, err = node.VerifyBackup(args[0], p.progress())
	if err != nil && !errors.Is(err, node.ErrBackup) {
		return backupFault(args[0], err)
	}
	if f := view.BackupReport.Fault; f != nil {
		view.Fault = &faultView{Seq: f.Seq + 1, EventID: f.EventID, Code: f.Code, Detail: f.Detail}
	} else if f := view.LedgerFault; f != nil {
		view.Fault = &faultView{Code: f.Code, Detail: f.Error()}
	} else if err != nil {
		view.Fault = &faultView{Code: "damaged", Detail: err.Error()}
	}
	if err == nil && api != nil {
		if err = p.compareBackup(c, api, &view); err != nil && view.Fault == nil {
			return err
		}
	}
	view.Verified = err == nil
	return p.printChecked(c, args[0], view, err)
}

// compareBackup holds the backup against the cluster. An error without a fault in
// the view says that the cluster did not tell.
func (p *program) compareBackup(c *cli.Context, api *client.Client, view *checkedView) error {
	st, err := api.Status(c.Context, client.Strong())
	if err != nil {
		return err
	}
	live := &liveView{SameCluster: st.ClusterID == view.ClusterID, Epoch: st.Epoch, SameEpoch: st.Epoch == view.Epoch}
	view.Live = live
	if !live.SameCluster {
		return view.fail("other_cluster", "it is of cluster %s, this is cluster %s", view.ClusterID, st.ClusterID)
	}
	keys, err := fetchKeys(c.Context, api)
	if err != nil {
		return err
	}
	pinned, err := keyMap(keys)
	if err != nil {
		return err
	}
	for id, pem := range view.Keys {
		if have, ok := pinned[id]; !ok || have.PEM() != pem {
			return view.fail("strange_key", "the key of coordinator %s in the backup is none of the cluster's", id)
		}
	}
	view.KeysFrom = "cluster"
	page, err := api.ChainEvents(c.Context, max(view.ChainSize, 1), 1)
	if err != nil {
		return err
	}
	live.OnChain = view.ChainSize == 0 || page.Size >= view.ChainSize && len(page.Events) > 0 && hashOf(page.Events[0].Event) == view.ChainHead
	if !live.OnChain {
		return view.fail(crypto.ChainHeadMismatch, "its head %s is not event %d of the live chain: that chain was restored or recovered since, or the backup is of another past", view.ChainHead, view.ChainSize)
	}
	live.EventsBehind = page.Size - view.ChainSize
	return nil
}

func hashOf(event json.RawMessage) string {
	e, err := crypto.ParseBlacklistEvent(event)
	if err != nil {
		return ""
	}
	return e.EventHash
}

func (v *checkedView) fail(code, format string, args ...any) error {
	v.Fault = &faultView{Code: code, Detail: fmt.Sprintf(format, args...)}
	return errors.New(v.Fault.Detail)
}

func (p *program) printChecked(c *cli.Context, file string, view checkedView, fault error) error {
	if view.KeysFrom == "file" {
		p.say("keys are those in the file itself: this proves that it is consistent, not who made it; compare with --cluster")
	}
	if err := p.emit(c, view, func(t *table) { drawChecked(t, view) }); err != nil {
		return err
	}
	if view.Unproven > 0 {
		p.say("note: %d events claim a reporter's signature but carry none that verifies: that rests on the coordinator alone", view.Unproven)
	}
	if fault != nil {
		return refusedf("%s is not verified: %w", file, fault)
	}
	return nil
}

func drawChecked(t *table, view checkedView) {
	if view.Verified {
		t.row("backup", "verified")
	} else {
		t.row("backup", "NOT verified")
	}
	if f := view.Fault; f != nil {
		if f.Seq > 0 {
			t.row("first bad event", fmt.Sprintf("seq %d  %s", f.Seq, orDash(f.EventID)))
		}
		t.row("fault", f.Code)
		t.row("detail", f.Detail)
	}
	if view.ClusterID == "" {
		return // nothing could be read
	}
	t.row("good events", fmt.Sprintf("%d of %d", view.Events, view.ChainSize))
	if view.LedgerSize > 0 {
		t.row("good ledger records", fmt.Sprintf("%d of %d", view.LedgerRecords, view.LedgerSize))
	}
	t.row("keys from", view.KeysFrom)
	if l := view.Live; l != nil && l.SameCluster {
		t.row("live epoch", number(l.Epoch))
		t.row("events behind", number(l.EventsBehind))
	}
	drawBackup(t, view.BackupInfo)
}
