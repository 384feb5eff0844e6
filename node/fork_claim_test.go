package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"github.com/edgecoder/edgecoder/cosign"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// TestForkClaimsRaiseTheAlarm: once for each pair that is kept, once in a while for all others, and one that makes forks up keeps nobody's from being told.
func TestForkClaimsRaiseTheAlarm(t *testing.T) {
	var out bytes.Buffer
	n := &Node{log: slog.New(slog.NewTextHandler(&out, nil))}
	k, err := cosign.Open(t.TempDir(), checkpoint.LogBlacklist, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &keptLog{name: checkpoint.LogBlacklist, Keeper: k, crowdedSigned: rate.Sometimes{Interval: crowdedAgain}, crowdedWords: rate.Sometimes{Interval: crowdedAgain}}
	mine := checkpoint.Checkpoint{Origin: checkpoint.Origin{ClusterID: "c", Log: l.name, Epoch: 1}, Size: 5}
	alarms := func(by crypto.PublicKey, root string) int {
		theirs := mine
		theirs.Root = crypto.Sum([]byte(root))
		before := strings.Count(out.String(), "CRITICAL")
		n.claimFork(l, cosign.Evidence{Fork: &cosign.Fork{Mine: mine, Theirs: theirs, What: "a claim"}, By: by}, "nothing")
		return strings.Count(out.String(), "CRITICAL") - before
	}
	liar, other := crypto.PublicKey{1}, crypto.PublicKey{2}
	var none crypto.PublicKey
	for i, step := range []struct {
		by   crypto.PublicKey
		root string
		want int
	}{{liar, "a", 1}, {liar, "a", 0}, {liar, "b", 1}, {liar, "c", 0}, {other, "c", 1}, {none, "c", 1}, {none, "c", 0}} {
		if got := alarms(step.by, step.root); got != step.want {
			t.Errorf("step %d: %d alarms, want %d", i, got, step.want)
		}
	}
	signed := 1
	for i := range 100 {
		signed += alarms(none, string(rune('d'+i)))
	}
	if signed != 64+1 { // those that are kept, and one of the others
		t.Errorf("%d alarms of signed forks", signed)
	}
}
