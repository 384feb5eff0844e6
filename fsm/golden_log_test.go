package fsm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// goldenEntry is an entry of a stored log and all that came of it, as the binary
// that wrote it saw it.
type goldenEntry struct {
	Data    string `json:"data"`    // hex of the entry
	Result  string `json:"result"`  // hex of the CBOR of the Result, as it travels between nodes
	Records string `json:"records"` // SHA-256 of the CBOR of the history records
	Digest  string `json:"digest"`  // of the state after it
}

func goldenLogPath(level uint32) string { return fmt.Sprintf("testdata/log.level%d.jsonl.gz", level) }

func goldenLogSnapshot(level uint32) string {
	return fmt.Sprintf("testdata/log.level%d.snapshot", level)
}

func goldenEntryOf(t rapid.TB, l logged) goldenEntry {
	t.Helper()
	res, err := Encode(l.res)
	if err != nil {
		t.Fatal(err)
	}
	records, err := Encode(l.records)
	if err != nil {
		t.Fatal(err)
	}
	return goldenEntry{Data: hex.EncodeToString(l.data), Result: hex.EncodeToString(res), Records: crypto.Sum(records).String(), Digest: l.digest.String()}
}

// writeGoldenLog stores a scene for ever.
func writeGoldenLog(t rapid.TB, level uint32, w *world) {
	t.Helper()
	var text bytes.Buffer
	z := gzip.NewWriter(&text)
	for _, l := range w.log {
		if err := json.NewEncoder(z).Encode(goldenEntryOf(t, l)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	writeGolden(t, goldenLogPath(level), text.Bytes())
	writeGolden(t, goldenLogSnapshot(level), snapshotOf(t, w.s, w.history))
}

func readGoldenLog(t rapid.TB, level uint32) (out []goldenEntry) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(readGolden(t, goldenLogPath(level))))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e goldenEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoldenLogs: what binaries of every feature level logged is answered today
// as it was answered then, entry by entry, and leads to the state and the
// history that it led to. Whoever replays an old log beside an old binary, or
// long after, agrees with it.
func TestGoldenLogs(t *testing.T) {
	t.Parallel()
	for level := range goldenLevels() {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i, e := range readGoldenLog(t, level) {
				w.applyGolden(i, e)
			}
			golden := readGolden(t, goldenLogSnapshot(level))
			if !bytes.Equal(snapshotOf(t, w.s, w.history), golden) {
				t.Error("the log leads to another snapshot than it did")
			}
			s, records := restored(t, golden)
			if s.Digest() != w.s.Digest() || !bytes.Equal(snapshotOf(t, s, historyOf(t, records)), golden) {
				t.Error("the snapshot stored then does not read as what the log leads to")
			}
		})
	}
}

func (w *world) applyGolden(i int, e goldenEntry) {
	w.t.Helper()
	data, err := hex.DecodeString(e.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd, err := DecodeCommand(data)
	if err != nil {
		w.t.Fatalf("entry %d: %v", i, err)
	}
	w.apply(cmd)
	l := w.log[len(w.log)-1]
	if got := goldenEntryOf(w.t, l); got != e {
		w.t.Fatalf("entry %d, kind %d: now\n%+v\n(%+v), then\n%+v", i, cmd.Kind, got, l.res, e)
	}
}

// The scenes still make the stored logs, so a proposal of today in a cluster of
// then has the bytes of then.
func TestGoldenScenes(t *testing.T) {
	t.Parallel()
	kinds := map[Kind]bool{}
	for level, scene := range goldenLevels() {
		w := scene(t)
		for _, l := range w.log {
			kinds[l.cmd.Kind] = true
		}
		if *update && level >= unreleasedGolden {
			writeGoldenLog(t, level, w)
		}
		stored := readGoldenLog(t, level)
		if len(stored) != len(w.log) {
			t.Errorf("level %d: %d entries, %d are stored", level, len(w.log), len(stored))
			continue
		}
		for i, e := range stored {
			if e != goldenEntryOf(t, w.log[i]) {
				t.Errorf("level %d, entry %d, kind %d: not as it is stored", level, i, w.log[i].cmd.Kind)
			}
		}
	}
	if len(kinds) != len(tenants) {
		t.Errorf("the stored logs have commands of %d kinds, there are %d", len(kinds), len(tenants))
	}
}
