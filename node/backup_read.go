package node

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// BackupInfo describes a backup.
type BackupInfo struct {
	Format       int            `json:"format"` // version of the file format
	ClusterID    string         `json:"cluster_id"`
	Epoch        uint64         `json:"epoch"`
	Index        uint64         `json:"index"` // log index that it reflects
	ClockMs      int64          `json:"clock_ms"`
	FeatureLevel uint32         `json:"feature_level"`
	ChainHead    string         `json:"chain_head"`
	ChainSize    uint64         `json:"chain_size"`    // events
	AdminRecords uint64         `json:"admin_records"` // of the history of administrative actions
	LedgerSize   uint64         `json:"ledger_size"`   // records of the ledger
	LedgerHead   string         `json:"ledger_head,omitempty"`
	Tables       map[string]int `json:"tables"` // rows of each field of the state
	Bytes        int64          `json:"bytes"`
	HistoryBytes int64          `json:"history_bytes"` // of Bytes; 0: format 1, which does not tell
	StateDigest  string         `json:"state_digest"`
	SHA256       string         `json:"sha256"` // of the file
}

// FileName is how a file with it is called when nobody says otherwise.
func (b BackupInfo) FileName() string { return backupName(b.ClusterID, b.Epoch, b.Index) }

// BackupReport is what a verification found.
type BackupReport struct {
	BackupInfo
	Events   uint64             `json:"events_verified"` // good events, from the first on
	Unproven int                `json:"unproven"`        // of them, whose reporter's signature was taken out or is wrong
	Keys     map[string]string  `json:"-"`               // PEM of the keys in the backup by coordinator id
	Fault    *crypto.ChainError `json:"-"`               // of the chain, when that is the fault

	LedgerRecords uint64              `json:"ledger_records_verified"` // good ones, from the first on
	LedgerFault   *ledger.RecordError `json:"-"`                       // of the ledger, when that is the fault
}

// ErrBackup is wrapped by everything that is wrong with a backup itself.
var ErrBackup = errors.New("not a sound backup")

// Progress is told from time to time how many events of the chain were read.
type Progress func(events, of uint64)

// InspectBackup reads a backup file to its end and holds it against its
// checksums. Errors about the contents wrap ErrBackup.
func InspectBackup(path string) (BackupInfo, error) {
	r, err := readBackupFile(path, nil, nil)
	return r.BackupInfo, err
}

// VerifyBackup is InspectBackup that also holds each row of the state to the
// rules of the cluster, and walks the history: that administrative records are
// such, and the chain: links, hashes, each
// coordinator's signature by the keys in the state, the reporters' where they
// are there, and that the bans in force follow from it; and the ledger: all its
// rules, and that the balances follow from its records. On a fault the report
// says how far it came. The keys are the file's own: whether they are the
// cluster's is for the caller.
func VerifyBackup(path string, progress Progress) (BackupReport, error) {
	walk := &chainWalk{progress: progress}
	r, err := readBackupFile(path, walk, nil)
	report := BackupReport{BackupInfo: r.BackupInfo, Keys: map[string]string{}}
	if walk.chain != nil {
		report.Events, report.Unproven = uint64(walk.chain.Size()), walk.chain.Unproven()
		for id, key := range walk.keys {
			report.Keys[id] = key.PEM()
		}
	}
	if walk.ledger != nil {
		report.LedgerRecords = walk.ledger.Seq()
	}
	errors.As(err, &report.Fault)
	errors.As(err, &report.LedgerFault)
	return report, err
}

// readBackup is what came out of a backup.
type readBackup struct {
	BackupInfo
	state *fsm.State
}

func readBackupFile(path string, walk *chainWalk, keep func(fsm.Record) error) (readBackup, error) {
	f, err := os.Open(path)
	if err != nil {
		return readBackup{}, err
	}
	defer f.Close()
	return loadBackup(f, walk, keep)
}

