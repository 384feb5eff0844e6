package cmd

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestBenchLedger: what took effect is counted, what was refused too, and the credits
// are given back.
func TestBenchLedger(t *testing.T) {
	var back atomic.Int64
	routes := map[string]reply{
		"POST /v1/ledger/transfers": always(client.LedgerResult{Code: client.LedgerOK}),
		"POST /v1/ledger/transfers/batch": func(c call) any {
			var b client.LedgerBatch
			if err := json.Unmarshal([]byte(c.body), &b); err != nil {
				t.Error(err)
			}
			out := client.LedgerResults{}
			for i, e := range b.Entries {
				r := client.LedgerResult{ID: e.ID, Code: client.LedgerOK}
				if e.Ref == "" && i == 0 {
					r.Code = client.LedgerInsufficient
				}
				if e.Credit == "@issuance" {
					back.Add(e.Amount)
				}
				out.Results = append(out.Results, r)
			}
			return out
		},
	}
	routes["POST /v1/ledger/accounts"] = func(c call) any { // from then on it can be asked for
		var req client.AccountRequest
		if err := json.Unmarshal([]byte(c.body), &req); err != nil {
			t.Error(err)
		}
		routes["GET /v1/ledger/accounts/"+req.ID] = always(client.Account{ID: req.ID, Available: 5})
		return client.Account{}
	}
	f := newFakeAPI(t, routes)
	pointAt(t, f)
	var out, errOut bytes.Buffer
	var clock atomic.Int64
	p := &program{in: strings.NewReader(""), out: &out, err: &errOut, rand: rand.Reader, self: programName,
		now: func() time.Time { return time.UnixMilli(testNowMs + clock.Add(20)) }}
	status := p.run(t.Context(), []string{"bench", "ledger", "--clients", "1", "--batch", "1,4", "--duration", "1s", "--format", "json"})
	var report benchReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || status != exitDone || len(report.Runs) != 2 {
		t.Fatalf("exit status %d, %v: %s%s", status, err, out.String(), errOut.String())
	}
	one, four := report.Runs[0], report.Runs[1]
	if one.Done == 0 || one.Refused != 0 || four.Done != 3*four.Refused || four.FirstErr != client.LedgerInsufficient || four.Batch != 4 {
		t.Errorf("%+v", report.Runs)
	}
	if back.Load() != benchAccounts*5 {
		t.Errorf("%d were given back", back.Load())
	}
	for _, args := range [][]string{{"--clients", "0"}, {"--clients", "x"}, {"--batch", "1025"}, {"--duration", "1ns"}} {
		if r := runArgs(t, "", append([]string{"bench", "ledger"}, args...)...); r.status != exitUsage {
			t.Errorf("%v: exit status %d", args, r.status)
		}
	}
}

func TestBenchLoad(t *testing.T) {
	now := time.UnixMilli(testNowMs)
	tick := func() time.Time { now = now.Add(10 * time.Millisecond); return now }
	run := load(1, 4, time.Second, tick, func(_ int, t *tally) { t.done += 4; t.refused++ })
	if run.Done != 4*run.Refused || run.Refused < 20 || run.P50Ms != 10 || run.PerSecond < 100 || run.Clients != 1 || run.Batch != 4 {
		t.Errorf("%+v", run)
	}
}
