package cmd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/crypto"
)

// tour is the state that the steps of the demo hand on.
type tour struct {
	p       *program
	dir     string
	story   io.Writer // where people read along
	done    []demoStep
	cluster *cluster.Cluster
	key     crypto.PrivateKey
	used    client.AdmissionRequest // was admitted once
	killed  string
}

const demoAgent = "demo-agent"

var tourSteps = []struct {
	title string
	take  func(t *tour, ctx context.Context) error
}{
	{"Bring up three real servers on this machine", (*tour).bringUp},
	{"Enrol an agent: a one-time token, and proof that it holds its key", (*tour).enroll},
	{"It may not act before an operator approves it", (*tour).approve},
	{"A signed request is admitted", (*tour).admitOnce},
	{"The same request again is refused at every node", func(t *tour, ctx context.Context) error { return t.replay(ctx) }},
	{"Kill the leader with SIGKILL", (*tour).killLeader},
	{"The survivors still refuse the replay, and admit what is new", (*tour).afterKill},
	{"Restart the killed node: it refuses the replay, too", (*tour).restart},
	{"Ban the agent: every node refuses it", (*tour).ban},
	{"Save the chain, stop the cluster, verify the chain offline", (*tour).verifyOffline},
}

func (t *tour) bringUp(ctx context.Context) (err error) {
	t.cluster, err = cluster.Up(ctx, cluster.Options{Dir: t.dir, Nodes: 3, Progress: t.progress})
	if err != nil {
		return err
	}
	for _, n := range t.cluster.Status(ctx) {
		t.saw("%s  %s  pid %d  %s", n.Name, n.API, n.PID, n.State)
	}
	return nil
}

// progress shows on standard error that something goes on.
func (t *tour) progress(format string, args ...any) { t.p.say("   … "+format, args...) }

func (t *tour) enroll(ctx context.Context) error {
	api, err := t.cluster.Client()
	if err != nil {
		return err
	}
	defer api.Close()
	if t.key, err = crypto.GenerateKey(t.p.rand); err != nil {
		return err
	}
	token, err := api.CreateToken(ctx, client.TokenRequest{Role: "agent", Uses: 1})
	if err != nil {
		return fmt.Errorf("make an enrolment token: %w", err)
	}
	req, err := enrollRequest(demoAgent, token.Token, t.key)
	if err != nil {
		return err
	}
	agent, err := api.Enroll(ctx, req)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	t.saw("%s holds key %s and is %s", agent.AgentID, agent.KeyID, agent.State)
	if agent.State != "pending" {
		return fmt.Errorf("a new agent should be pending")
	}
	return nil
}

func (t *tour) approve(ctx context.Context) error {
	req, err := t.signed()
	if err != nil {
		return err
	}
	if err := t.expect(ctx, req, client.VerdictAgentNotActive, t.names()...); err != nil {
		return err
	}
	api, err := t.cluster.Client()
	if err != nil {
		return err
	}
	defer api.Close()
	agent, err := api.ApproveAgent(ctx, demoAgent)
	if err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	t.saw("approved: %s is %s", agent.AgentID, agent.State)
	return nil
}

func (t *tour) admitOnce(ctx context.Context) (err error) {
	if t.used, err = t.signed(); err != nil {
		return err
	}
	return t.expect(ctx, t.used, client.VerdictOK, t.names()[0])
}

// replay asks each node, by default all, for the request that was used.
func (t *tour) replay(ctx context.Context, at ...string) error {
	if len(at) == 0 {
		at = t.names()
	}
	return t.expect(ctx, t.used, client.VerdictReplay, at...)
}

