package node

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// tableRow is a row of a table in a snapshot.
type tableRow[V any] struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value V
}

func unrow[V any](t *testing.T, row []byte) (r tableRow[V]) {
	t.Helper()
	if err := fsm.Decode(row, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func rowed[V any](t *testing.T, key string, v V) []byte {
	t.Helper()
	data, err := fsm.Encode(tableRow[V]{Key: []byte(key), Value: v})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// hostile writes a backup with other rows, and makes all its checksums right.
func (c *trio) hostile(path string, change func(field string, rows [][]byte) [][]byte) string {
	c.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	const magic = "edgecoder snapshot\n"
	rest := data[len(magic):]
	next := func() []byte {
		n, w := binary.Uvarint(rest)
		row := rest[w : w+int(n)]
		rest = rest[w+int(n):]
		return row
	}
	out := []byte(magic)
	add := func(row []byte) { out = append(binary.AppendUvarint(out, uint64(len(row))), row...) }
	header := next()
	var h struct {
		Version   int        `cbor:"1,keyasint"`
		ClusterID string     `cbor:"2,keyasint"`
		Epoch     uint64     `cbor:"3,keyasint"`
		Index     uint64     `cbor:"4,keyasint"`
		Fields    int        `cbor:"5,keyasint"`
		Totals    fsm.Totals `cbor:"6,keyasint,omitempty"`
	}
	if err := fsm.Decode(header, &h); err != nil {
		c.t.Fatal(err)
	}
	add(header)
	type title struct {
		_    struct{} `cbor:",toarray"`
		Name string
		Rows int
	}
	for range h.Fields {
		var f title
		if err := fsm.Decode(next(), &f); err != nil {
			c.t.Fatal(err)
		}
		var rows [][]byte
		for range f.Rows {
			rows = append(rows, next())
		}
		rows = change(f.Name, rows)
		f.Rows = len(rows)
		line, err := fsm.Encode(f)
		if err != nil {
			c.t.Fatal(err)
		}
		add(line)
		for _, r := range rows {
			add(r)
		}
	}
	end := bytes.Clone(next())
	history := rest[sha256.Size:]
	sealed := func() []byte {
		all := bytes.Clone(out)
		all = append(binary.AppendUvarint(all, uint64(len(end))), end...)
		sum := sha256.Sum256(all)
		return append(append(all, sum[:]...), history...)
	}
	if _, _, err := fsm.ReadSnapshot(bytes.NewReader(sealed())); err != nil {
		digest := regexp.MustCompile("digest is ([0-9a-f]{64})").FindStringSubmatch(err.Error())
		if digest == nil {
			c.t.Fatal(err)
		}
		sum, err := crypto.ParseHash(digest[1])
		if err != nil {
			c.t.Fatal(err)
		}
		copy(end[len(end)-len(sum):], sum[:])
	}
	if _, _, err := fsm.ReadSnapshot(bytes.NewReader(sealed())); err != nil {
		c.t.Fatalf("the checksums are not right: %v", err)
	}
	return c.write(sealed())
}

func (c *trio) write(data []byte) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "hostile.snapshot")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// in changes the rows of one field.
func in(field string, change func(rows [][]byte) [][]byte) func(string, [][]byte) [][]byte {
	return func(name string, rows [][]byte) [][]byte {
		if name == field {
			return change(rows)
		}
		return rows
	}
}

func (c *trio) banUntil(agent string, untilMs int64) {
	c.t.Helper()
	_, err := c.client(0, c.admin).Ban(c.t.Context(), client.BanRequest{AgentID: agent, ReasonCode: "manual_review", Reason: "some reason",
		EvidenceSHA256: strings.Repeat("ab", 32), ReporterID: "operator", ExpiresAtMs: untilMs})
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestBackupHostileRows: a file whose checksums are right and whose rows no
// cluster makes is refused by the verification and by the leader.
func TestBackupHostileRows(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.enroll(0, "honest")
	c.ban(0, "banned")
	c.banUntil("for two days", time.Now().Add(48*time.Hour).UnixMilli())
	soon := time.Now().Add(500 * time.Millisecond).UnixMilli()
	c.banUntil("for a moment", soon)
	c.eventually("the ban is over", func() (over bool) {
		c.setSkew(c.client(0, c.admin), 60_000) // each entry moves the clock
		c.nodes[0].machine.Read(func(s *fsm.State) { over = s.ClockMs() > soon })
		return over
	})
	path := c.save(0)
	drop := func(id string) func(string, [][]byte) [][]byte {
		return in("bans", func(rows [][]byte) (out [][]byte) {
			for _, r := range rows {
				if unrow[fsm.Ban](t, r).Value.AgentID != id {
					out = append(out, r)
				}
			}
			return out
		})
	}
	banned := func(change func(*tableRow[fsm.Ban])) func(string, [][]byte) [][]byte {
		return in("bans", func(rows [][]byte) (out [][]byte) {
			for _, r := range rows {
				b := unrow[fsm.Ban](t, r)
				if b.Value.AgentID == "banned" {
					change(&b)
				}
				out = append(out, rowed(t, string(b.Key), b.Value))
			}
			return out
		})
	}
	meta := func(change func(*fsm.Meta)) func(string, [][]byte) [][]byte {
		return in("meta", func(rows [][]byte) [][]byte {
			var m fsm.Meta
			if err := fsm.Decode(rows[0], &m); err != nil {
				t.Fatal(err)
			}
			change(&m)
			row, err := fsm.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{row}
		})
	}
	cl := c.client(0, c.admin)
	for name, k := range map[string]struct {
		change func(string, [][]byte) [][]byte
		says   string // "": it is sound
	}{
		"as it was":            {func(_ string, rows [][]byte) [][]byte { return rows }, ""},
		"an ended ban dropped": {drop("for a moment"), ""},
		"a ban dropped":        {drop("banned"), "bans agent"},
		"an open ban dropped":  {drop("for two days"), "bans agent"},
		"a ban of another":     {banned(func(b *tableRow[fsm.Ban]) { b.Key = []byte("zzz") }), "zzz"},
		"a ban of later":       {banned(func(b *tableRow[fsm.Ban]) { b.Value.TimestampMs++ }), "not what the chain says"},
		"a ban's other seq":    {banned(func(b *tableRow[fsm.Ban]) { b.Value.Seq++ }), "not what the chain says"},
		"all time closed":      {meta(func(m *fsm.Meta) { m.Closed = []fsm.TimeRange{{FromMs: 1, ToMs: 1 << 62}} }), "closed"},
		"a floor of never":     {meta(func(m *fsm.Meta) { m.NonceFloorMs = 1 << 62 }), "floor"},
		"a level agent": {in("agents", func(rows [][]byte) [][]byte {
			a := unrow[fsm.Agent](t, rows[0])
			a.Value.State = "root"
			return [][]byte{rowed(t, "honest", a.Value)}
		}), "root"},
	} {
		file := c.hostile(path, k.change)
		_, err := VerifyBackup(file, nil)
		_, planErr := cl.RestorePlan(t.Context(), c.open(file))
		if k.says == "" {
			if err != nil || planErr != nil {
				t.Errorf("%s: %v, %v", name, err, planErr)
			}
			continue
		}
		if !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), k.says) || code(planErr) != client.CodeInvalid {
			t.Errorf("%s: %v, %v", name, err, planErr)
		}
	}
	// What is closed for ever is bounded, and must be agreed to.
	day := 24 * time.Hour
	for from, good := range map[time.Duration]bool{-day: true, 10 * day: true, 400 * day: false} {
		to := time.Now().Add(30 * day).UnixMilli()
		if !good {
			to = fsm.MaxTimeMs
		}
		closed := c.hostile(path, meta(func(m *fsm.Meta) { m.Closed = []fsm.TimeRange{{FromMs: time.Now().Add(from).UnixMilli(), ToMs: to}} }))
		p, err := cl.RestorePlan(t.Context(), c.open(closed))
		if good && (err != nil || p.ClosedMs < (19*day).Milliseconds() || !p.Older || p.Forked) {
			t.Errorf("closed from %s on: %+v %v", from, p, err)
		}
		if !good && (code(err) != client.CodeConflict || !strings.Contains(err.Error(), "at most a year")) {
			t.Errorf("closed up to the end of time: %v", err)
		}
	}
	// A clock that runs ahead is the verifier's own business, not the leader's.
	ahead := c.hostile(path, meta(func(m *fsm.Meta) { m.ClockMs += 2 * 3_600_000 }))
	if _, err := VerifyBackup(ahead, nil); err != nil {
		t.Error(err)
	}
	if _, err := cl.RestorePlan(t.Context(), c.open(ahead)); code(err) != client.CodeInvalid || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a clock two hours ahead: %v", err)
	}
}

