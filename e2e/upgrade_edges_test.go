package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// edgesLevel is the feature level from which there are edges.
const edgesLevel = 8

// TestUpgradeWithEdges: edges of the landed version go on while the servers are upgraded beside them, when the level rises, and over
// the first rotation of a gossip key, of which they know nothing: the leader waits for them only so long. Once the key before is over they
// still learn of bans, by asking. When it is revoked with a compromised server, they say that they are stale, and an upgrade brings them back.
func TestUpgradeWithEdges(t *testing.T) {
	if landedLevel < edgesLevel {
		t.Skipf("the landed version, of feature level %d, has no edges: this test is for the one after %d", landedLevel, edgesLevel)
	}
	v := upVersions(t, landedBinary(t))
	keep := v.names()[0] // edges that joined through a compromised server are ended with it
	edges := []*edgeProcess{v.edge(t, "edge1", keep), v.edge(t, "edge2", keep)}
	var watched []*edgeWatch
	for _, e := range edges {
		e.binary = v.old
		e.start("EDGECODER_JOIN_TOKEN=" + v.edgeToken(keep))
		v.eventually("an edge lets agents through", func() bool { return e.code("good") == client.AllowedOK })
		watched = append(watched, watch(e))
	}
	v.enforced("before all", edges...)
	v.underLoad(func() {
		for i, name := range v.names() {
			v.run(name, binary)
			v.enforced(fmt.Sprintf("%d of 3 servers upgraded", i+1), edges...)
		}
		v.eventually("the level rises by itself", func() bool { return v.level() > landedLevel })
		v.enforced("the level has risen", edges...)
		v.rotatesGossip(edges)
	})
	for i, w := range watched {
		t.Logf("edge%d: %s", i+1, w.end())
		if w.other > w.ok/20 { // the lease is of 10 s, on a machine that is busy
			t.Errorf("edge%d answered otherwise than ok %d times", i+1, w.other)
		}
	}
	// One is upgraded now: it comes to the new keys, and the leader need not wait for it.
	edges[0].binary = binary
	edges[0].kill()
	edges[0].start()
	v.enforced("an edge is upgraded", edges...)
	v.compromised(edges, keep)
}

// rotatesGossip has the gossip key rotated beside edges that do not follow.
func (v *versions) rotatesGossip(edges []*edgeProcess) {
	v.t.Helper()
	ctx, admin := v.t.Context(), v.any(v.admin)
	var before string
	v.eventually("the gossip key is on record", func() bool {
		k, err := admin.Keys(ctx, "gossip")
		before = k.KeyID
		return err == nil && before != ""
	})
	overlap, none := (15 * time.Second).Milliseconds(), int64(0)
	now, err := admin.KeySchedule(ctx, "gossip")
	if err == nil {
		_, err = admin.SetKeySchedule(ctx, "gossip", now.Version, client.KeyScheduleUpdate{PeriodMs: &none, OverlapMs: &overlap, LeadMs: &none})
	}
	if err == nil {
		_, err = admin.RotateKey(ctx, "gossip", client.RotateRequest{})
	}
	if err != nil {
		v.t.Fatal(err)
	}
	asked := time.Now()
	v.eventually("the gossip key is switched to beside edges that do not know it", func() bool { return v.active("gossip", before, "") })
	v.t.Logf("switched to %s after it was asked for", time.Since(asked).Round(time.Second))
	v.eventually("the audit log names them", func() bool {
		got, err := admin.AuditEvents(ctx, client.AuditQuery{Type: "key_rotation"})
		return err == nil && slices.ContainsFunc(got.Events, func(e client.AuditEvent) bool { return e.Details["late"] == strconv.Itoa(len(edges)) })
	})
	v.enforced("in the overlap", edges...)
	v.eventually("the gossip key before is over", func() bool {
		k, err := admin.Keys(ctx, "gossip")
		return err == nil && slices.ContainsFunc(k.Keys, func(k client.Key) bool { return k.KeyID == before && k.State == client.KeyRetired })
	})
	// They hear nobody but each other now, whom they ask first: what they say may be stale, and never that a banned agent may act.
	v.neverLets(edges)
	for i, e := range edges { // a restart asks for the keys in use
		e.kill()
		e.start()
		v.enforced(fmt.Sprintf("edge%d started again", i+1), edges...)
	}
}

// compromised removes a server as compromised: the CA and the gossip key that it knew are revoked with it. The edge of this version follows, the
// other one, which knows of one CA alone, denies.
func (v *versions) compromised(edges []*edgeProcess, keep string) {
	v.t.Helper()
	v.lead(keep)
	lost := slices.DeleteFunc(v.names(), func(name string) bool { return name == keep })[0]
	if _, err := v.any(v.admin).RemovePeer(v.t.Context(), lost, true); err != nil {
		v.t.Fatal(err)
	}
	v.enforced("a server is removed as compromised", edges[0])
	v.eventually("the edge of the landed version says that it is stale", func() bool { return edges[1].code("good") == client.AllowedStale })
	edges[1].binary = binary
	edges[1].kill()
	edges[1].start()
	v.enforced("it is upgraded", edges...)
}

// edgeToken makes a token to join by, through one node.
func (v *versions) edgeToken(node string) string {
	v.t.Helper()
	got, err := v.client(v.admin, 20, node).CreateToken(v.t.Context(), client.TokenRequest{Role: "edge"})
	if err != nil {
		v.t.Fatal(err)
	}
	return got.Token
}

// neverLets bans somebody, and waits until edges either enforce it or say that they are stale.
func (v *versions) neverLets(edges []*edgeProcess) {
	v.t.Helper()
	const id = "bad beyond gossip"
	if _, err := v.any(v.admin).Ban(v.t.Context(), banOf(id)); err != nil {
		v.t.Fatal(err)
	}
	for i, e := range edges {
		code := ""
		v.eventually("an edge that gossips by the key before knows or is stale", func() bool {
			code = e.code(id)
			return code == client.AllowedBlacklisted || code == client.AllowedStale
		})
		v.t.Logf("edge%d, by the key before: %s", i+1, code)
	}
}

// enforced bans somebody and waits until edges enforce it and are fresh.
func (v *versions) enforced(when string, edges ...*edgeProcess) {
	v.t.Helper()
	id := "bad " + strings.ReplaceAll(when, " ", "-")
	if _, err := v.any(v.admin).Ban(v.t.Context(), banOf(id)); err != nil {
		v.t.Fatalf("%s: %v", when, err)
	}
	at := time.Now()
	for _, e := range edges {
		v.eventually(when+": the ban is enforced, others pass", func() bool {
			return e.code(id) == client.AllowedBlacklisted && e.code("good") == client.AllowedOK
		})
	}
	v.t.Logf("%s: a ban is enforced by %d edges within %s", when, len(edges), time.Since(at).Round(time.Millisecond))
}

// edgeWatch asks an edge about an honest agent all the time.
type edgeWatch struct {
	stop      chan struct{}
	all       sync.WaitGroup
	ok, other int // owned by its goroutine until end
	codes     map[string]int
}

func watch(e *edgeProcess) *edgeWatch {
	w := &edgeWatch{stop: make(chan struct{}), codes: map[string]int{}}
	w.all.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
			switch code := e.code("good"); code {
			case "": // it is being started
			case client.AllowedOK:
				w.ok++
			default:
				w.other++
				w.codes[code]++
			}
		}
	})
	return w
}

// end stops it and says what it saw.
func (w *edgeWatch) end() string {
	close(w.stop)
	w.all.Wait()
	return fmt.Sprintf("%d answers ok, %d others %v", w.ok, w.other, w.codes)
}
