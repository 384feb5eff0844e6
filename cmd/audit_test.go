package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
)

// auditLog makes the audit log of a data directory and returns its head.
func auditLog(t *testing.T, dataDir string) audit.Head {
	t.Helper()
	l, err := audit.Open(audit.Options{Dir: audit.Dir(dataDir), Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		e := audit.Event{Type: "ban", Level: audit.LevelWarn, Actor: audit.Actor{Kind: "token", ID: fmt.Sprint(i), Proved: true}, Code: "ok"}
		if err := l.Commit(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Head()
}

func TestAuditVerifyTellsTheFirstBadLine(t *testing.T) {
	data := t.TempDir()
	head := auditLog(t, data)
	dir := audit.Dir(data)
	for _, args := range [][]string{{dir}, {"--data-dir", data}, {dir, "--head", head.String()}} {
		if got := runArgs(t, "", append([]string{"audit", "verify"}, args...)...); got.status != exitDone || !strings.Contains(got.out, "verified") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	path := filepath.Join(dir, head.File)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.SplitAfter(string(good), "\n")
	for _, tc := range []struct {
		name, text, want string
		args             []string
		status           int
	}{
		{"edited", strings.Replace(string(good), `"id":"1"`, `"id":"7"`, 1), "line 2", nil, exitRefused},
		{"a line dropped", rows[0] + rows[2], "line 2", nil, exitRefused},
		{"cut within a line", string(good[:len(good)-9]), "torn", nil, exitRefused},
		{"a line cut off, nothing to hold it against", rows[0] + rows[1], "not checked", nil, exitDone},
		{"a line cut off", rows[0] + rows[1], "cut off", []string{"--head", head.String()}, exitRefused},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := runArgs(t, "", append([]string{"audit", "verify", dir}, tc.args...)...)
		if got.status != tc.status || !strings.Contains(got.out+got.err, tc.want) {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	got := runArgs(t, "", "audit", "verify", dir, "--format", "json", "--head", head.String())
	var view auditView
	if err := json.Unmarshal([]byte(got.out), &view); err != nil || view.Verified || view.HeadFrom != "given" || len(view.Faults) != 1 || view.Faults[0].Kind != audit.FaultHead {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAuditUsage(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"verify"}, {"verify", dir, "--data-dir", dir}, {"verify", dir, "--head", "7"}, {"verify", filepath.Join(dir, "missing")},
		{"verify", dir, "--head", "1:" + strings.Repeat("0", 64), "--cluster"}, {"query", "--limit", "0"}, {"query", "--since", "soon"}, {"tail", "--limit", "1001"}, {"query", "operand"},
	} {
		if got := runArgs(t, "", append([]string{"audit"}, args...)...); got.status != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestAuditQueryNamesWhoIsMissing(t *testing.T) {
	page := client.AuditEvents{Events: []client.AuditEvent{{Seq: 4, TimeMs: 1_767_225_600_000, Node: "n1", Type: "failed_auth", Level: "WARN", Code: "unauthorized",
		Actor: client.AuditActor{Kind: "address", ID: "192.0.2.1"}, Count: 12}}, Unreachable: []client.AuditMissing{}}
	api := newFakeAPI(t, map[string]reply{"GET /v1/audit/events": func(call) any { return page }})
	pointAt(t, api)
	got := runArgs(t, "", "audit", "query", "--type", "failed_auth", "--since", "1h", "--level", "WARN")
	if got.status != exitDone || !strings.Contains(got.out, "address:192.0.2.1 (claimed)") || !strings.Contains(got.out, "12") {
		t.Errorf("%+v", got)
	}
	page.Unreachable = append(page.Unreachable, client.AuditMissing{Node: "n2", Name: "two", Detail: "cannot be reached"})
	if got := runArgs(t, "", "audit", "tail"); got.status != exitUnknown || !strings.Contains(got.err, "n2") || !strings.Contains(got.out, "failed_auth") {
		t.Errorf("%+v", got)
	}
}

// TestAuditVerifyAsksTheCluster: what the cluster remembers of a log counts, also
// of one whose node is away or says that all is well.
func TestAuditVerifyAsksTheCluster(t *testing.T) {
	data := t.TempDir()
	head := auditLog(t, data)
	dir := audit.Dir(data)
	row := client.AuditHead{Node: "node-1", Name: "one"}
	heads := client.AuditHeads{}
	api := newFakeAPI(t, map[string]reply{"GET /v1/audit/heads": func(call) any { return heads }})
	pointAt(t, api)
	place := func(seq uint64, hash string) *client.AuditPlace {
		return &client.AuditPlace{Seq: seq, Hash: hash, AtMs: 1_767_225_600_000}
	}
	own := func(h client.AuditHead) client.AuditHead { h.Seq, h.Hash = head.Seq, head.Hash; return h }
	known := func(h client.AuditHead, p *client.AuditPlace) client.AuditHead { h.Known = p; return h }
	lost := func(h client.AuditHead, atMs int64) client.AuditHead {
		h.Lost, h.Losses = []client.AuditPlace{{Seq: 9, Hash: head.Hash, AtMs: atMs}}, 1
		return h
	}
	away := []client.AuditMissing{{Node: "node-1", Name: "one", Detail: "cannot be reached"}}
	other := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		name   string
		heads  []client.AuditHead
		away   []client.AuditMissing
		status int
		want   string
	}{
		{"an older line, of another hash", []client.AuditHead{own(known(row, place(2, other)))}, nil, exitRefused, "another hash"},
		{"known and held", []client.AuditHead{own(known(row, place(head.Seq, head.Hash)))}, nil, exitDone, "what the cluster knows"},
		{"it says until where", []client.AuditHead{own(known(row, place(head.Seq, head.Hash)))}, nil, exitDone, fmt.Sprintf("checked until line %d", head.Seq)},
		{"its own word alone", []client.AuditHead{own(row)}, nil, exitDone, "own word alone"},
		{"it says that all is well", []client.AuditHead{own(known(row, place(7, other)))}, nil, exitRefused, "cut off"},
		{"made anew", []client.AuditHead{own(known(row, place(head.Seq, other)))}, nil, exitRefused, "made anew"},
		{"it is away", []client.AuditHead{known(row, place(7, other))}, away, exitRefused, "cut off"},
		{"it is away, and sound", []client.AuditHead{known(row, place(head.Seq, head.Hash))}, away, exitDone, "verified"},
		{"nobody knows", nil, away, exitUnknown, "gave no answer"},
		{"of another cluster", nil, nil, exitRefused, "no member"},
		{"it lost an end", []client.AuditHead{lost(own(known(row, place(head.Seq, head.Hash))), 1<<50)}, nil, exitRefused, "9:" + head.Hash},
		{"long before its oldest line", []client.AuditHead{lost(own(known(row, place(head.Seq, head.Hash))), 1)}, nil, exitDone, "verified"},
	} {
		heads = client.AuditHeads{Heads: tc.heads, Unreachable: tc.away}
		got := runArgs(t, "", "audit", "verify", dir, "--cluster")
		if got.status != tc.status || !strings.Contains(got.out+got.err, tc.want) {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}