// settled waits until a new cluster has done what it does by itself: a backup of before
// differs from it, and what a restore does with keys depends on the level.
func (c *trio) settled() {
	c.t.Helper()
	c.eventually("the newest level, and keys on record", func() bool {
		level, _ := c.nodes[0].clusterLevel()
		return level == fsm.LevelSupported && !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero()
	})
}

// TestPlanShowsWhatOnlyTheBackupHas: agents and signing keys that this cluster
// never had make the backup no past of it.
func TestPlanShowsWhatOnlyTheBackupHas(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.settled()
	c.enroll(0, "honest")
	path := c.save(0)
	cl := c.client(0, c.admin)
	public := func() crypto.PublicKey {
		key, err := crypto.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return crypto.PublicOf(key)
	}
	agentKey, signingKey := public(), public()
	node := c.nodes[0].id.NodeID
	owner := func(k crypto.PublicKey, of string) []byte {
		ref := k.Fingerprint()
		return rowed(t, string(ref[:]), of)
	}
	added := func(name string, rows [][]byte) [][]byte {
		switch name {
		case "agents":
			return append(rows, rowed(t, "planted", fsm.Agent{ID: "planted", State: fsm.AgentActive, Keys: fsm.Ring{{Public: agentKey}}}))
		case "key_owners":
			return append(rows, owner(agentKey, "agent:planted"), owner(signingKey, "coordinator:"+node))
		case "signing_keys":
			return append(rows, rowed(t, signingKey.CoordinatorID(), fsm.SigningKey{Public: signingKey, NodeID: node, Since: 1, RetiredAt: 2}))
		}
		return rows
	}
	file := c.hostile(path, added)
	if _, err := VerifyBackup(file, nil); err != nil {
		t.Fatal(err)
	}
	plan, err := cl.RestorePlan(t.Context(), c.open(file))
	if err != nil {
		t.Fatal(err)
	}
	if plan.AgentsAdded != 1 || plan.AgentsAddedIDs[0] != "planted" || plan.KeysAdded != 1 || plan.KeysAddedList[0].PeerID != signingKey.CoordinatorID() || !plan.Forked || !plan.Older {
		t.Errorf("%+v", plan)
	}
	if _, err := cl.Restore(t.Context(), c.open(file), client.RestoreOrder{Confirm: plan.Confirm}); code(err) != client.CodeConflict {
		t.Errorf("without a word about it: %v", err)
	}
	sealed := func(enrolledMs int64) (client.RestorePlan, error) {
		return cl.RestorePlan(t.Context(), c.open(c.hostile(path, in("agents", func(rows [][]byte) [][]byte {
			a := unrow[fsm.Agent](t, rows[0])
			a.Value.EncryptionKey = bytes.Repeat([]byte{1}, 32)
			a.Value.EnrolledMs += enrolledMs
			return [][]byte{rowed(t, "honest", a.Value)}
		}))))
	}
	if plan, err = sealed(0); err != nil || plan.AgentsChanged != 0 {
		t.Errorf("another encryption key of an agent, which keeps the one that it has: %+v %v", plan, err)
	}
	if plan, err = sealed(-1); err != nil || plan.AgentsChanged != 1 || !plan.AgentsList[0].NewKeys || !plan.Older {
		t.Errorf("another encryption key of an agent of that name that was enrolled at another time: %+v %v", plan, err)
	}
}

