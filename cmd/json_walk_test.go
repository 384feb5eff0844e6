package cmd

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

// leaves returns every command that does something, by its words.
func leaves(commands []*cli.Command, before []string) map[string]*cli.Command {
	all := map[string]*cli.Command{}
	for _, c := range commands {
		words := append(slices.Clone(before), c.Name)
		if c.Action != nil {
			all[strings.Join(words, " ")] = c
		}
		maps.Copy(all, leaves(c.Subcommands, words))
	}
	return all
}

// jsonElsewhere are the commands whose JSON other tests hold, or that have no
// result: the reason stands beside each.
var jsonElsewhere = map[string]string{
	"server":               "--check-config: testdata/script/precedence.txtar",
	"edge":                 "it answers over HTTP",
	"cluster up":           "testdata/script/cluster.txtar",
	"cluster down":         "testdata/script/cluster.txtar",
	"cluster status":       "testdata/script/cluster.txtar",
	"cluster start":        "prints what cluster stop prints",
	"cluster stop":         "testdata/script/cluster.txtar",
	"cluster restart":      "prints what cluster status prints",
	"demo":                 "make demo",
	"token create":         "TestTokenCreate",
	"agent keygen":         "the same code as keys generate",
	"agent enroll":         "agent_test.go",
	"keys generate":        "testdata/script/offline.txtar",
	"keys inspect":         "testdata/script/offline.txtar",
	"keys convert":         "the same code as keys generate",
	"keys passphrase":      "keys_test.go",
	"sign":                 "testdata/script/flags.txtar: the headers as they are sent",
	"blacklist audit":      "writes an audit document, which is JSON anyway",
	"blacklist verify":     "blacklist_test.go",
	"blacklist checkpoint": "blacklist_proof_test.go: what the cluster says must verify", "blacklist proof": "blacklist_proof_test.go",
	"blacklist cosigners": "blacklist_proof_test.go",
	"envelope seal":       "envelope_test.go",
	"envelope open":       "envelope_test.go",
	"envelope task seal":  "envelope_task_test.go", "envelope task open": "envelope_task_test.go",
	"envelope result seal": "envelope_task_test.go", "envelope result open": "envelope_task_test.go",
	"manifest revoke":    "manifest_test.go",
	"manifest sign":      "manifest_test.go",
	"manifest accept":    "manifest_test.go",
	"manifest verify":    "testdata/script/offline.txtar",
	"manifest trust add": "manifest_test.go", "manifest trust remove": "manifest_test.go",
	"snapshot save": "snapshot_test.go", "snapshot inspect": "snapshot_test.go", "snapshot verify": "snapshot_test.go", "snapshot restore": "snapshot_test.go",
	"bench ledger":  "bench_test.go",
	"ledger report": "ledger_test.go", "ledger checkpoint": "blacklist_proof_test.go",
	"recover": "recover_test.go", "recover clock": "recover_test.go",
	"chaos run": "runs for minutes; its JSON is the report's", "chaos report": "the same", "chaos clean": "no result but its exit status",
	"completion":   "prints a script",
	"audit verify": "audit_test.go",
	"events":       "a document a line, without end: testdata/script/cluster.txtar",
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// TestEveryCommandSpeaksJSON runs all commands that only ask one thing of the
// API: --format json is one document with snake_case names.
func TestEveryCommandSpeaksJSON(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{
		"GET /v1/status":                        always(client.Status{Leader: &client.Leader{}, Voters: []client.Server{{}}, Disk: &client.Disk{}, Backup: &client.BackupStatus{}}),
		"GET /v1/audit/events":                  always(client.AuditEvents{Events: []client.AuditEvent{{}}}),
		"GET /v1/members":                       always(client.Members{Members: []client.Member{{}}}),
		"GET /v1/peers":                         always(client.Peers{Peers: []client.Peer{{}}}),
		"DELETE /v1/peers/n":                    always(map[string]any{"id": "i", "index": 1}),
		"POST /v1/leader/transfer":              always(map[string]any{"node": "n"}),
		"GET /v1/policy":                        always(somePolicy),
		"PUT /v1/policy":                        always(somePolicy),
		"GET /v1/tokens":                        always(client.Tokens{Tokens: []client.Token{{}}}),
		"DELETE /v1/tokens/t":                   always(map[string]any{"id": "t", "index": 1}),
		"GET /v1/agents":                        always(client.Agents{Agents: []client.Agent{{}}}),
		"GET /v1/agents/a":                      always(client.Agent{}),
		"POST /v1/agents/a/approve":             always(client.Agent{}),
		"POST /v1/agents/a/suspend":             always(client.Agent{}),
		"POST /v1/agents/a/revoke":              always(client.Agent{}),
		"POST /v1/admissions":                   always(client.Admission{Verdict: "admitted", Code: "ok"}),
		"POST /v1/blacklist":                    always(client.BlacklistChange{}),
		"DELETE /v1/blacklist/agents/a":         always(client.BlacklistChange{}),
		"GET /v1/blacklist":                     always(client.Bans{Bans: []client.Ban{{}}}),
		"GET /v1/blacklist/agents/a":            always(client.Ban{}),
		"GET /v1/ledger":                        always(client.Ledger{Open: true}),
		"GET /v1/ledger/policy":                 always(client.LedgerPolicy{}),
		"GET /v1/ledger/accounts":               always(client.Accounts{Accounts: []client.Account{{}}}),
		"POST /v1/ledger/accounts":              always(client.Account{}),
		"GET /v1/ledger/accounts/a":             always(client.Account{}),
		"POST /v1/ledger/transfers":             always(client.LedgerResult{Code: client.LedgerOK}),
		"POST /v1/ledger/holds":                 always(client.LedgerResult{Code: client.LedgerOK}),
		"POST /v1/ledger/holds/h/post":          always(client.LedgerResult{Code: client.LedgerOK}),
		"POST /v1/ledger/holds/h/void":          always(client.LedgerResult{Code: client.LedgerOK}),
		"GET /v1/ledger/contributions":          always(client.PendingContributions{Contributions: []client.PendingContribution{{}}}),
		"POST /v1/ledger/contributions/confirm": always(client.LedgerResults{Results: []client.LedgerResult{{Code: client.LedgerOK}}}),
		"GET /v1/ledger/epochs":                 always(client.Epochs{Open: []client.OpenEpoch{{}}, Closed: []client.Epoch{{}}}),
		"GET /v1/ledger/records":                always(client.LedgerRecords{Records: []client.LedgerRecord{{}}}),
		"GET /v1/ledger/verify":                 always(client.LedgerVerified{OK: true}),
		"GET /v1/manifests":                     always(client.Manifests{}),
		"GET /v1/ca":                            always(client.CAs{CAs: []client.CA{{}}}),
		"GET /v1/keys":                          always(client.KeyList{Keys: []client.Keys{someKeys}}),
		"GET /v1/keys/ca":                       always(someKeys),
		"GET /v1/keys/ca/history":               always(someHistory),
		"GET /v1/keys/ca/schedule":              always(client.KeySchedule{}),
		"POST /v1/keys/ca/rotate":               always(client.KeysChanged{Keys: someKeys}),
		"POST /v1/keys/ca/revoke":               always(client.KeysChanged{Keys: someKeys}),
		"GET /v1/manifests/trust":               always(client.ManifestTrust{}),
	})
	pointAt(t, f)
	headers := writeTemp(t, "h", "x-agent-id: a\n")
	operand := map[string]string{
		"peers remove": "n", "policy set": "max_skew_ms=5", "token revoke": "t",
		"agent show": "a", "agent approve": "a", "agent suspend": "a", "agent revoke": "a",
		"ledger account": "a", "ledger balance": "a", "ledger transfer": "a b 1", "ledger hold": "a b 1cr", "ledger post": "h --amount 1", "ledger void": "h", "ledger confirm": "a/01970000-0000-7000-8000-000000000000/" + strings.Repeat("0", 64), "ledger contributions": "a",
		"admit":     "--method POST --path /t --headers " + headers,
		"keys show": "ca", "keys history": "ca", "keys schedule": "ca", "keys rotate": "ca", "keys revoke": "ca 0011223344556677",
		"blacklist add": "a --reason x", "blacklist lift": "a --reason x", "blacklist show": "a",
	}
	for path := range leaves(testProgram().app().Commands, nil) {
		if jsonElsewhere[path] != "" {
			continue
		}
		args := append(strings.Fields(path+" "+operand[path]), "--format", "json")
		r := runArgs(t, "", args...)
		var doc any
		if err := json.Unmarshal([]byte(r.out), &doc); err != nil || r.status != exitDone {
			t.Errorf("%s: exit status %d, %v: %s%s\n(a new command needs its route and operands here, or a line in jsonElsewhere)", path, r.status, err, r.out, r.err)
		}
		checkNames(t, path, doc)
		before := f.count()
		if r := runArgs(t, "", append(args[:len(args)-1], "xml")...); r.status != exitUsage || f.count() != before {
			t.Errorf("%s --format xml: exit status %d, and the API was asked %d times", path, r.status, f.count()-before)
		}
	}
	for path := range jsonElsewhere {
		if leaves(testProgram().app().Commands, nil)[path] == nil {
			t.Errorf("there is no command %q any more", path)
		}
	}
}

// checkNames walks a document; the names of maps by agent are data.
func checkNames(t *testing.T, path string, doc any) {
	t.Helper()
	switch v := doc.(type) {
	case []any:
		for _, item := range v {
			checkNames(t, path, item)
		}
	case map[string]any:
		for name, item := range v {
			if !snakeCase.MatchString(name) {
				t.Errorf("%s: member %q is no snake_case", path, name)
			}
			if name != "overrides" && name != "agent_profiles" && name != "unsigned_agents" {
				checkNames(t, path, item)
			}
		}
	}
}
