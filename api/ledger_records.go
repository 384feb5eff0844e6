package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// maxScan bounds the records that one page of an account's looks at: some 20 ms.
const maxScan = 20_000

// recordsPage is how many records of history are in memory at once.
const recordsPage = 1024

// ledgerRecords answers GET /v1/ledger/records.
func (s *Server) ledgerRecords(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	from, err := c.queryNumber("from", 1, 1<<62)
	if err != nil {
		return err
	}
	account := c.r.URL.Query().Get("account")
	out := client.LedgerRecords{Records: []client.LedgerRecord{}, Checkpointed: s.checkpointed()}
	if err := c.read(func(state *fsm.State) {
		book := s.bookOf(state)
		out.Size, out.Head = book.Size, book.Head.String()
	}); err != nil {
		return err
	}
	from = max(from, 1)
	next, taken := from, 0
	for r, err := range s.ledgerHistory(c.ctx, from, min(out.Size, from+maxScan-1)) {
		if err != nil {
			return err
		}
		if !bytes.Contains(r.Data, []byte(account)) { // where it would stand as it is written: nearly all are passed over unread
			next = r.Seq + 1
			continue
		}
		rec, err := ledger.ParseRecord(r.Data)
		if err != nil {
			return fmt.Errorf("ledger history: %w", err)
		}
		if account == "" || isAbout(&rec, account) {
			if taken += len(r.Data); len(out.Records) == limit || taken > maxPageBytes/2 && len(out.Records) > 0 {
				break
			}
			out.Records = append(out.Records, wireRecord(&rec, r.Data))
		}
		next = r.Seq + 1
	}
	if next <= out.Size {
		out.Next = next
	}
	out.Finality = finality(next-1, out.Checkpointed)
	return c.reply(http.StatusOK, out)
}

// ledgerHistory yields the records from one on up to another, which the state has.
func (s *Server) ledgerHistory(ctx context.Context, from, to uint64) iter.Seq2[fsm.Record, error] {
	return func(yield func(fsm.Record, error) bool) {
		for from <= to {
			n := int(min(recordsPage, to-from+1))
			records, err := s.node.Records(fsm.StreamLedger, from, n)
			if err == nil && len(records) != n {
				err = fmt.Errorf("%d records from %d on, the state has %d", len(records), from, n)
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(fsm.Record{}, fmt.Errorf("ledger history: %w", err))
				return
			}
			for _, r := range records {
				if r.Seq != from {
					yield(fsm.Record{}, fmt.Errorf("ledger history: record %d where %d belongs", r.Seq, from))
					return
				}
				if !yield(r, nil) {
					return
				}
				from++
			}
		}
	}
}

// isAbout tells whether a record is about an account.
func isAbout(r *ledger.Record, account string) bool {
	switch {
	case r.Debit == account || r.Credit == account:
		return true
	case r.Account != nil:
		return r.Account.ID == account
	case r.Report != nil:
		return r.Report.Report.Account == account || r.Report.Report.Payer == account
	}
	return false
}