// Removed nodes stay so for ever: a plan shows those that only the backup has.
func TestPlanShowsNodesThatOnlyTheBackupRemoved(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.settled()
	c.eventually("the young cluster has its cosigner set", func() bool { return c.nodes[0].epochNow().set.Version > 0 })
	path := c.save(0)
	cl := c.client(0, c.admin)
	plan, err := cl.RestorePlan(t.Context(), c.open(path))
	if err != nil || plan.GoneAdded != 0 || plan.Older {
		t.Errorf("as it was: %+v %v", plan, err)
	}
	file := c.hostile(path, in("removed", func(rows [][]byte) [][]byte {
		return append(rows, rowed(t, "planted", fsm.Removal{ID: "planted", Name: "planted"}))
	}))
	planted, err := cl.RestorePlan(t.Context(), c.open(file))
	if err != nil || planted.GoneAdded != 1 || planted.GoneAddedIDs[0] != "planted" || !planted.Forked || !planted.Older || !strings.Contains(lossText(planted), "1 removed nodes") {
		t.Errorf("%+v %v", planted, err)
	}
	for gone, older := range map[int]bool{0: false, maxGoneOfAnother: false, maxGoneOfAnother + 1: true} {
		if olderThan(client.RestorePlan{OtherCluster: true, GoneAdded: gone}) != older {
			t.Errorf("%d of another cluster", gone)
		}
	}
}

