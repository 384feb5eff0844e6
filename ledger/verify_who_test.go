package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// Who may ask is a rule of the records: each of these lies is found at its record.
func TestVerifierHoldsWhoMayAsk(t *testing.T) {
	actor := func(who string) func(*Record) { return func(r *Record) { r.Actor = who } }
	for name, c := range map[string]struct {
		at     int
		change func(*Record)
	}{
		"an agent sets the policy":             {0, actor("agent:a")},
		"an operator sets one of its own":      {0, func(r *Record) { p := *r.Policy; p.IDWindowMs++; r.Policy, r.Actor = &p, "operator:o" }},
		"a token makes an account":             {2, actor("token:t1")},
		"an operator lets an account owe":      {1, actor("operator:o")},
		"an agent issues credits":              {3, actor("agent:thief")},
		"an operator issues credits":           {3, actor("operator:o")},
		"an agent holds of the shop":           {4, actor("agent:a")},
		"another token holds of the shop":      {4, actor("token:t2")},
		"an agent posts a hold of the shop":    {7, actor("agent:a")},
		"a stranger voids a hold of the shop":  {8, actor("agent:thief")},
		"a node moves money":                   {7, actor("node:n0")},
		"nobody moves money":                   {7, actor("none:x")},
		"an expiry by an agent":                {9, actor("agent:a")},
		"an agent names a key for another":     {10, actor("agent:b")},
		"a report handed in by another":        {11, actor("agent:b")},
		"a report handed in by a node":         {11, actor("node:n0")},
		"a report that a stranger's key signs": {11, func(r *Record) { s := r.Report.Report.Sign(testKey("stranger"), testCluster); r.Report = &s }},
		"the cluster pays": {11, func(r *Record) {
			rep := r.Report.Report
			rep.Payer = Reserve
			s := rep.Sign(testKey("a"), testCluster)
			r.Report = &s
		}},
		"an agent confirms its own work":    {14, actor("agent:a")},
		"the payer confirms, by policy not": {14, actor("token:t1")},
		"a stranger rejects":                {15, actor("token:t2")},
		"an operator closes an epoch":       {17, actor("operator:o")},
		"an agent takes a share":            {18, actor("agent:a")},
		"a share is withheld of no reason":  {18, func(r *Record) { r.Withheld = WithheldFrozen; r.Amount, r.CreditBalance = 0, 50 }},
		"an agent recovers":                 {19, actor("agent:a")},
		"escape sequences in an actor":      {20, actor("admin:\x1b]0;x\a")},
		"escape sequences in a ref":         {20, func(r *Record) { r.Ref = "\x1b[2J" }},
	} {
		records, _ := sampleRecords(func(n int, r *Record) {
			if n == c.at {
				c.change(r)
			}
		})
		_, err := verify(records)
		var bad *RecordError
		if !errors.As(err, &bad) || bad.Code != FaultRule || bad.Seq != uint64(c.at+1) {
			t.Errorf("%s: %v, want %s of record %d", name, err, FaultRule, c.at+1)
		}
	}
	for name, c := range map[string]struct {
		at  int
		who string
	}{
		"an operator opens the ledger":   {0, "operator:o"},
		"the shop holds of its own":      {4, "token:t1"},
		"and an operator that owns it":   {4, "operator:t1"},
		"who would be paid voids":        {8, "agent:a"},
		"the payer rejects":              {15, "token:t1"},
		"the leader closes":              {17, "node:n0"},
		"an agent moves what is its own": {20, "agent:a"},
	} {
		records, _ := sampleRecords(func(n int, r *Record) {
			if n == c.at {
				r.Actor = c.who
			}
		})
		if _, err := verify(records); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fed is a ledger with the accounts of three agents, which takes in records without the cost
// of hashing and signing them.
func fed(t *testing.T) (v *Verifier, feed func(Record) error) {
	t.Helper()
	v = NewVerifier(testCluster)
	seq := uint64(0)
	feed = func(r Record) error {
		seq++
		r.Seq, r.Index, r.Prev, r.Hash = seq, seq, v.head, crypto.Hash{byte(seq), byte(seq >> 8), byte(seq >> 16), 1}
		return v.AddChecked(Checked{r: r})
	}
	p := DefaultPolicy()
	for _, r := range []Record{
		{Kind: KindPolicy, Actor: "admin:root", Policy: &p},
		{Kind: KindAccount, Actor: "admin:root", Account: &Account{ID: "a", Kind: KindAgent, Owner: "a"}},
		{Kind: KindAccount, Actor: "admin:root", Account: &Account{ID: "b", Kind: KindAgent, Owner: "b"}},
		{Kind: KindAccount, Actor: "admin:root", Account: &Account{ID: "c", Kind: KindAgent, Owner: "c"}},
		{Kind: KindAccount, Actor: "admin:root", Account: &Account{ID: "shop", Kind: KindService, Owner: "t1"}},
	} {
		r.AtMs = testStart
		if err := feed(r); err != nil {
			t.Fatal(err)
		}
	}
	return v, feed
}

// A hostile file costs no more than a true one: what is beyond the bounds of any
// ledger is refused, and what is over is not looked for at every record.
func TestVerifierIsBounded(t *testing.T) {
	_, feed := fed(t)
	work := func(n int, atMs int64) error {
		by := []string{"a", "b", "c"}[n%3] // one may not use so many ids
		s := SignedReport{ClusterID: testCluster, Report: Report{ID: testID(atMs, n), AgentID: by, Account: by, Payer: "shop", Task: "t", Class: ClassCPU, DurationMs: 1}}
		return feed(Record{Kind: KindReport, AtMs: atMs, Actor: "agent:" + by, Report: &s})
	}
	for n := range MaxReports {
		if err := work(n, testStart); err != nil {
			t.Fatal(err)
		}
	}
	if err := work(MaxReports, testStart); err == nil {
		t.Errorf("more than %d reports wait", MaxReports)
	}

	_, feed = fed(t)
	keep := DefaultPolicy().ReportKeepMs
	from := time.Now()
	for n := range 2 * MaxReports { // the first half is over one by one while the second comes
		atMs := testStart + int64(n)
		if n >= MaxReports {
			atMs += keep - MaxReports + 2
		}
		if err := work(n, atMs); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(from); d > 20*time.Second {
		t.Errorf("%d reports, of which one ends as one comes, take %v", 2*MaxReports, d)
	}
}

// Ledgers were opened under this policy: another one of the name would not verify.
func TestFirstPolicyStays(t *testing.T) {
	p := FirstPolicy()
	r := Record{Kind: KindPolicy, Policy: &p}
	if r.Append(nil); r.Hash.String() != "7f12e3ac346f27b9f3621901842cd00f8ee32d6e4d9081dbfe174e3746a76a20" {
		t.Errorf("the first policy hashes to %s", r.Hash)
	}
}

func TestWindows(t *testing.T) {
	var w Windows
	hour := func(n int64) int64 { return n * EpochMs }
	for _, n := range []int64{5, 7, 1_000, 6, 1_002} {
		w = w.With(hour(n))
	}
	if len(w) != 3 || w.Fault() || w.Next(hour(5)) != hour(8) || w.Next(hour(4)) != hour(4) || w.Next(hour(1_001)) != hour(1_001) || w.Next(hour(1_002)) != hour(1_003) {
		t.Errorf("the windows are %v", w)
	}
	moved := w.Moved([]int64{hour(1_001), hour(6), hour(2_000), hour(9)}, hour(6))
	if len(moved) != 3 || moved[hour(9)] != hour(8) || moved[hour(1_001)] != hour(9) || moved[hour(2_000)] != hour(10) {
		t.Errorf("moved are %v", moved)
	}
	for n := range int64(2 * MaxWindowRanges) {
		w = w.With(hour(2_000 + n*100))
	}
	if len(w) != MaxWindowRanges || w.Fault() || w.Next(hour(2_000)) == hour(2_000) || w.Next(hour(2_000+100*2*MaxWindowRanges-150)) != hour(2_000+100*2*MaxWindowRanges-150) {
		t.Errorf("%d ranges", len(w))
	}
}

// From a recovery on reports are signed for the cluster that it names, and no more for
// the one before.
func TestVerifierKnowsTheClusterOfNow(t *testing.T) {
	v, feed := fed(t)
	report := func(n int, cluster string) error {
		s := SignedReport{ClusterID: cluster, Report: Report{ID: testID(testStart+2*MaxAheadMs, n), AgentID: "a", Account: "a", Payer: "shop", Task: "t", Class: ClassCPU, DurationMs: 1}}
		return feed(Record{Kind: KindReport, AtMs: testStart + 2*MaxAheadMs, Actor: "agent:a", Report: &s})
	}
	if err := feed(Record{Kind: KindRecovery, AtMs: testStart, Actor: "admin:root", Recovery: &Recovery{Epoch: 2, FloorMs: testStart, WasMs: testStart, ClusterID: "restored"}}); err != nil {
		t.Fatal(err)
	}
	if err := report(1, "restored"); err != nil {
		t.Fatal(err)
	}
	if err := report(2, testCluster); err == nil || v.failed.Code != FaultRule {
		t.Errorf("a report for the cluster of before: %v", err)
	}
}