func wireRecord(r *ledger.Record, data []byte) client.LedgerRecord {
	out := client.LedgerRecord{Seq: r.Seq, Index: r.Index, AtMs: r.AtMs, Kind: r.Kind.String(), Actor: r.Actor, Ref: r.Ref, Debit: r.Debit, Credit: r.Credit,
		Amount: r.Amount, ExpiresMs: r.ExpiresMs, Weight: r.Weight, WindowMs: r.WindowMs, Prev: r.Prev.String(), Hash: r.Hash.String(),
		Data: base64.StdEncoding.EncodeToString(data)}
	if r.ID != (ledger.ID{}) {
		out.ID = r.ID.String()
	}
	if r.Hold != (ledger.ID{}) {
		out.Hold = r.Hold.String()
	}
	switch r.Kind {
	case ledger.KindTransfer:
		out.DebitBalance, out.CreditBalance = &r.DebitBalance, &r.CreditBalance
	case ledger.KindPost:
		out.DebitBalance, out.CreditBalance, out.DebitHeld = &r.DebitBalance, &r.CreditBalance, &r.DebitHeld
	case ledger.KindHold, ledger.KindVoid, ledger.KindExpire:
		out.DebitHeld = &r.DebitHeld
	case ledger.KindShare:
		out.CreditBalance = &r.CreditBalance
		if r.Withheld != ledger.NotWithheld {
			out.Detail = "withheld=" + r.Withheld.String()
		}
	case ledger.KindKey:
		out.Detail = "key=" + r.Key.Fingerprint().String()
	case ledger.KindAccount:
		a := r.Account
		out.Account, out.Detail = a.ID, fmt.Sprintf("kind=%s owner=%s floor=%d frozen=%t", a.Kind, a.Owner, a.Floor, a.Frozen)
	case ledger.KindReport:
		p := &r.Report.Report
		out.ID, out.Account, out.Weight = p.ID.String(), p.Account, p.Weight()
		out.Detail = fmt.Sprintf("agent=%s payer=%s task=%s class=%s duration_ms=%d ok=%t", p.AgentID, p.Payer, p.Task, p.Class, p.DurationMs, p.OK)
	case ledger.KindPolicy:
		p := r.Policy
		out.Detail = fmt.Sprintf("version=%d id_window_ms=%d hold_max_ms=%d report_keep_ms=%d confirm=%s base_daily=%d min_daily=%d max_daily=%d slope=%d alpha=%d max_weight=%d",
			p.Version, p.IDWindowMs, p.HoldMaxMs, p.ReportKeepMs, p.Confirm, p.BaseDaily, p.MinDaily, p.MaxDaily, p.SlopeMicro, p.AlphaMicro, p.MaxWeight)
	case ledger.KindEpoch:
		e := r.Epoch
		out.Amount = e.Pool
		out.Detail = fmt.Sprintf("queued=%d agents=%d cpu=%d gpu=%d load_micro=%d accounts=%d", e.Load.Queued, e.Load.Agents, e.Load.CPU, e.Load.GPU, e.Smoothed, e.Accounts)
	case ledger.KindRecovery:
		out.Detail = fmt.Sprintf("epoch=%d floor_ms=%d was_ms=%d", r.Recovery.Epoch, r.Recovery.FloorMs, r.Recovery.WasMs)
	}
	return out
}

// exportLedger answers GET /v1/ledger/export. One that breaks off lacks its head.
func (s *Server) exportLedger(c *call) error {
	note, sealed := s.ledgerNote() // before the records, which then hold what it does
	var book fsm.LedgerBook
	if err := c.read(func(state *fsm.State) { book = s.bookOf(state) }); err != nil {
		return err
	}
	if sealed > book.Size { // this replica is behind
		note = nil
	}
	out, err := c.stream("")
	if err != nil {
		return err
	}
	out.kind = []string{client.LedgerExportType}
	c.w.Header()["Content-Disposition"] = []string{fmt.Sprintf("attachment; filename=%q", fmt.Sprintf("edgecoder-ledger-%s-%d.export", book.Origin, book.Size))}
	if err := ledger.WriteExport(out.out, book.Origin, note, s.ledgerData(c.r.Context(), 1, book.Size), book.Head); err != nil {
		return err
	}
	return out.end("")
}

func (s *Server) ledgerData(ctx context.Context, from, size uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for r, err := range s.ledgerHistory(ctx, from, size) {
			if !yield(r.Data, err) || err != nil {
				return
			}
		}
	}
}

// bookOf returns the book of the ledger; of one that is not open yet that of no records.
func (s *Server) bookOf(state *fsm.State) fsm.LedgerBook {
	book, open := state.LedgerBook()
	if !open {
		book.Origin, book.Head = s.cfg.ClusterID, ledger.Genesis(s.cfg.ClusterID)
	}
	return book
}

// answerLate answers a call that may have taken longer than others do.
func (c *call) answerLate(v any) error {
	out, err := c.stream("")
	if err != nil {
		return err
	}
	return out.end(string(encodeJSON(v)))
}