// loadBackup reads a backup to its end. The walk may be nil, and so may keep,
// which gets each record of the history; they have seen records before a fault
// is found behind those.
func loadBackup(in io.Reader, walk *chainWalk, keep func(fsm.Record) error) (readBackup, error) {
	sum := sha256.New()
	count := &counted{in: io.TeeReader(in, sum)}
	state, history, err := fsm.ReadSnapshot(count)
	if err != nil {
		return readBackup{}, badBackup(err)
	}
	out := readBackup{BackupInfo: infoOf(state), state: state}
	if !fileSafe(out.ClusterID) {
		return out, badBackup(fmt.Errorf("%q is no cluster id: it may have only letters, digits, dots, dashes and underlines", out.ClusterID))
	}
	if history.MustRead() {
		out.Format = 1
	}
	present, err := history.Present()
	if err != nil {
		return out, badBackup(err)
	}
	if !present {
		return out, badBackup(errors.New("its history is missing: it is a node's own snapshot, or it broke off; take another with `edgecoder snapshot save`"))
	}
	if walk != nil {
		if err := state.Validate(walk.wallMs); err != nil {
			return out, badBackup(err)
		}
		walk.begin(state)
	}
	var frames int64
	for r, err := range history.Records() {
		if err != nil {
			return out, badBackup(err)
		}
		frames += fsm.FrameSize(r)
		if walk != nil {
			if err := walk.next(r); err != nil {
				return out, badBackup(err)
			}
		}
		if keep != nil {
			if err := keep(r); err != nil {
				return out, err
			}
		}
	}
	if walk != nil {
		if err := walk.end(state); err != nil {
			return out, badBackup(err)
		}
	}
	out.Bytes, out.SHA256 = count.n, fmt.Sprintf("%x", sum.Sum(nil))
	if out.Format > 1 {
		out.HistoryBytes = fsm.HistorySize(history.Totals(), frames)
	}
	return out, nil
}

// fileSafe tells whether a cluster id can be part of a file's name wherever the
// file is put. Those that clusters choose are 32 hex digits.
func fileSafe(id string) bool {
	return id != "" && len(id) <= crypto.MaxIDBytes && id[0] != '.' && strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == ""
}

func badBackup(err error) error { return fmt.Errorf("%w: %w", ErrBackup, err) }

func infoOf(s *fsm.State) BackupInfo {
	m := s.Meta()
	book, open := s.LedgerBook()
	info := BackupInfo{Format: s.SnapshotVersion(), ClusterID: m.ClusterID, Epoch: m.Epoch, Index: m.Index, ClockMs: m.ClockMs, FeatureLevel: m.Level,
		ChainHead: m.ChainHead, ChainSize: m.ChainSize, AdminRecords: m.AdminSize, Tables: s.Sizes(), StateDigest: s.Digest().String(), LedgerSize: book.Size}
	if open {
		info.LedgerHead = book.Head.String()
	}
	return info
}

// counted counts what is read. The snapshot reader reads to the end of its
// input, so all of it is counted.
type counted struct {
	in io.Reader
	n  int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n += int64(n)
	return n, err
}

// progressEvery is how many events are walked between two words about it.
const progressEvery = 10_000

// chainWalk holds the state of a backup to its rules, and the events against the
// keys, the head and the bans of the state.
type chainWalk struct {
	progress Progress
	wallMs   int64 // the time here, which the backup's clock must not be far ahead of; 0: not known
	of       uint64
	keys     map[string]crypto.PublicKey
	chain    *crypto.ChainVerifier
	adminMs  int64             // of the last administrative record
	latestMs int64             // the latest that the clock was at, as far as the records tell
	bans     map[string]banned // the newest ban on each agent that was not lifted, but for those that settled says
	state    *fsm.State
	ledger   *ledger.Verifier // nil where the state has no ledger
}

const actionRecoverClock = "recover_clock" // of the admin record

// banned is a ban as the chain says it.
type banned struct {
	hash          crypto.Hash
	event, reason string
	seq           uint64
	since, until  int64 // until 0: for ever
}

func (b banned) is(have fsm.Ban) bool {
	return b == banned{hash: have.EventHash, event: have.EventID, reason: have.ReasonCode, seq: have.Seq, since: have.TimestampMs, until: have.ExpiresMs}
}

func (w *chainWalk) begin(s *fsm.State) {
	w.keys, w.bans, w.state = map[string]crypto.PublicKey{}, map[string]banned{}, s
	for _, k := range s.SigningKeys() {
		w.keys[k.Public.CoordinatorID()] = k.Public
	}
	w.chain = crypto.NewChainVerifier(w.keys)
	w.chain.CountWrongReporters()
	_, w.of = s.Chain()
	if book, open := s.LedgerBook(); open {
		w.ledger = ledger.NewVerifier(book.Origin)
	}
}

func (w *chainWalk) next(r fsm.Record) error {
	switch r.Stream {
	case fsm.StreamAdmin:
		return w.admin(r)
	case fsm.StreamLedger:
		if w.ledger == nil {
			return errors.New("it has records of a ledger, and its state has none")
		}
		return w.ledger.Add(r.Data)
	case fsm.StreamBlacklist:
	default:
		return nil
	}
	e, err := crypto.ParseBlacklistEvent(r.Data)
	if err != nil {
		return fmt.Errorf("event %d of the chain: %w", r.Seq, err)
	}
	if err := w.chain.Add(e); err != nil {
		return err
	}
	if err := w.follow(r.Seq, &e); err != nil {
		return fmt.Errorf("event %d of the chain: %w", r.Seq, err)
	}
	if w.progress != nil && r.Seq%progressEvery == 0 {
		w.progress(r.Seq, w.of)
	}
	return nil
}

