package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestOneCommandLineForALife: with the very same command line a coordinator and an
// observer join, start again, and find that they were removed. The observer never
// votes; each sees of the others how they are.
func TestOneCommandLineForALife(t *testing.T) {
	root := t.TempDir()
	v := &vault{t: t, disk: filepath.Join(root, "disk"), keep: filepath.Join(root, "keep")}
	for _, dir := range []string{v.disk, v.keep} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	v.passphrase, _ = v.newPassphrase("passphrase")
	one, two, watcher := v.newServer("one"), v.newServer("two"), v.newServer("watcher")
	admin := v.found(one)
	lines := map[*diskServer][]string{}
	for s, role := range map[*diskServer]string{two: "coordinator", watcher: "observer"} {
		lines[s] = []string{"EDGECODER_JOIN_TOKEN=" + v.token(role, v.api(one, admin))}
	}
	begin := func(s *diskServer) { v.start(s, lines[s], "--join", one.gossip+","+two.gossip) }
	peer := func(name string) client.Peer {
		got, err := v.api(one, admin).Peers(t.Context())
		if err != nil {
			return client.Peer{}
		}
		i := slices.IndexFunc(got.Peers, func(p client.Peer) bool { return p.Name == name })
		if i < 0 {
			return client.Peer{}
		}
		return got.Peers[i]
	}
	healthy := func(s *diskServer, role, suffrage string) {
		t.Helper()
		v.waitFor(s.name+" is "+suffrage+" and healthy", s, func(ctx context.Context) bool {
			p := peer(s.name)
			return p.Role == role && p.Suffrage == suffrage && p.Health == "healthy" && p.LastContactMs != nil && p.Lag != nil && p.Version != "" && v.api(s, admin).Ready(ctx) == nil
		})
	}
	begin(two)
	begin(watcher)
	healthy(two, "coordinator", "voter")
	healthy(watcher, "observer", "nonvoter")
	first := peer("two").ID
	for _, s := range []*diskServer{two, watcher} {
		s.stop(t)
		begin(s) // its token is used up
	}
	healthy(two, "coordinator", "voter")
	healthy(watcher, "observer", "nonvoter")
	if again := peer("two").ID; again != first || first == "" {
		t.Errorf("two was %q and is %q", first, again)
	}
	v.waitFor("gossip of the observer finds all again", watcher, func(ctx context.Context) bool {
		got, err := v.api(watcher, admin).Members(ctx)
		return err == nil && len(got.Members) == 3 &&
			!slices.ContainsFunc(got.Members, func(m client.Member) bool { return m.State != "alive" || m.SinceMs == 0 })
	})
	if _, err := v.api(one, admin).RemovePeer(t.Context(), "two", true); err != nil {
		t.Fatal(err)
	}
	v.waitFor("two knows that it was removed", two, func(ctx context.Context) bool {
		c, err := client.New(client.Config{CAFile: filepath.Join(two.dir, "ca.pem"), Attempts: 1, Addrs: []string{"https://" + two.api}})
		if err != nil {
			t.Fatal(err)
		}
		e := (*client.Error)(nil)
		return errors.As(c.Ready(ctx), &e) && e.Reason == "removed"
	})
	log, err := os.ReadFile(filepath.Join(v.disk, "two.log"))
	if err != nil || !strings.Contains(string(log), "was removed from the cluster") || !strings.Contains(string(log), "move its data directory away") {
		t.Errorf("its log does not say what to do: %v\n%s", err, log[max(0, len(log)-2000):])
	}
	if p := peer("two"); p.State != "removed" || p.Reason != "compromised" {
		t.Errorf("two is %+v, want removed as compromised", p)
	}
	two.stop(t)
}
