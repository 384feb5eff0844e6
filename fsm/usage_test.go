package fsm

import "testing"

func TestUsageKnowsEveryCap(t *testing.T) {
	w := genesisWorld(t)
	seen := map[string]Usage{}
	for _, u := range w.s.Usage() {
		if u.Cap <= 0 || u.Rows < 0 || u.Rows > u.Cap {
			t.Errorf("%+v", u)
		}
		seen[u.Name] = u
	}
	for _, name := range []string{"nonces", "rate_windows", "agents", "tokens", "bans", "idempotency"} {
		if seen[name].Cap == 0 {
			t.Errorf("%s has no cap in %v", name, seen)
		}
	}
	if seen["tokens"].Rows == 0 || seen["nonces"].Cap != MaxNonces || seen["rate_windows"].Cap != MaxWindowRuns {
		t.Errorf("%v", seen)
	}
}
