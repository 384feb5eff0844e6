package cmd

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestEventsPrintsALineEach(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI()+" "+r.Header.Get(client.HeaderLastEventID))
		_, _ = io.WriteString(w, "id: 1-1-1-0-aa\nevent: ban\ndata: {\"type\":\"ban\",\"action\":\"ban\",\"subject\":\"evil\\u001b[2J\",\"at_ms\":1767225600000}\n\n"+
			"id: 1-1-1-1-bb\nevent: token\ndata: {\"type\":\"token\",\"action\":\"token_create\",\"subject\":\"t1\",\"at_ms\":1767225600000}\n\n")
	}))
	t.Cleanup(srv.Close)
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", srv.URL)
	t.Setenv("EDGECODER_TOKEN", testToken(t, "viewer"))
	table := runArgs(t, "", "events", "--type", "ban,token", "--after", "0", "--count", "2")
	wantStatus(t, table, 0)
	if lines := strings.Split(strings.TrimSpace(table.out), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "2026-01-01 00:00:00Z  ban") || strings.Contains(table.out, "\x1b") {
		t.Errorf("%q", table.out)
	}
	doc := runArgs(t, "", "events", "--count", "1", "--format", "json")
	wantStatus(t, doc, 0)
	if !strings.HasPrefix(doc.out, `{"id":"1-1-1-0-aa","type":"ban"`) || strings.Count(doc.out, "\n") != 1 {
		t.Errorf("%q", doc.out)
	}
	if len(asked) != 2 || asked[0] != "/v1/events?types=ban%2Ctoken 0" || asked[1] != "/v1/events " {
		t.Errorf("asked %q", asked)
	}
	wantStatus(t, runArgs(t, "", "events", "--count", "0"), 2)
}
