package cmd

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/ledger"
)

func TestLedgerAmounts(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "1500000": 1_500_000, "1.5cr": 1_500_000, "0.000001cr": 1, "-2cr": -2_000_000, "0": 0, "9007199254.740991cr": ledger.MaxMicro} {
		if got, err := amount("AMOUNT", text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1.5", "1e6", "0.0000001cr", "1/2", "x", "cr", "99999999999999999999", "1 cr"} {
		if got, err := amount("AMOUNT", text); err == nil {
			t.Errorf("%q reads as %d", text, got)
		}
	}
}

// TestLedgerTransferNamesItsID: whoever does not know what became of it can ask again.
func TestLedgerTransferNamesItsID(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/ledger/transfers": always(&client.Error{Code: client.CodeUnknownOutcome, Detail: "no majority", ClaimID: "0197-x"})})
	pointAt(t, f)
	r := runArgs(t, "", "ledger", "transfer", "a", "b", "5", "--timeout", "1s")
	if r.status != exitUnknown || !strings.Contains(r.err, "--id 0197-x") || strings.Contains(r.err, "--claim-id") {
		t.Errorf("exit status %d: %s", r.status, r.err)
	}
	asked := f.asked("POST /v1/ledger/transfers")
	ids := map[string]bool{}
	for _, c := range asked {
		var req client.TransferRequest
		if err := json.Unmarshal([]byte(c.body), &req); err != nil || req.Amount != 5 || req.Debit != "a" || req.Credit != "b" {
			t.Errorf("%s, %v", c.body, err)
		}
		ids[req.ID] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("%d tries under %v", len(asked), ids)
	}
	for _, args := range [][]string{{"a", "b"}, {"a", "b", "1.5"}, {"a", "b", "1", "c"}} {
		if r := runArgs(t, "", append([]string{"ledger", "transfer"}, args...)...); r.status != exitUsage {
			t.Errorf("%v: exit status %d: %s", args, r.status, r.err)
		}
	}
}

func TestLedgerStatementOfAnAccount(t *testing.T) {
	after := func(n int64) *int64 { return &n }
	f := newFakeAPI(t, map[string]reply{"GET /v1/ledger": always(client.Ledger{Open: true, Size: 9}), "GET /v1/ledger/records": always(client.LedgerRecords{Size: 9, Finality: client.FinalityCommitted, Records: []client.LedgerRecord{
		{Seq: 7, AtMs: testNowMs, Kind: "transfer", Debit: "shop", Credit: "worker", Amount: 1_500_000, DebitBalance: after(500_000), CreditBalance: after(1_500_000), Ref: "invoice 7"},
		{Seq: 9, AtMs: testNowMs, Kind: "share", Credit: "shop", Amount: 2, CreditBalance: after(500_002)},
	}})})
	pointAt(t, f)
	r := runArgs(t, "", "ledger", "history", "shop")
	for _, want := range []string{"-1.5cr", "0.5cr", "invoice 7", "0.000002cr", "0.500002cr"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in the statement:\n%s", want, r.out)
		}
	}
	if r := runArgs(t, "", "ledger", "history", "shop", "--export", "x"); r.status != exitUsage {
		t.Errorf("a statement is exported: %d", r.status)
	}
}