func (t *tour) killLeader(ctx context.Context) error {
	for _, n := range t.cluster.Status(ctx) {
		if n.State == "leader" {
			t.killed = n.Name
		}
	}
	if t.killed == "" {
		return fmt.Errorf("no node leads")
	}
	if err := t.cluster.Stop(ctx, t.killed, true); err != nil {
		return err
	}
	t.saw("%s, the leader, is gone", t.killed)
	began := t.p.now()
	for {
		if leader := t.newLeader(ctx); leader != "" {
			t.saw("%s leads, %s later", leader, t.p.now().Sub(began).Round(100*time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the survivors chose no leader: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// newLeader returns the leader that the survivors agree on.
func (t *tour) newLeader(ctx context.Context) string {
	agreed := ""
	for _, n := range t.cluster.Status(ctx) {
		switch {
		case n.Name == t.killed:
		case n.Leader == "" || n.Leader == t.killed || (agreed != "" && agreed != n.Leader):
			return ""
		default:
			agreed = n.Leader
		}
	}
	return agreed
}

func (t *tour) afterKill(ctx context.Context) error {
	var survivors []string
	for _, name := range t.names() {
		if name != t.killed {
			survivors = append(survivors, name)
		}
	}
	if err := t.replay(ctx, survivors...); err != nil {
		return err
	}
	fresh, err := t.signed()
	if err != nil {
		return err
	}
	return t.expect(ctx, fresh, client.VerdictOK, survivors[0])
}

func (t *tour) restart(ctx context.Context) error {
	if err := t.cluster.Start(ctx, t.killed); err != nil {
		return err
	}
	t.saw("%s is back with its old data", t.killed)
	return t.replay(ctx, t.killed)
}

func (t *tour) ban(ctx context.Context) error {
	api, err := t.cluster.Client()
	if err != nil {
		return err
	}
	defer api.Close()
	const reason = "the demo says so"
	change, err := api.Ban(ctx, client.BanRequest{
		AgentID: demoAgent, ReasonCode: crypto.ReasonManualReview, Reason: reason,
		EvidenceSHA256: crypto.Sum([]byte(reason)).String(), ReporterID: operatorReporter,
	})
	if err != nil {
		return fmt.Errorf("ban: %w", err)
	}
	t.saw("banned, by event %d of the chain", change.Size)
	for _, name := range t.names() { // a fresh request each: it is the agent that is refused
		req, err := t.signed()
		if err != nil {
			return err
		}
		if err := t.expect(ctx, req, client.VerdictBlacklisted, name); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) verifyOffline(ctx context.Context) error {
	api, err := t.cluster.Client()
	if err != nil {
		return err
	}
	defer api.Close()
	pinned, err := fetchKeys(ctx, api)
	if err != nil {
		return fmt.Errorf("fetch the coordinators' keys: %w", err)
	}
	file := filepath.Join(t.dir, "chain.json")
	if _, err := replaceFile(file, func(w io.Writer) (int, error) { return saveAudit(ctx, api, w) }); err != nil {
		return fmt.Errorf("save the chain: %w", err)
	}
	if err := t.cluster.Down(ctx); err != nil {
		return err
	}
	t.saw("saved the chain and pinned %d keys; no server runs any more", len(pinned))
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, err := verifyAudit(text, pinned)
	if err != nil {
		return fmt.Errorf("the chain is not verified: %w", err)
	}
	t.saw("verified: every link, hash and signature up to head %s", short(head))
	forged := bytes.Replace(text, []byte(demoAgent), []byte("other-name"), 1)
	if _, err = verifyAudit(forged, pinned); err == nil {
		return fmt.Errorf("a chain with another agent's name was verified as well")
	}
	t.saw("with one name changed it is refused: %v", err)
	return nil
}

// verifyAudit checks a saved chain with keys that are trusted.
func verifyAudit(text []byte, pinned []auditKey) (head string, err error) {
	keys, err := keyMap(pinned)
	if err != nil {
		return "", err
	}
	var claim auditClaim
	if err := claim.read(bytes.NewReader(text), nil); err != nil {
		return "", err
	}
	var view verifyView
	err = verifyChain(bytes.NewReader(text), claim, keys, newEnd(""), &view)
	if err == nil && view.Events == 0 {
		err = fmt.Errorf("it is empty")
	}
	return view.Head, err
}

// signed returns a fresh signed request of the agent.
func (t *tour) signed() (client.AdmissionRequest, error) {
	nonce, err := crypto.NewUUID(t.p.rand)
	if err != nil {
		return client.AdmissionRequest{}, err
	}
	signed, err := crypto.SignRequest(t.key, demoAgent, "POST", "/tasks", []byte(`{"task":"demo"}`), t.p.now().UnixMilli(), nonce)
	return client.AdmissionRequest{Method: "POST", Path: "/tasks", Headers: headerObject(signed.Headers())}, err
}

// expect asks each named node by itself, under a new claim id each time, and
// wants the same code from all.
func (t *tour) expect(ctx context.Context, req client.AdmissionRequest, code string, at ...string) error {
	for _, name := range at {
		api, err := t.cluster.Client(name)
		if err != nil {
			return err
		}
		verdict, err := api.Admit(ctx, req)
		api.Close()
		if err != nil {
			return fmt.Errorf("%s did not decide: %w", name, err)
		}
		if verdict.Code != code {
			return fmt.Errorf("%s said %s (%s), and should have said %s", name, verdict.Verdict, verdict.Code, code)
		}
		t.saw("%s: %s (%s)", name, verdict.Verdict, verdict.Code)
	}
	return nil
}

func (t *tour) names() []string {
	var names []string
	for _, n := range t.cluster.Record().Nodes {
		names = append(names, n.Name)
	}
	return names
}
