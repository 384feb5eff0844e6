package node

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// TestTalkIsBounded: any member is pinged every second or so, by every other one.
func TestTalkIsBounded(t *testing.T) {
	long, err := fsm.Encode(pingReply{Version: strings.Repeat("v", maxTalkBytes)})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: DefaultConfig(), rpc: &http.Client{Transport: answering(func(*http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(long))}
	})}}
	var reply pingReply
	if err := n.call(t.Context(), "n1", rpcPing, pingRequest{}, &reply); code(err) != client.CodeUnknownOutcome || reply.Version != "" {
		t.Errorf("an answer of %d bytes: %v, %d bytes kept", len(long), err, len(reply.Version))
	}
	if err := n.call(t.Context(), "n1", rpcAudit, pingRequest{}, &reply); err != nil || reply.Version == "" {
		t.Errorf("to a question that may have a long answer: %v", err)
	}
	for _, path := range []string{rpcPing, rpcReach, rpcMember} {
		if most := rpcBytes(path); most != maxTalkBytes {
			t.Errorf("%s: %d bytes", path, most)
		}
	}
}

// TestPingIsCutWhenRead: status shows what a member says of its binary.
func TestPingIsCutWhenRead(t *testing.T) {
	r := pingReply{Marks: make([]fsm.Mark, fsm.MaxMarks+3), Audit: &fsm.AuditReport{NodeID: "another"},
		Version: "v1\x1b[31m\n" + strings.Repeat("ü", fsm.MaxLabelBytes)}
	r.Marks[len(r.Marks)-1].Index = 7
	r.bound("n1")
	if len(r.Marks) != fsm.MaxMarks || r.Marks[fsm.MaxMarks-1].Index != 7 || r.Audit.NodeID != "n1" {
		t.Errorf("%d marks, audit of %s", len(r.Marks), r.Audit.NodeID)
	}
	if len(r.Version) > fsm.MaxLabelBytes || !strings.HasPrefix(r.Version, "v1[31mü") || strings.Trim(r.Version[6:], "ü") != "" {
		t.Errorf("version %q of %d bytes", r.Version, len(r.Version))
	}
	sound := pingReply{Version: "v1.2.3 (dirty)"}
	if sound.bound("n1"); sound.Version != "v1.2.3 (dirty)" {
		t.Errorf("a sound version: %q", sound.Version)
	}
}
