package api

import (
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Caps of request bodies. A batch is as large as client.MaxBatch requests of a
// generous 4 KiB each.
const (
	admissionBytes = 16 << 10
	batchBytes     = client.MaxBatch * 4 << 10
	bodyBytes      = 64 << 10
)

// Query parameters of reads.
var (
	readQuery = []string{"level", "min_index"}
	pageQuery = append(readQuery[:2:2], "after", "limit")
	seqQuery  = append(readQuery[:2:2], "from", "limit")
)

// table is every route there is. Access is decided here and nowhere else.
func (s *Server) table() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []route{
		{method: get, pattern: "/healthz", access: byNobody, class: classHealth, always: true, handle: s.health},
		{method: get, pattern: "/readyz", access: byNobody, class: classHealth, always: true, handle: s.ready},

		{method: get, pattern: "/v1/status", need: fsm.CapReadStatus, query: readQuery, always: true, handle: s.status},
		{method: get, pattern: "/v1/members", need: fsm.CapReadOps, query: readQuery, handle: s.members},
		{method: get, pattern: "/v1/peers", always: true, need: fsm.CapReadOps, query: readQuery, handle: s.peers},
		{method: del, pattern: "/v1/peers/{peer}", always: true, need: fsm.CapAdmin, body: bodyBytes, query: []string{"compromised"}, handle: s.removePeer},
		{method: post, pattern: "/v1/leader/transfer", need: fsm.CapAdmin, body: bodyBytes, handle: s.transferLeader},

		{method: get, pattern: "/v1/recover/clock", need: fsm.CapReadOps, query: readQuery, handle: s.clocks},
		{method: post, pattern: "/v1/recover/clock", need: fsm.CapAdmin, body: bodyBytes, handle: s.recoverClock},

		{method: get, pattern: "/v1/policy", need: fsm.CapReadOps, query: readQuery, handle: s.policy},
		{method: put, pattern: "/v1/policy", need: fsm.CapAdmin, body: bodyBytes, handle: s.setPolicy},

		{method: post, pattern: "/v1/tokens", need: fsm.CapAdmin, body: bodyBytes, handle: s.createToken},
		{method: get, pattern: "/v1/tokens", need: fsm.CapAdmin, query: pageQuery, handle: s.tokens},
		{method: del, pattern: "/v1/tokens/{id}", need: fsm.CapAdmin, body: bodyBytes, handle: s.revokeToken},

		{method: post, pattern: "/v1/agents", access: byBody, class: classOpen, body: bodyBytes, handle: s.enroll},
		{method: get, pattern: "/v1/agents", need: fsm.CapReadTrust, query: pageQuery, handle: s.agents},
		{method: get, pattern: "/v1/agents/{id}", need: fsm.CapReadTrust, query: readQuery, handle: s.agent},
		{method: post, pattern: "/v1/agents/{id}/approve", need: fsm.CapOperate, body: bodyBytes, handle: s.setAgentState(fsm.AgentActive)},
		{method: post, pattern: "/v1/agents/{id}/suspend", need: fsm.CapOperate, body: bodyBytes, handle: s.setAgentState(fsm.AgentSuspended)},
		{method: post, pattern: "/v1/agents/{id}/revoke", need: fsm.CapAdmin, body: bodyBytes, handle: s.setAgentState(fsm.AgentRevoked)},

		{method: post, pattern: "/v1/admissions", need: fsm.CapAdmit, body: admissionBytes, handle: s.admit},
		{method: post, pattern: "/v1/admissions/batch", need: fsm.CapAdmit, class: classBatch, body: batchBytes, handle: s.admitBatch},

		{method: post, pattern: "/v1/blacklist", need: fsm.CapOperate, body: bodyBytes, handle: s.ban},
		{method: get, pattern: "/v1/blacklist", need: fsm.CapReadTrust, query: pageQuery, handle: s.bans},
		{method: get, pattern: "/v1/blacklist/agents/{agent}", need: fsm.CapReadTrust, query: readQuery, handle: s.banOn},
		{method: del, pattern: "/v1/blacklist/agents/{agent}", need: fsm.CapOperate, body: bodyBytes, handle: s.lift},
		{method: get, pattern: "/v1/blacklist/events", need: fsm.CapReadTrust, query: seqQuery, handle: s.chainEvents},

		{method: post, pattern: "/v1/manifests", need: fsm.CapOperate, body: bodyBytes, handle: s.acceptManifest},
		{method: get, pattern: "/v1/manifests", need: fsm.CapReadTrust, query: pageQuery, handle: s.manifests},
		{method: get, pattern: "/v1/manifests/accepted/{name}", need: fsm.CapReadTrust, query: readQuery, handle: s.manifest},
		{method: post, pattern: "/v1/manifests/accepted/{name}/revoke", need: fsm.CapAdmin, body: bodyBytes, handle: s.revokeManifest},
		{method: get, pattern: "/v1/manifests/trust", need: fsm.CapReadTrust, query: readQuery, handle: s.manifestTrust},
		{method: put, pattern: "/v1/manifests/trust", need: fsm.CapAdmin, body: bodyBytes, handle: s.setManifestTrust},

		{method: get, pattern: "/v1/snapshot", need: fsm.CapAdmin, class: classBackup, query: readQuery, handle: s.snapshot},
		{method: post, pattern: "/v1/snapshot/restore", need: fsm.CapAdmin, class: classBackup, upload: client.MaxSnapshotBytes,
			query: []string{"plan", "confirm", "lose_acknowledged"}, handle: s.restore},

		{method: get, pattern: "/identity", access: byNobody, handle: s.identity},
		{method: get, pattern: "/mesh/peers", access: byMesh, need: fsm.CapReadTrust, handle: s.meshPeers},
		{method: get, pattern: "/security/blacklist", access: byMesh, need: fsm.CapReadTrust, class: classStream, handle: s.meshBlacklist},
		{method: post, pattern: "/security/blacklist", access: byMesh, need: fsm.CapOperate, body: bodyBytes, handle: s.meshBan},
		{method: get, pattern: "/security/blacklist/audit", access: byMesh, need: fsm.CapReadTrust, class: classStream, handle: s.meshAudit},
	}
}