// TestLedgerStatementLooksBackwards: of an account in use the newest records are found
// without a look at the old ones, and stand in their order; --from is where it ends.
func TestLedgerStatementLooksBackwards(t *testing.T) {
	const size, every = 90_000, 1_000 // each thousandth record is the account's
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/ledger": always(client.Ledger{Open: true, Size: size}),
		"GET /v1/ledger/records": func(c call) any {
			q := c.query
			from, _ := strconv.ParseUint(q.Get("from"), 10, 64)
			limit, _ := strconv.Atoi(q.Get("limit"))
			out := client.LedgerRecords{Size: size, Records: []client.LedgerRecord{}}
			for seq := from; seq <= size && seq < from+statementStep && len(out.Records) < min(limit, 7); seq++ {
				if out.Next = seq + 1; q.Get("account") == "" || seq%every == 0 {
					out.Records = append(out.Records, client.LedgerRecord{Seq: seq, Kind: "transfer", Debit: "shop", Credit: "b"})
				}
			}
			return out
		},
	})
	pointAt(t, f)
	for name, tt := range map[string]struct {
		args        []string
		first, last uint64
		rows, looks int
	}{
		"the newest of an account": {[]string{"shop", "--last", "30"}, 61_000, 90_000, 30, 6},
		"all of it":                {[]string{"shop", "--last", "1000"}, 1_000, 90_000, 90, 15},
		"from a record on":         {[]string{"shop", "--from", "80500"}, 81_000, 90_000, 10, 2},
		"of nobody":                {[]string{"--last", "5"}, 89_996, 90_000, 5, 1},
	} {
		before := len(f.asked("GET /v1/ledger/records"))
		r := runArgs(t, "", append([]string{"ledger", "history", "--format", "json"}, tt.args...)...)
		var out client.LedgerRecords
		if err := json.Unmarshal([]byte(r.out), &out); err != nil || len(out.Records) != tt.rows {
			t.Fatalf("%s: %d records, %v: %s", name, len(out.Records), err, r.err)
		}
		if got := out.Records; got[0].Seq != tt.first || got[len(got)-1].Seq != tt.last || !slices.IsSortedFunc(got, func(a, b client.LedgerRecord) int { return cmp.Compare(a.Seq, b.Seq) }) {
			t.Errorf("%s: %d to %d", name, got[0].Seq, got[len(got)-1].Seq)
		}
		if looks := len(f.asked("GET /v1/ledger/records")) - before; looks > tt.looks {
			t.Errorf("%s: %d pages, at most %d", name, looks, tt.looks)
		}
	}
}

func TestLedgerReportIsSigned(t *testing.T) {
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeAPI(t, map[string]reply{
		"POST /v1/ledger/contributions": always(client.LedgerResults{Results: []client.LedgerResult{{Code: client.LedgerOK}}}),
	})
	pointAt(t, f)
	r := runArgs(t, "", "ledger", "report", "--key", writeTemp(t, "key", string(crypto.MarshalPrivateKeyPEM(key))), "--agent", "worker", "--payer", "shop", "--task", "t", "--duration", "90s", "--cluster", "cluster-1", "--format", "json")
	asked := f.asked("POST /v1/ledger/contributions")
	if r.status != exitDone || len(asked) != 1 {
		t.Fatalf("exit status %d: %s", r.status, r.err)
	}
	var req client.ContributionReports
	if err := json.Unmarshal([]byte(asked[0].body), &req); err != nil || len(req.Reports) != 1 {
		t.Fatal(asked[0].body)
	}
	again, err := client.SignContribution(key, "cluster-1", req.Reports[0])
	if err != nil || again != req.Reports[0] || again.DurationMs != 90_000 || again.Account != "worker" || !again.OK {
		t.Errorf("%+v, %v", req.Reports[0], err)
	}
}

// someLedger are the records of a small ledger.
func someLedger(t *testing.T, change func(i int, r *ledger.Record)) (records [][]byte, head crypto.Hash) {
	t.Helper()
	policy := ledger.DefaultPolicy()
	all := []ledger.Record{
		{Kind: ledger.KindPolicy, Policy: &policy},
		{Kind: ledger.KindAccount, Account: &ledger.Account{ID: "a", Kind: ledger.KindAgent, Owner: "a"}},
		{Kind: ledger.KindTransfer, ID: ledger.NewID(testNowMs, [10]byte{1}), Debit: ledger.Issuance, Credit: "a", Amount: 500, DebitBalance: -500, CreditBalance: 500},
		{Kind: ledger.KindTransfer, ID: ledger.NewID(testNowMs, [10]byte{2}), Debit: "a", Credit: ledger.Reserve, Amount: 200, DebitBalance: 300, CreditBalance: 200},
	}
	head = ledger.Genesis(testClusterID)
	for i := range all {
		r := &all[i]
		r.Seq, r.Index, r.AtMs, r.Prev, r.Actor = uint64(i+1), uint64(i+10), testNowMs, head, "admin:t"
		change(i, r)
		_, data := r.Append(nil)
		records, head = append(records, slices.Clone(data)), r.Hash
	}
	return records, head
}

