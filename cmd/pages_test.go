package cmd

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// pages serves three pages of agents, the second of them pending.
func pages(t *testing.T, n *int) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*n++
		page := map[string]client.Agents{
			"":  {Agents: []client.Agent{{AgentID: "a", State: "active"}}, Next: "a"},
			"a": {Agents: []client.Agent{{AgentID: "b", State: "pending"}}, Next: "b"},
			"b": {Agents: []client.Agent{{AgentID: "c", State: "active"}}},
		}[r.URL.Query().Get("after")]
		_ = json.NewEncoder(w).Encode(page)
	})
}