// TestPlanHoldsTheAdminHistoryAgainstOurs: it is not signed, so what differs
// counts as lost from there on.
func TestPlanHoldsTheAdminHistoryAgainstOurs(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.enroll(0, "honest")
	c.eventually("the young cluster has its cosigner set", func() bool { return c.nodes[0].epochNow().set.Version > 0 })
	path := c.save(0)
	cl := c.client(0, c.admin)
	rewritten := func(change func(fsm.Record) []byte) string {
		return c.write(c.forged(path, func(r fsm.Record) fsm.Record {
			if r.Stream == fsm.StreamAdmin {
				r.Data = change(r)
			}
			return r
		}))
	}
	same, err := cl.RestorePlan(t.Context(), c.open(path))
	if err != nil || same.RecordsLost != 0 || same.Forked {
		t.Errorf("as it was: %+v %v", same, err)
	}
	renamed := rewritten(func(r fsm.Record) []byte { return bytes.ReplaceAll(r.Data, []byte("honest"), []byte("HONEST")) })
	plan, err := cl.RestorePlan(t.Context(), c.open(renamed))
	if err != nil || plan.RecordsLost == 0 || !plan.Forked || !plan.Older {
		t.Errorf("another name: %+v %v", plan, err)
	}
	for name, change := range map[string]func(fsm.Record) []byte{
		"no record":    func(fsm.Record) []byte { return []byte("not cbor at all \x1b[2J") },
		"bytes behind": func(r fsm.Record) []byte { return append(bytes.Clone(r.Data), 0) },
		"of another time": func(r fsm.Record) []byte {
			var rec fsm.AdminRecord
			if err := fsm.Decode(r.Data, &rec); err != nil {
				t.Fatal(err)
			}
			if r.Seq == 1 {
				rec.AtMs += 86_400_000
			}
			data, err := fsm.Encode(rec)
			if err != nil {
				t.Fatal(err)
			}
			return data
		},
	} {
		file := rewritten(change)
		if _, err := VerifyBackup(file, nil); !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "administrative record") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := cl.RestorePlan(t.Context(), c.open(file)); code(err) != client.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