func writeExport(t *testing.T, note []byte, records [][]byte, head crypto.Hash) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.export")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seq iter.Seq2[[]byte, error] = func(yield func([]byte, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
	if err := ledger.WriteExport(f, testClusterID, note, seq, head); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLedgerVerifyFile: offline, against a noted head, and the first bad record is named.
func TestLedgerVerifyFile(t *testing.T) {
	cleanEnv(t)
	records, head := someLedger(t, func(int, *ledger.Record) {})
	good := writeExport(t, nil, records, head)
	noted := "4:" + head.String()
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"as it is":        {[]string{good}, exitDone, `"verified": true`},
		"with its head":   {[]string{good, "--head", noted, "--cluster", testClusterID}, exitDone, `"head_from": "given"`},
		"another cluster": {[]string{good, "--cluster", "x"}, exitRefused, ledger.FaultHead},
		"without its end": {[]string{writeExport(t, nil, records[:3], hashOfRecord(t, records[2])), "--head", noted}, exitRefused, ledger.FaultHead},
		"another head":    {[]string{good, "--head", "4:" + strings.Repeat("0", 64)}, exitRefused, ledger.FaultHead},
		"no head":         {[]string{good, "--head", "x"}, exitUsage, ""},
		"no file":         {[]string{good + "x"}, exitUsage, ""},
		"no export":       {[]string{writeTemp(t, "x", "something")}, exitRefused, "bad_export"},
	} {
		r := runArgs(t, "", append([]string{"ledger", "verify", "--format", "json"}, tt.args...)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.want) {
			t.Errorf("%s: exit status %d, want %d with %q: %s%s", name, r.status, tt.status, tt.want, r.out, r.err)
		}
	}
	forged, head := someLedger(t, func(i int, r *ledger.Record) {
		if i == 3 {
			r.Amount = 600
		}
	})
	r := runArgs(t, "", "ledger", "verify", writeExport(t, nil, forged, head), "--format", "json")
	var view ledgerView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitRefused || view.Verified || view.Fault == nil || view.Fault.Seq != 4 || view.Fault.Code != ledger.FaultRule || view.Records != 3 {
		t.Errorf("exit status %d, %v: %s", r.status, err, r.out)
	}
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		damaged := slices.Clone(text)
		damaged[i] ^= 1 << (i % 8)
		if r := runArgs(t, "", "ledger", "verify", writeTemp(t, "damaged", string(damaged)), "--cluster", testClusterID); r.status != exitRefused {
			t.Errorf("byte %d flipped: exit status %d: %s", i, r.status, r.out)
		}
	}
}

func hashOfRecord(t *testing.T, data []byte) crypto.Hash {
	t.Helper()
	r, err := ledger.ParseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	return r.Hash
}

