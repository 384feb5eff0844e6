package ledger

import "testing"

// An auditor remembers ids for as long as the policy in force says, and no more of them
// than the state machine does.
func TestVerifierIDsAreBounded(t *testing.T) {
	agent, token, operator := actor{ByAgent, "a"}, actor{ByToken, "t"}, actor{ByOperator, "o"}
	u := newRecentIDs()
	for n := range 3 {
		if fault := u.use(agent, testID(testStart+int64(n)*idBucketMs, n)); fault != "" {
			t.Fatal(fault)
		}
	}
	if u.use(agent, testID(testStart, 0)) == "" || u.use(operator, testID(testStart, 0)) != "" {
		t.Error("an id is each caller's own, for one use")
	}
	u.forget(testStart + 2*idBucketMs)
	if u.n != 1 || len(u.order) != 1 || len(u.callers) != 1 || u.floorMs != testStart+2*idBucketMs-1 {
		t.Errorf("left are %d of %d callers in %d seconds, the floor is %+d", u.n, len(u.callers), len(u.order), u.floorMs-testStart)
	}
	for by, most := range map[actor]int{agent: MaxAgentIDs, token: MaxTokenIDs} {
		u.callers[by.caller()] = &idCaller{name: by.caller(), n: most - 1}
		if u.use(by, testID(testStart+5_000, 1)) != "" || u.use(by, testID(testStart+5_000, 2)) == "" {
			t.Errorf("%v may use other than %d", by, most)
		}
	}
	ahead := testStart + 3_600_000
	if u.use(operator, testID(ahead, 1)) != "" {
		t.Fatal("an id ahead is refused")
	}
	if u.forgetAfter(ahead - idBucketMs); u.callers[operator.caller()] != nil || u.buckets[ahead/idBucketMs] != nil {
		t.Error("an id far ahead is remembered")
	}
	if u.n = MaxIDs; u.use(operator, testID(testStart+5_000, 3)) == "" {
		t.Error("there is no bound for all")
	}
}

// A policy with a narrow window leaves few ids to remember, record by record.
func TestVerifierForgetsIDs(t *testing.T) {
	p := DefaultPolicy()
	p.IDWindowMs = MinIDWindowMs
	b := &book{atMs: testStart, head: Genesis(testCluster)}
	b.add(Record{Kind: KindPolicy, Policy: &p})
	b.add(Record{Kind: KindAccount, Account: &Account{ID: "a", Kind: KindService, Owner: "t"}})
	for n := range int64(100) {
		b.atMs += 1_000
		b.add(Record{Kind: KindTransfer, ID: testID(b.atMs, 1), Debit: Issuance, Credit: "a", Amount: 1, DebitBalance: -n - 1, CreditBalance: n + 1})
	}
	v, err := verify(b.records)
	if err != nil {
		t.Fatal(err)
	}
	if most := MinIDWindowMs/1_000 + 2; v.ids.n > most || v.ids.floorMs < b.atMs-MinIDWindowMs-2_000 {
		t.Errorf("%d ids are remembered, at most %d are in the window; the floor is %+d", v.ids.n, most, v.ids.floorMs-b.atMs)
	}
}