// follow enforces an event as the state machine does. A lift names the ban that
// it ends, and expired before it began. What is kept is cut out of the event's
// text, or that would stay in memory with it.
func (w *chainWalk) follow(seq uint64, e *crypto.BlacklistEvent) error {
	hash, err := crypto.ParseHash(e.EventHash)
	if err != nil {
		return err
	}
	was, ok := w.bans[e.AgentID]
	if ok && e.EvidenceHashSHA256 == was.hash.String() && e.ExpiresAtMs != nil && *e.ExpiresAtMs < e.TimestampMs {
		delete(w.bans, e.AgentID)
		return nil
	}
	ban := banned{hash: hash, seq: seq, since: e.TimestampMs}
	if e.ExpiresAtMs != nil {
		ban.until = *e.ExpiresAtMs
	}
	if w.settled(e.AgentID, ban) {
		delete(w.bans, e.AgentID)
		return nil
	}
	ban.event, ban.reason = strings.Clone(e.EventID), strings.Clone(e.ReasonCode)
	w.bans[strings.Clone(e.AgentID)] = ban
	return nil
}

// settled tells whether a ban ended so long ago that nothing can come of it: the
// state has none on that agent, and needs to have none. So a history of bans
// that ended costs no memory. The margin is for the lift of one: it names a time
// up to the widest window ahead of its clock, and must not look like a ban itself.
func (w *chainWalk) settled(agent string, b banned) bool {
	_, has := w.state.Ban(agent, 0)
	return !has && b.until != 0 && b.until < w.state.ClockMs()-2*fsm.MaxSkewMs
}

// admin holds that a record is what the state machine writes. The clock runs
// back only in a recovery, so a file cannot claim in passing that it was late.
func (w *chainWalk) admin(r fsm.Record) error {
	var rec fsm.AdminRecord
	if err := fsm.Decode(r.Data, &rec); err != nil {
		return fmt.Errorf("administrative record %d: %w", r.Seq, err)
	}
	again, err := fsm.Encode(rec)
	if err != nil {
		return fmt.Errorf("administrative record %d: %w", r.Seq, err)
	}
	if !bytes.Equal(again, r.Data) || rec.Action == "" || rec.AtMs < 0 || rec.AtMs > fsm.MaxTimeMs {
		return fmt.Errorf("administrative record %d is none that a cluster writes", r.Seq)
	}
	if rec.AtMs < w.adminMs && rec.Action != actionRecoverClock && rec.Action != actionRestore {
		return fmt.Errorf("administrative record %d is of %d, the one before of %d", r.Seq, rec.AtMs, w.adminMs)
	}
	w.adminMs, w.latestMs = rec.AtMs, max(w.latestMs, rec.AtMs)
	if rec.Action == actionRecoverClock {
		var epoch uint64
		var was int64
		if n, _ := fmt.Sscanf(rec.Detail, "epoch=%d clock_ms=%d", &epoch, &was); n == 2 {
			w.latestMs = max(w.latestMs, was)
		}
	}
	return nil
}

// end holds the state against what the chain made of it. A ban that had an end
// may have been dropped after it, by a clock that was set back since, too.
func (w *chainWalk) end(s *fsm.State) error {
	if w.adminMs > s.ClockMs() {
		return fmt.Errorf("the last administrative record is of %d, the clock is at %d", w.adminMs, s.ClockMs())
	}
	w.latestMs = max(w.latestMs, s.ClockMs())
	if err := w.endLedger(s); err != nil {
		return err
	}
	head, _ := s.Chain()
	if err := w.chain.Finish(head); err != nil {
		return err
	}
	const page = 1000
	for after := ""; ; {
		rows := s.Bans(after, page, 0)
		for _, b := range rows {
			if have, ok := w.bans[b.AgentID]; !ok || !have.is(b) {
				return fmt.Errorf("the ban in force on agent %q (event %s) is not what the chain says of it", b.AgentID, b.EventID)
			}
			delete(w.bans, b.AgentID)
			after = b.AgentID
		}
		if len(rows) < page {
			break
		}
	}
	for agent, b := range w.bans {
		if b.until == 0 || b.until >= w.latestMs {
			return fmt.Errorf("the chain bans agent %q until %d (0: for ever), the state does not know of it", agent, b.until)
		}
	}
	return nil
}

// endLedger holds the ledger of the state against what its records come to.
func (w *chainWalk) endLedger(s *fsm.State) error {
	book, open := s.LedgerBook()
	if !open {
		return nil
	}
	if err := w.ledger.Finish(book.Size, book.Head); err != nil {
		return err
	}
	live := s.LedgerLive()
	live.Refuses = s.LedgerRefuses // nobody else has the state
	return w.ledger.Compare(live)
}