// An agent signs with its key: no token is shown, and no server is asked for which cluster.
func TestLedgerTransferAsAgent(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/ledger/transfers": always(client.LedgerResult{Code: client.LedgerOK})})
	pointAt(t, f)
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := writeTemp(t, "key", string(crypto.MarshalPrivateKeyPEM(key)))
	r := runArgs(t, "", "ledger", "transfer", "a", "b", "5", "--agent", "a", "--key", file, "--cluster", "cluster-1")
	asked := f.asked("POST /v1/ledger/transfers")
	if r.status != exitDone || len(asked) != 1 {
		t.Fatalf("%+v", r)
	}
	signed, err := crypto.ParseSignedRequest("POST", client.LedgerPath("cluster-1", "/v1/ledger/transfers"), asked[0].header.Get)
	if err != nil || signed.AgentID != "a" || !signed.MatchesBody([]byte(asked[0].body)) || !crypto.Verify(crypto.PublicOf(key), signed.Canonical(), signed.Signature[:]) || asked[0].header.Get("Authorization") != "" {
		t.Errorf("%v: %v", asked[0].header, err)
	}
	for _, args := range [][]string{{"--agent", "a"}, {"--key", file}, {"--cluster", "x"}, {"--agent", "a", "--key", file}} {
		if r := runArgs(t, "", append([]string{"ledger", "transfer", "a", "b", "5"}, args...)...); r.status != exitUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// cosigned returns a checkpoint of the first records, signed by so many of three
// coordinators, and a file with whom to believe.
func cosigned(t *testing.T, records [][]byte, sealed, signed int) (note []byte, trust string) {
	t.Helper()
	c := newProofCluster(t, 0)
	var edge checkpoint.Frontier
	for _, r := range records[:sealed] {
		edge.Append(checkpoint.LeafHash(r))
	}
	cp := edge.Checkpoint(checkpoint.Origin{ClusterID: c.sets[0].ClusterID, Log: checkpoint.LogLedger, Epoch: 1})
	n := checkpoint.Note{Checkpoint: cp, Signatures: []checkpoint.Signature{checkpoint.SignLog(c.keys[0], cp)}}
	for _, k := range c.keys[:signed] {
		n.Signatures = append(n.Signatures, checkpoint.Cosign(k, cp, c.atS))
	}
	return n.Encode(), c.trustFile(2)
}

// TestLedgerVerifyCheckpoint: a file without its end, or with another past, is not what
// a majority cosigned; a file that nobody cosigned says so.
func TestLedgerVerifyCheckpoint(t *testing.T) {
	cleanEnv(t)
	records, head := someLedger(t, func(int, *ledger.Record) {})
	other, otherHead := someLedger(t, func(i int, r *ledger.Record) { r.Index += uint64(i / 3) })
	note, trust := cosigned(t, records, 4, 2)
	older, _ := cosigned(t, records, 3, 2)
	few, _ := cosigned(t, records, 4, 1)
	saved := writeTemp(t, "today.note", string(note))
	good := writeExport(t, note, records, head)
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"as it is":              {[]string{good, "--trust", trust}, exitDone, `"head_from": "checkpoint"`},
		"of a while ago":        {[]string{writeExport(t, older, records, head), "--trust", trust}, exitDone, `"size": 3`},
		"held to a saved one":   {[]string{writeExport(t, nil, records, head), "--trust", trust, "--checkpoint", saved}, exitDone, `"size": 4`},
		"without its end":       {[]string{writeExport(t, note, records[:3], hashOfRecord(t, records[2])), "--trust", trust}, exitRefused, faultNotSigned},
		"an older one, put in":  {[]string{writeExport(t, older, records[:3], hashOfRecord(t, records[2])), "--trust", trust, "--checkpoint", saved}, exitRefused, faultNotSigned},
		"another past":          {[]string{writeExport(t, note, other, otherHead), "--trust", trust}, exitRefused, faultNotSigned},
		"no majority":           {[]string{writeExport(t, few, records, head), "--trust", trust}, exitRefused, faultNotSigned},
		"no checkpoint":         {[]string{writeExport(t, nil, records, head), "--trust", trust}, exitRefused, faultNotSigned},
		"nobody is believed":    {[]string{good, "--checkpoint", saved}, exitUsage, ""},
		"without whom to trust": {[]string{good}, exitDone, `"head_from": "file"`},
	} {
		r := runArgs(t, "", append([]string{"ledger", "verify", "--format", "json"}, tt.args...)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.want) || strings.Contains(r.err, "rest on the file alone") != (name == "of a while ago") {
			t.Errorf("%s: exit status %d, want %d with %q: %s%s", name, r.status, tt.status, tt.want, r.out, r.err)
		}
	}
}
