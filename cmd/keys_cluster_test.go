package cmd

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// someKeys is a subject in the middle of a rotation.
var someKeys = client.Keys{Subject: "agent/a", KeyID: "2222222222222222", Schedule: client.KeySchedule{Version: 1, PeriodMs: 90 * 86_400_000, OverlapMs: 172_800_000, LeadMs: 3_600_000},
	DueMs: 1_775_001_600_000, Keys: []client.Key{
		{KeyID: "0000000000000000", State: client.KeyRevoked, RevokedAt: 7},
		{KeyID: "1111111111111111", State: client.KeyRetiring, NotBeforeMs: 1_767_225_600_000, UntilMs: 1_767_398_400_000, Successor: "2222222222222222"},
		{KeyID: "2222222222222222", State: client.KeyActive, NotBeforeMs: 1_767_225_600_000, Predecessor: "1111111111111111"},
		{KeyID: "3333333333333333", State: client.KeyNext},
	}, Unreachable: []client.AuditMissing{{Node: "node-3", Name: "n3", Detail: "no route"}}, Uses: []client.KeyUse{{KeyID: "1111111111111111", Node: "node-2", By: "t1", Count: 3, LastMs: 1_767_225_600_000}, {KeyID: "1111111111111111", Count: 1, LastMs: 1_767_225_600_000}}}

func TestKeysShowTable(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"GET /v1/keys/agent/a": always(someKeys)})
	pointAt(t, f)
	r := runArgs(t, "", "keys", "show", "agent/a")
	wantStatus(t, r, exitDone)
	for _, want := range []string{"every 90d, asked for 1h0m0s ahead, overlap 2d (version 1)", "until index 7", "from the switch", "until its successor", "by t1", "by the agent itself", "3 times", "at node-2", "uses unknown at", "no route"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
}

// someHistory is of a subject that changed its key and lost the first one.
var someHistory = client.KeyHistory{Subject: "agent/a", Epoch: 1, Records: 9, Steps: []client.KeyStep{
	{Seq: 2, Index: 3, AtMs: 1_767_225_600_000, Action: "agent_enroll", Actor: client.EventActor{TokenID: "t1"}, Fields: map[string]string{"key_id": "0000000000000000"}},
	{Seq: 5, Index: 6, AtMs: 1_767_225_600_000, Action: "key_prepare", Fields: map[string]string{"key_id": "1111111111111111", "by": "0000000000000000"}, Changed: true, Ring: []client.KeyWindow{
		{KeyID: "0000000000000000", UntilMs: 1_767_398_400_000}, {KeyID: "1111111111111111", NotBeforeMs: 1_767_225_600_000}}},
	{Seq: 9, Index: 12, AtMs: 1_767_225_600_000, Action: "key_revoke", Actor: client.EventActor{TokenID: "t2"}, Reason: "left on a train", Fields: map[string]string{"key_id": "0000000000000000"}, Changed: true, Ring: []client.KeyWindow{
		{KeyID: "0000000000000000", UntilMs: 1_767_398_400_000, RevokedAt: 12}, {KeyID: "1111111111111111", NotBeforeMs: 1_767_225_600_000}}},
}}

func TestKeysHistoryTable(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"GET /v1/keys/agent/a/history": always(someHistory), "GET /v1/keys/agent/a": always(client.Keys{Subject: "agent/a"})})
	pointAt(t, f)
	r := runArgs(t, "", "keys", "history", "agent/a")
	wantStatus(t, r, exitDone)
	for _, want := range []string{"agent_enroll, token t1", "key_prepare, ordered by 0000000000000000", "revoked at index 12", "0000000000000000: left on a train", "the beginning"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
}

