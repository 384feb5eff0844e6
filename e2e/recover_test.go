package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/node"
)

// run runs a command line of the binary and returns its exit status and output.
func run(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// TestP3RecoverWithRealProcesses: two of three servers are lost for ever; what
// the third one holds goes on, and wiped ones join again.
func TestP3RecoverWithRealProcesses(t *testing.T) {
	m := up(t)
	a := m.agent("worker")
	ctx := t.Context()
	used := a.request(t, "used")
	if got, err := m.any(m.verifier).Admit(ctx, used); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("admit: %+v %v", got, err)
	}
	ban, err := m.any(m.admin).Ban(ctx, client.BanRequest{AgentID: "outlaw", ReasonCode: "manual_review", Reason: "why", EvidenceSHA256: strings.Repeat("ab", 32), ReporterID: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	m.agree()
	nodes := m.cluster.Record().Nodes
	first, second, last := nodes[0], nodes[1], nodes[2]
	pass := m.cluster.Record().PassphraseFile
	if status, _, errs := run(t, "recover", "--data-dir", last.DataDir, "--passphrase-file", pass); status != 1 || !strings.Contains(errs, "in use") {
		t.Fatalf("beside a running server: exit status %d: %s", status, errs)
	}
	for _, n := range nodes {
		if err := m.cluster.Stop(ctx, n.Name, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(first.DataDir); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := run(t, "recover", "--data-dir", last.DataDir, "--passphrase-file", pass, "--yes"); status != 1 || !strings.Contains(errs, "--lose-acknowledged") {
		t.Fatalf("without leave: exit status %d: %s%s", status, out, errs)
	}
	status, out, errs := run(t, "recover", "--data-dir", last.DataDir, "--passphrase-file", pass, "--lose-acknowledged", "--yes", "--format", "json")
	var done node.RecoveryDone
	if err := json.Unmarshal([]byte(out), &done); status != 0 || err != nil || done.Epoch != 2 || done.ChainHead != ban.ChainHead {
		t.Fatalf("recover: exit status %d: %s%s", status, out, errs)
	}
	if status, _, errs := run(t, "recover", "--retire", "--data-dir", second.DataDir); status != 0 {
		t.Fatalf("retire: exit status %d: %s", status, errs)
	}
	if err := m.cluster.Start(ctx, last.Name); err != nil {
		t.Fatal(err)
	}
	m.eventually("the survivor serves alone", func() bool { return m.client(m.admin, 1, last.Name).Ready(ctx) == nil })
	if err := m.cluster.Start(ctx, second.Name); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Fatalf("a retired server started: %v", err)
	}
	if err := os.RemoveAll(second.DataDir); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{first.Name, second.Name} {
		if err := m.cluster.Start(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	m.eventually("three voters in the new epoch", func() bool {
		for _, name := range m.names() {
			st, err := m.client(m.admin, 1, name).Status(ctx)
			if err != nil || st.Epoch != 2 || len(st.Voters) != 3 || st.Leader == nil {
				return false
			}
		}
		return true
	})
	m.agree()
	for _, name := range m.names() {
		got, err := m.client(m.admin, 5, name).BanOn(ctx, "outlaw", client.Strong())
		if err != nil || got.EventID != ban.EventID {
			t.Errorf("the ban at %s: %+v %v", name, got, err)
		}
		r, err := m.client(m.verifier, 5, name).Admit(ctx, client.AdmissionRequest{Method: used.Method, Path: used.Path, Headers: used.Headers, ClaimID: client.NewClaimID()})
		if err == nil && r.Verdict == client.VerdictAdmitted {
			t.Errorf("a used nonce was admitted at %s: %+v", name, r)
		}
	}
	fresh := a.request(t, "fresh")
	_, err = m.client(m.verifier, 1, last.Name).Admit(ctx, fresh)
	if e := (*client.Error)(nil); !errors.As(err, &e) || e.Reason != "recovery" || e.RetryAfter <= 0 || e.RetryAfter > 65*time.Minute { // the widest window: a lost policy may have allowed it
		t.Errorf("a fresh request during the pause: %v", err)
	}
}
