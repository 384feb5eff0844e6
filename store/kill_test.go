package store

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// The test binary is also the process that is killed: with killDir set it
// writes to that directory until it dies, and says what was durable.
const killDir = "EDGECODER_KILL_DIR"

// TestKilledAtRandomMoments kills a writing process with SIGKILL, again and
// again on the same real files. Each time all entries that it called durable
// must be there, and history must be what they make. EDGECODER_KILLS says how often.
func TestKilledAtRandomMoments(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 5
	}
	if text := os.Getenv("EDGECODER_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, uint64(kills)))
	var durable uint64
	snapshots := 0
	for i := range kills {
		// By work done, not by time, so that a busy machine sees as much of it; then a little further, into whatever comes next.
		acked := killWriter(t, dir, 20+rng.IntN(120), time.Duration(rng.IntN(5000))*time.Microsecond)
		durable = max(durable, acked)
		snapshots += checkKilled(t, dir, durable)
		if t.Failed() {
			t.Fatalf("after kill %d of %d, %d entries durable", i+1, kills, durable)
		}
	}
	if durable < uint64(kills) || snapshots == 0 {
		t.Fatalf("%d entries, %d times with a snapshot: too little happened to mean anything", durable, snapshots)
	}
	t.Logf("%d kills, %d entries, %d times with a snapshot", kills, durable, snapshots)
}

// killWriter starts a writer, kills it a moment after it made so many entries
// durable, and returns the last that it said is.
func killWriter(t *testing.T, dir string, entries int, moment time.Duration) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text, found := strings.CutPrefix(lines.Text(), "durable ")
		n, err := strconv.ParseUint(text, 10, 64)
		if !found || err != nil {
			t.Errorf("the writer said %q", lines.Text())
			continue
		}
		acked = n
		if entries--; entries == 0 {
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // it was killed
	if stderr.Len() > 0 {
		t.Errorf("the writer ended by itself: %s", stderr.String())
	}
	return acked
}

// checkKilled opens what a killed writer left and plays it.
func checkKilled(t *testing.T, dir string, durable uint64) (snapshots int) {
	t.Helper()
	w, err := openWriter(dir)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer w.s.Close()
	if w.index < durable {
		t.Errorf("the log ends at %d, %d was durable", w.index, durable)
	}
	metas, err := w.s.Snapshots.List()
	if err != nil {
		t.Error(err)
	}
	_, have := w.s.History.Totals()
	var want fsm.Totals
	w.machine.Read(func(s *fsm.State) { want = s.Totals() })
	if !have.Cover(want) || !want.Cover(have) {
		t.Errorf("history has %v, the state %v", have, want)
	}
	return len(metas)
}

// writerNode is a node without raft: entries go to the log, then to the machine.
type writerNode struct {
	s       *Store
	machine *fsm.Machine
	index   uint64
}

func openWriter(dir string) (*writerNode, error) {
	s, err := Open(dir, rigOptions())
	if err != nil {
		return nil, err
	}
	w := &writerNode{s: s, machine: fsm.NewMachine(s.History, nil)}
	if err := w.replay(); err != nil {
		return nil, fmt.Errorf("%w (%v)", err, s.Close())
	}
	return w, nil
}

func (w *writerNode) replay() error {
	metas, err := w.s.Snapshots.List()
	if err != nil {
		return err
	}
	if len(metas) > 0 {
		_, in, err := w.s.Snapshots.Open(metas[0].ID)
		if err != nil {
			return err
		}
		if err := w.machine.Restore(in); err != nil {
			return err
		}
		w.index = metas[0].Index
	}
	last, err := w.s.Logs.LastIndex()
	if err != nil {
		return err
	}
	for ; w.index < last; w.index++ {
		var l raft.Log
		if err := w.s.Logs.GetLog(w.index+1, &l); err != nil {
			return err
		}
		w.machine.Apply(&l)
	}
	return nil
}

// writeUntilKilled appends entries, takes snapshots and truncates the log, and
// writes the index of each durable entry to its standard output.
func writeUntilKilled(dir string) error {
	w, err := openWriter(dir)
	if err != nil {
		return err
	}
	for {
		body, actor := any(fsm.TokenCreate{ID: fmt.Sprint("t", w.index), Role: fsm.RoleViewer, Uses: -1}), fsm.Actor{TokenID: "admin"}
		if w.index == 0 {
			body, actor = rigGenesis(), fsm.Actor{}
		}
		l, err := logOf(w.index+1, 1, actor, body)
		if err != nil {
			return err
		}
		if err := w.s.Logs.StoreLogs([]*raft.Log{l}); err != nil {
			return err
		}
		w.index++
		if _, err := fmt.Printf("durable %d\n", w.index); err != nil {
			return err
		}
		w.machine.Apply(l)
		if w.index%50 == 0 {
			if err := w.snapshot(); err != nil {
				return err
			}
		}
	}
}

func (w *writerNode) snapshot() error {
	snapshot, err := w.machine.Snapshot()
	if err != nil {
		return err
	}
	sink, err := w.s.Snapshots.Create(1, w.index, 1, raft.Configuration{Servers: []raft.Server{{ID: "n0", Address: "n0"}}}, 1, noTransport())
	if err != nil {
		return err
	}
	if err := snapshot.Persist(sink); err != nil {
		return err
	}
	if w.index <= 100 {
		return nil
	}
	first, err := w.s.Logs.FirstIndex()
	if err != nil {
		return err
	}
	return w.s.Logs.DeleteRange(first, w.index-100)
}