// TestKeysRotateSigns: what is sent is the order of the one key and the proof of
// the other, for this cluster and subject, and without a token for an agent.
func TestKeysRotateSigns(t *testing.T) {
	dir := t.TempDir()
	first := writeTemp(t, "pass", "correct horse\n")
	var pub []crypto.PublicKey
	for _, name := range []string{"old", "new"} {
		r := runArgs(t, "", "agent", "keygen", "--out", filepath.Join(dir, name), "--passphrase-file", first, "--format", "json")
		wantStatus(t, r, exitDone)
		var made keyView
		if err := json.Unmarshal([]byte(r.out), &made); err != nil {
			t.Fatal(err)
		}
		key, err := crypto.ParsePublicKeyPEM(made.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		pub = append(pub, key)
	}
	var got client.RotateRequest
	var token string
	f := newFakeAPI(t, map[string]reply{"POST /v1/keys/agent/a/rotate": func(c call) any {
		got, token = client.RotateRequest{}, c.header.Get("Authorization")
		if err := json.Unmarshal([]byte(c.body), &got); err != nil {
			t.Error(err)
		}
		return client.KeysChanged{Keys: someKeys, Index: 5}
	}})
	pointAt(t, f)
	files := []string{"--new-key", filepath.Join(dir, "new"), "--passphrase-file", first, "--cluster-id", "c1"}
	wantStatus(t, runArgs(t, "", append([]string{"keys", "rotate", "agent/a", "--key", filepath.Join(dir, "old"), "--in", "1h"}, files...)...), exitDone)
	st := crypto.Succession{ClusterID: "c1", Subject: "agent/a", Predecessor: pub[0], Successor: pub[1], NotBeforeMs: got.NotBeforeMs, SignedMs: got.SignedMs}
	if !st.Ordered(unbase64(t, got.Signature)) || !st.Proven(unbase64(t, got.Proof)) || got.NotBeforeMs-got.SignedMs != time.Hour.Milliseconds() || token != "" {
		t.Errorf("%+v with %q", got, token)
	}
	wantStatus(t, runArgs(t, "", append([]string{"keys", "rotate", "agent/a", "--recover", "--reason", "the disk died"}, files...)...), exitDone)
	st = crypto.Succession{ClusterID: "c1", Subject: "agent/a", Successor: pub[1], SignedMs: got.SignedMs}
	if !st.Proven(unbase64(t, got.Proof)) || got.Signature != "" || !got.Recover || got.Reason != "the disk died" || token == "" {
		t.Errorf("%+v with %q", got, token)
	}
	for name, args := range map[string][]string{
		"half an order":         {"--key", filepath.Join(dir, "old")},
		"no reason":             append([]string{"--recover"}, files...),
		"a reason for nothing":  {"--reason", "x"},
		"a begin of nothing":    {"--in", "1h"},
		"a recovery with a key": append([]string{"--recover", "--reason", "x", "--key", "old"}, files...),
		"a time that is none":   append([]string{"--key", filepath.Join(dir, "old"), "--in", "soon"}, files...),
	} {
		if r := runArgs(t, "", append([]string{"keys", "rotate", "agent/a"}, args...)...); r.status != exitUsage {
			t.Errorf("%s: exit status %d: %s", name, r.status, r.err)
		}
	}
	t.Setenv("EDGECODER_TOKEN", "")
	if r := runArgs(t, "", "keys", "rotate", "agent/a", "--key", filepath.Join(dir, "old"), "--new-key", filepath.Join(dir, "new"), "--passphrase-file", first); r.status != exitUsage || !strings.Contains(r.err, "--cluster-id") {
		t.Errorf("no cluster is known: %+v", r)
	}
	if r := runArgs(t, "", append([]string{"keys", "rotate", "coordinator/n", "--recover", "--reason", "xyz"}, files...)...); r.status != exitUsage {
		t.Errorf("a coordinator is recovered: %+v", r)
	}
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestKeysScheduleSends: only what was named changes, and off is no period.
func TestKeysScheduleSends(t *testing.T) {
	var sent, match string
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/keys/agent/schedule": always(client.KeySchedule{Version: 3, OverlapMs: 1}),
		"PUT /v1/keys/agent/schedule": func(c call) any {
			sent, match = c.body, c.header.Get("If-Match")
			return client.KeyScheduleSet{Subject: "agent", Index: 4}
		},
	})
	pointAt(t, f)
	wantStatus(t, runArgs(t, "", "keys", "schedule", "agent", "--period", "off", "--lead", "2d"), exitDone)
	if sent != `{"period_ms":0,"lead_ms":172800000}` || match != `"3"` {
		t.Errorf("sent %s, if %s", sent, match)
	}
	sent = ""
	wantStatus(t, runArgs(t, "", "keys", "schedule", "agent"), exitDone)
	for _, bad := range [][]string{{"--overlap", "off"}, {"--lead", "-1h"}} {
		if r := runArgs(t, "", append([]string{"keys", "schedule", "agent"}, bad...)...); r.status != exitUsage {
			t.Errorf("%v: %+v", bad, r)
		}
	}
	if sent != "" {
		t.Errorf("a question or a mistake sent %s", sent)
	}
}
