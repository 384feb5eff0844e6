package api

import (
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// Caps of request bodies. A batch is as large as client.MaxBatch requests of a
// generous 4 KiB each.
const (
	admissionBytes = 16 << 10
	batchBytes     = client.MaxBatch * 4 << 10
	bodyBytes      = 64 << 10
	ledgerBytes    = client.MaxLedgerBatch * 2 << 10 // five ids of 128 bytes and their names
	reportBytes    = client.MaxLedgerBatch * 1 << 10 // 5 ids, most of them short, a key and a signature
)

// Query parameters of reads.
var (
	readQuery = []string{"level", "min_index"}
	pageQuery = append(readQuery[:2:2], "after", "limit")
	seqQuery  = append(readQuery[:2:2], "from", "limit")

	auditQuery = []string{"since_ms", "type", "level", "actor", "limit", "cursor"}
)

// table is every route there is. Access is decided here and nowhere else.
func (s *Server) table() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []route{
		{method: get, pattern: "/healthz", access: byNobody, class: classHealth, always: true,
			doc: doc{says: "the process serves", out: healthReply{}}, handle: s.health},
		{method: get, pattern: "/readyz", access: byNobody, class: classHealth, always: true,
			doc: doc{says: "a leader is known and this replica is caught up", out: healthReply{}}, handle: s.ready},

		{method: get, pattern: "/metrics", need: fsm.CapReadOps, always: true,
			doc: doc{says: "measurements for Prometheus", media: "text/plain"}, handle: s.metrics},
		{method: get, pattern: "/v1/events", need: fsm.CapReadTrust, class: classEvents, query: []string{"types", "last_event_id"},
			doc: doc{says: "bans and other changes as they are committed, as Server-Sent Events", media: "text/event-stream"}, handle: s.events},

		{method: get, pattern: "/v1/audit/events", always: true, need: fsm.CapReadOps, class: classStream, query: auditQuery,
			doc: doc{says: "security events of all nodes", out: client.AuditEvents{}}, handle: s.auditEvents},
		{method: get, pattern: "/v1/audit/heads", always: true, need: fsm.CapReadOps, class: classStream,
			doc: doc{says: "the head of each node's audit log", out: client.AuditHeads{}}, handle: s.auditHeads},

		{method: get, pattern: "/v1/openapi.json", need: fsm.CapReadTrust,
			doc: doc{says: "this document", out: object{}}, handle: s.openAPIDocument},
		{method: get, pattern: "/v1/status", need: fsm.CapReadStatus, query: readQuery, always: true,
			doc: doc{says: "this node and what it knows of the cluster", out: client.Status{}}, handle: s.status},
		{method: get, pattern: "/v1/members", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "who is here, as gossip sees it", out: client.Members{}}, handle: s.members},
		{method: get, pattern: "/v1/peers", always: true, need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "the coordinators of the replicated state", out: client.Peers{}}, handle: s.peers},
		{method: del, pattern: "/v1/peers/{peer}", always: true, need: fsm.CapAdmin, body: bodyBytes, query: []string{"compromised"},
			doc: doc{says: "remove a coordinator or an edge, by name or id, for ever", out: client.PeerRemoved{}}, handle: s.removePeer},
		{method: post, pattern: "/v1/leader/transfer", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "hand leadership to a node, or to the most caught-up one", in: client.LeaderTransfer{}, out: client.LeaderTransferred{}}, handle: s.transferLeader},

		{method: get, pattern: "/v1/ca", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "the CA certificates that clients should trust now", out: client.CAs{}}, handle: s.cas},

		{method: get, pattern: "/v1/recover/clock", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "the cluster clock beside the wall clocks of the voters", out: client.Clocks{}}, handle: s.clocks},
		{method: post, pattern: "/v1/recover/clock", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "set the cluster clock back to what a majority says", in: client.ClockRecovery{}, out: client.ClockRecovered{}}, handle: s.recoverClock},

		{method: get, pattern: "/v1/policy", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "limits, skew, enrolment, signatures", out: client.Policy{}, ifTag: true}, handle: s.policy},
		{method: put, pattern: "/v1/policy", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "change members of the policy; the others stay", in: client.PolicyUpdate{}, out: client.Policy{}, ifTag: true}, handle: s.setPolicy},

		{method: post, pattern: "/v1/tokens", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "make a token; its text is answered once", in: client.TokenRequest{}, out: client.Token{}, or: repeatedToken{}, status: http.StatusCreated}, handle: s.createToken},
		{method: get, pattern: "/v1/tokens", need: fsm.CapAdmin, query: pageQuery,
			doc: doc{says: "tokens, without their secrets", out: client.Tokens{}}, handle: s.tokens},
		{method: del, pattern: "/v1/tokens/{id}", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "end a token", out: client.TokenRevoked{}}, handle: s.revokeToken},

		{method: post, pattern: "/v1/agents", access: byBody, class: classOpen, body: bodyBytes,
			doc: doc{says: "enrol an agent: the token in the body is the credential, proof that of the key", in: client.EnrollRequest{}, out: client.Agent{}, or: agentChanged{}, status: http.StatusCreated}, handle: s.enroll},
		{method: get, pattern: "/v1/agents", need: fsm.CapReadTrust, query: pageQuery,
			doc: doc{says: "enrolled agents", out: client.Agents{}}, handle: s.agents},
		{method: get, pattern: "/v1/agents/{id}", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "one agent", out: client.Agent{}}, handle: s.agent},
		{method: post, pattern: "/v1/agents/{id}/approve", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "let an agent act", out: client.Agent{}, or: agentChanged{}}, handle: s.setAgentState(fsm.AgentActive)},
		{method: post, pattern: "/v1/agents/{id}/suspend", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "stop an agent until it is approved again", out: client.Agent{}, or: agentChanged{}}, handle: s.setAgentState(fsm.AgentSuspended)},
		{method: post, pattern: "/v1/agents/{id}/revoke", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "stop an agent for ever", out: client.Agent{}, or: agentChanged{}}, handle: s.setAgentState(fsm.AgentRevoked)},

		{method: post, pattern: "/v1/admissions", need: fsm.CapAdmit, body: admissionBytes,
			doc: doc{says: "the verdict on one signed request", in: client.AdmissionRequest{}, out: client.Admission{}}, handle: s.admit},
		{method: post, pattern: "/v1/admissions/batch", need: fsm.CapAdmit, class: classBatch, body: batchBytes,
			doc: doc{says: "the verdicts on up to 1024 signed requests, in order", in: client.AdmissionBatch{}, out: client.AdmissionResults{}}, handle: s.admitBatch},

		{method: post, pattern: "/v1/blacklist", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "ban an agent", in: client.BanRequest{}, out: client.BlacklistChange{}, status: http.StatusCreated}, handle: s.ban},
		{method: get, pattern: "/v1/blacklist", need: fsm.CapReadTrust, query: pageQuery,
			doc: doc{says: "the bans in force", out: client.Bans{}}, handle: s.bans},
		{method: get, pattern: "/v1/blacklist/agents/{agent}", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "the ban in force on one agent", out: client.Ban{}}, handle: s.banOn},
		{method: del, pattern: "/v1/blacklist/agents/{agent}", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "lift a ban by an event that supersedes it", in: client.LiftRequest{}, out: client.BlacklistChange{}}, handle: s.lift},
		{method: get, pattern: "/v1/blacklist/events", need: fsm.CapReadTrust, query: seqQuery,
			doc: doc{says: "the chain of events, paged", out: client.ChainPage{}}, handle: s.chainEvents},
		{method: get, pattern: "/v1/blacklist/checkpoint", need: fsm.CapReadTrust,
			doc: doc{says: "the newest checkpoint that a majority of coordinators cosigned, a signed note (c2sp.org/tlog-checkpoint)", media: "text/plain"}, handle: s.checkpoint(checkpoint.LogBlacklist)},
		{method: get, pattern: "/v1/blacklist/proof/inclusion", need: fsm.CapReadTrust, query: []string{"seq", "size"},
			doc: doc{says: "a proof that an event is in the tree of a checkpoint", out: client.InclusionProof{}}, handle: s.inclusion(checkpoint.LogBlacklist)},
		{method: get, pattern: "/v1/blacklist/proof/consistency", need: fsm.CapReadTrust, query: []string{"from", "to"},
			doc: doc{says: "a proof that one tree begins with another", out: client.ConsistencyProof{}}, handle: s.consistency(checkpoint.LogBlacklist)},
		{method: get, pattern: "/v1/blacklist/cosigners", need: fsm.CapReadTrust, query: seqQuery,
			doc: doc{says: "who cosigns checkpoints, each version signed by a majority of the one before", out: client.CosignerSets{}}, handle: s.cosigners},
		{method: get, pattern: "/v1/blacklist/delta", need: fsm.CapReadTrust, class: classWait, query: append(readQuery[:2:2], "cursor"),
			doc: doc{says: "who was banned and who is not any more, behind a cursor; without one, or with one of another past, from an empty list", out: client.BlacklistDelta{}}, handle: s.delta},
		{method: get, pattern: "/v1/blacklist/enforcement", need: fsm.CapReadOps, class: classWait, query: []string{"size", "need", "wait_ms"},
			doc: doc{says: "who enforces the chain up to a size; with need, quorum or all, it waits for up to wait_ms", out: client.Enforcement{}}, handle: s.enforcement},

		{method: get, pattern: "/v1/ledger", need: fsm.CapReadLedger | fsm.CapReadOps, query: readQuery,
			doc: doc{says: "what the ledger comes to", out: client.Ledger{}}, handle: s.ledger},
		{method: get, pattern: "/v1/ledger/policy", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "the policy of the ledger", out: client.LedgerPolicy{}, ifTag: true}, handle: s.ledgerPolicy},
		{method: put, pattern: "/v1/ledger/policy", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "change members of the ledger's policy; the others stay", in: client.LedgerPolicyUpdate{}, out: client.LedgerPolicy{}, ifTag: true}, handle: s.setLedgerPolicy},
		{method: post, pattern: "/v1/ledger/accounts", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "make an account, or change its floor and whether it is frozen; the first one opens the ledger", in: client.AccountRequest{}, out: client.Account{}, status: http.StatusCreated}, handle: s.setAccount},
		{method: get, pattern: "/v1/ledger/accounts", need: fsm.CapReadOps, query: pageQuery,
			doc: doc{says: "accounts and what is on them", out: client.Accounts{}}, handle: s.accounts},
		{method: get, pattern: "/v1/ledger/accounts/{id}", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "one account", out: client.Account{}}, handle: s.account},
		{method: post, pattern: "/v1/ledger/transfers", access: byEither, need: fsm.CapTransfer, body: bodyBytes,
			doc: doc{says: "move an amount between accounts", in: client.TransferRequest{}, out: client.LedgerResult{}}, handle: s.either(s.transfer)},
		{method: post, pattern: "/v1/ledger/transfers/batch", access: byEither, need: fsm.CapTransfer, class: classBatch, body: ledgerBytes,
			doc: doc{says: "up to 1024 transfers, holds and ends of holds, each by itself or linked; of an agent what fits 64 KiB", in: client.LedgerBatch{}, out: client.LedgerResults{}}, handle: s.either(s.moveBatch)},
		{method: post, pattern: "/v1/ledger/holds", access: byEither, need: fsm.CapTransfer, body: bodyBytes,
			doc: doc{says: "set an amount aside until it is posted, voided or over", in: client.HoldRequest{}, out: client.LedgerResult{}}, handle: s.either(s.hold)},
		{method: post, pattern: "/v1/ledger/holds/{id}/post", access: byEither, need: fsm.CapTransfer, body: bodyBytes,
			doc: doc{says: "move what a hold set aside, or a part of it", in: client.HoldEnd{}, out: client.LedgerResult{}}, handle: s.either(s.endHold(client.OpPost))},
		{method: post, pattern: "/v1/ledger/holds/{id}/void", access: byEither, need: fsm.CapTransfer, body: bodyBytes,
			doc: doc{says: "give back what a hold set aside", in: client.HoldEnd{}, out: client.LedgerResult{}}, handle: s.either(s.endHold(client.OpVoid))},
		{method: post, pattern: "/v1/ledger/contributions", access: byBody, class: classOpen, body: reportBytes,
			doc: doc{says: "hand in reports of work, which the agents signed: the signature is the credential", in: client.ContributionReports{}, out: client.LedgerResults{}}, handle: s.contribute},
		{method: get, pattern: "/v1/ledger/contributions", access: byEither, need: fsm.CapTransfer, query: append(pageQuery[:len(pageQuery):len(pageQuery)], "payer"),
			doc: doc{says: "reports of work that wait for the verdict of the payer, who asks, or an operator does", out: client.PendingContributions{}}, handle: s.either(s.contributions)},
		{method: post, pattern: "/v1/ledger/contributions/confirm", access: byEither, need: fsm.CapTransfer, body: reportBytes,
			doc: doc{says: "have reports count in the open epoch, or reject them: for payers and operators", in: client.ContributionVerdict{}, out: client.LedgerResults{}}, handle: s.either(s.confirmContributions)},
		{method: get, pattern: "/v1/ledger/epochs", need: fsm.CapReadOps, query: readQuery,
			doc: doc{says: "epochs that are open, and those that were paid last", out: client.Epochs{}}, handle: s.ledgerEpochs},
		{method: get, pattern: "/v1/ledger/records", need: fsm.CapReadLedger, query: append(seqQuery[:len(seqQuery):len(seqQuery)], "account"),
			doc: doc{says: "the records of the ledger, paged", out: client.LedgerRecords{}}, handle: s.ledgerRecords},
		{method: get, pattern: "/v1/ledger/verify", need: fsm.CapReadLedger, class: classStream, query: readQuery,
			doc: doc{says: "walk all records from the first and hold the balances against them", out: client.LedgerVerified{}}, handle: s.verifyLedger},
		{method: get, pattern: "/v1/ledger/checkpoint", need: fsm.CapReadLedger,
			doc: doc{says: "the newest checkpoint of the ledger that a majority of coordinators cosigned, a signed note (c2sp.org/tlog-checkpoint)", media: "text/plain"}, handle: s.checkpoint(checkpoint.LogLedger)},
		{method: get, pattern: "/v1/ledger/proof/inclusion", need: fsm.CapReadLedger, query: []string{"seq", "size"},
			doc: doc{says: "a proof that a record is in the tree of a checkpoint of the ledger", out: client.InclusionProof{}}, handle: s.inclusion(checkpoint.LogLedger)},
		{method: get, pattern: "/v1/ledger/proof/consistency", need: fsm.CapReadLedger, query: []string{"from", "to"},
			doc: doc{says: "a proof that one tree of the ledger begins with another", out: client.ConsistencyProof{}}, handle: s.consistency(checkpoint.LogLedger)},
		{method: get, pattern: "/v1/ledger/export", need: fsm.CapReadLedger, class: classStream, query: readQuery,
			doc: doc{says: "all records as an export file", media: client.LedgerExportType}, handle: s.exportLedger},

		{method: post, pattern: "/v1/manifests", need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "verify and accept a signed manifest", in: client.ManifestRequest{}, out: client.ManifestAccepted{}, status: http.StatusCreated}, handle: s.acceptManifest},
		{method: get, pattern: "/v1/manifests", need: fsm.CapReadTrust, query: pageQuery,
			doc: doc{says: "accepted manifests", out: client.Manifests{}}, handle: s.manifests},
		{method: get, pattern: "/v1/manifests/accepted/{name}", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "the accepted versions of one name", out: client.Manifest{}}, handle: s.manifest},
		{method: post, pattern: "/v1/manifests/accepted/{name}/revoke", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "take an accepted version back", in: client.ManifestRevokeRequest{}, out: client.ManifestRevoked{}}, handle: s.revokeManifest},
		{method: get, pattern: "/v1/manifests/trust", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "whose signatures manifests need", out: client.ManifestTrust{}, ifTag: true}, handle: s.manifestTrust},
		{method: put, pattern: "/v1/manifests/trust", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "change whose signatures manifests need", in: client.ManifestTrustUpdate{}, out: client.ManifestTrust{}, ifTag: true}, handle: s.setManifestTrust},

		{method: get, pattern: "/v1/keys", need: fsm.CapReadTrust, query: append(pageQuery[:4:4], "kind"),
			doc: doc{says: "keys of all subjects, with their windows", out: client.KeyList{}}, handle: s.keyList},
		{method: get, pattern: "/v1/keys/{subject}", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "the keys of coordinator/NODE, certificate/NODE, agent/AGENT, manifest/SIGNER, gossip or ca", out: client.Keys{}}, handle: s.keys},
		{method: get, pattern: "/v1/keys/{subject}/history", need: fsm.CapReadOps, query: seqQuery,
			doc: doc{says: "what happened to a subject's keys, those that are gone too, the oldest step first; a page looks at some thousand records and may be empty", out: client.KeyHistory{}}, handle: s.keyHistory},
		{method: post, pattern: "/v1/keys/{subject}/rotate", access: byOrder, need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "ask for the next key, or bring it with the order of the current one", in: client.RotateRequest{}, out: client.KeysChanged{}, or: keyChangeMade{}}, handle: s.rotateKey},
		{method: post, pattern: "/v1/keys/{subject}/revoke", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "end a key at this log index", in: client.RevokeKeyRequest{}, out: client.KeysChanged{}, or: keyChangeMade{}}, handle: s.revokeKey},
		{method: get, pattern: "/v1/keys/{subject}/schedule", need: fsm.CapReadTrust, query: readQuery,
			doc: doc{says: "how often a subject's keys are rotated, or those of a kind", out: client.KeySchedule{}, ifTag: true}, handle: s.keySchedule},
		{method: put, pattern: "/v1/keys/{subject}/schedule", need: fsm.CapAdmin, body: bodyBytes,
			doc: doc{says: "change how often keys are rotated", in: client.KeyScheduleUpdate{}, out: client.KeyScheduleSet{}, ifTag: true}, handle: s.setKeySchedule},

		{method: get, pattern: "/v1/snapshot", need: fsm.CapAdmin, class: classBackup, query: readQuery,
			doc: doc{says: "a backup of the whole cluster", media: "application/octet-stream"}, handle: s.snapshot},
		{method: post, pattern: "/v1/snapshot/restore", need: fsm.CapAdmin, class: classBackup, upload: client.MaxSnapshotBytes,
			query: []string{"plan", "confirm", "lose_acknowledged"},
			doc:   doc{says: "plan a restore, or carry out the plan", sends: "application/octet-stream", out: client.RestorePlan{}, or: client.Restored{}}, handle: s.restore},

		{method: get, pattern: "/identity", access: byNobody,
			doc: doc{says: "id and signing key of this coordinator", out: client.Identity{}}, handle: s.identity},
		{method: post, pattern: "/register", access: byAgent, class: classOpen, body: bodyBytes,
			doc: doc{says: "an existing agent registers; what changes nothing costs nothing", in: client.RegisterRequest{}, out: client.Registered{}}, handle: s.asAgent(s.register)},
		{method: post, pattern: "/heartbeat", access: byAgent, class: classOpen, body: bodyBytes,
			doc: doc{says: "an existing agent says that it lives and hears who is banned", in: client.AgentCall{}, out: client.Heartbeat{}, or: client.HeartbeatBanned{}}, handle: s.asAgent(s.heartbeat)},
		{method: post, pattern: "/pull", access: byAgent, class: classOpen, body: bodyBytes,
			doc: doc{says: "an existing agent asks for work: there is none here", in: client.AgentCall{}, out: client.Pulled{}}, handle: s.asAgent(s.pull)},
		{method: post, pattern: "/result", access: byNobody, body: bodyBytes,
			doc: doc{says: "not served: results belong to the service that hands out work"}, handle: s.notServed},
		{method: post, pattern: "/submit", access: byNobody, body: bodyBytes,
			doc: doc{says: "not served: tasks belong to the service that hands out work"}, handle: s.notServed},
		{method: post, pattern: "/mesh/register-peer", access: byMesh, need: fsm.CapReadTrust, body: bodyBytes,
			doc: doc{says: "a peer announces itself: it is heard and granted nothing", in: client.RegisterPeerRequest{}, out: client.PeerRegistered{}}, handle: s.registerPeer},
		{method: post, pattern: "/mesh/ingest", access: byMesh, need: fsm.CapReadTrust, body: bodyBytes,
			doc: doc{says: "a signed message of the mesh: it is verified and changes nothing", in: client.MeshMessage{}, out: client.MeshIngested{}}, handle: s.ingest},
		{method: get, pattern: "/ledger/snapshot", access: byMesh, need: fsm.CapReadLedger, class: classStream,
			doc: doc{says: "the records of the ledger as existing clients read them, paged by from and limit", out: client.OrderingSnapshot{}}, handle: s.orderingSnapshot},
		{method: get, pattern: "/ledger/verify", access: byMesh, need: fsm.CapReadLedger, class: classStream,
			doc: doc{says: "whether the ledger of this node verifies", out: client.OrderingVerified{}}, handle: s.orderingVerify},
		{method: get, pattern: "/mesh/peers", access: byMesh, need: fsm.CapReadTrust,
			doc: doc{says: "every key that signs or ever signed the chain", out: client.MeshPeers{}}, handle: s.meshPeers},
		{method: get, pattern: "/security/blacklist", access: byMesh, need: fsm.CapReadTrust, class: classStream,
			doc: doc{says: "the records in force", out: client.MeshBlacklist{}}, handle: s.meshBlacklist},
		{method: post, pattern: "/security/blacklist", access: byMesh, need: fsm.CapOperate, body: bodyBytes,
			doc: doc{says: "ban an agent", in: client.MeshBanRequest{}, out: client.MeshBanned{}}, handle: s.meshBan},
		{method: get, pattern: "/security/blacklist/audit", access: byMesh, need: fsm.CapReadTrust, class: classStream,
			doc: doc{says: "the whole chain", out: client.Audit{}}, handle: s.meshAudit},
	}
}
