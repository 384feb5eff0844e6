package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// sampleWorld has a row in every field and records in every stream.
func sampleWorld(t testing.TB) *world {
	w := level8SampleWorld(t)
	w.withKeyRows()
	for label, n := range w.s.Sizes() {
		if n == 0 {
			t.Fatalf("the sample has no row in %s", label)
		}
	}
	return w
}

// level8SampleWorld is the sample that the stored snapshot of level 8 was made of.
func level8SampleWorld(t testing.TB) *world {
	w := level5SampleWorld(t)
	w.s.meta.v.Level = LevelCheckpoints
	w.openLedger("a", "b")
	w.wantEntry(w.entry(w.holdOf("a", "b", 500, 60_000)), CodeOK)
	work := w.workOf("a", 1_000)
	w.report(work, w.workOf("b", 2_000))
	w.wantEntry(w.confirm(operator, work.Report.ID)[0], CodeOK)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n2")}))
	return w
}

// level5SampleWorld is the sample that the stored snapshot of level 5 was made of.
func level5SampleWorld(t testing.TB) *world {
	w := level3SampleWorld(t)
	w.s.meta.v.Level = LevelClients
	w.must(w.do(Actor{NodeID: "n0"}, AdmitBatch{Callers: []string{SelfCaller}, Claims: []Claim{claimOf("b", "of its own", w.wallMs, "")}}))
	w.tellHeads(AuditReport{NodeID: "n0", Head: placeOf(7, "seven")}, AuditReport{NodeID: "n2", Head: placeOf(9, "nine")})
	w.tellHeads(AuditReport{NodeID: "n0", After: placeOf(7, "seven"), Lost: true, Head: placeOf(2, "two")})
	return w
}

// level3SampleWorld is the sample that the stored snapshot of level 3 was made of.
func level3SampleWorld(t testing.TB) *world {
	w := firstSampleWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator)}))
	w.must(w.do(Actor{}, Tick{Term: w.term, Round: &Round{Mark: w.s.Marks()[0].Index, Voters: 1,
		Reports: []Report{{NodeID: "n0", Votes: true, Digest: crypto.Hash{1}}, {NodeID: "n2", Digest: crypto.Hash{2}}}}}))
	w.must(w.trust(trustOf(1, "a", "b")))
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "1.4.2", "x"), "a")))
	return w
}

// firstSampleWorld is the sample that the stored snapshot of format version 1
// was made of; fields that came later have no rows in it.
func firstSampleWorld(t testing.TB) *world {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	w.must(w.doAt(w.wallMs, admin, &Idempotency{Key: crypto.Hash{1}}, TokenCreate{ID: "t", Role: RoleViewer, Uses: 3, ExpiresMs: w.wallMs + 5, Label: "x"}))
	w.must(w.do(operator, w.banOf("x", "e1", "n0", nil)))
	expires := w.wallMs + 100_000
	w.must(w.do(operator, w.banOf("y", "e2", "n0", &expires)))
	w.admit(claimOf("a", "n1", w.wallMs, "c1"), claimOf("a", "n2", w.wallMs+5_000, ""), claimOf("b", "n1", w.wallMs-5_000, "c2"))
	w.pass(5_000)
	w.mark()
	w.admit(claimOf("a", "n3", w.wallMs, "c3"))
	return w
}

func TestSnapshotRoundTrip(t *testing.T) {
	w := sampleWorld(t)
	data := snapshotOf(t, w.s, w.history)
	back, records := restored(t, data)
	if back.Digest() != w.s.Digest() || back.FullDigest() != w.s.Digest() {
		t.Error("the digests differ")
	}
	if again := snapshotOf(t, back, historyOf(t, records)); !bytes.Equal(again, data) {
		t.Error("a snapshot of what was restored has other bytes")
	}
	if back.Index() != w.index || !slices.Equal(back.Marks(), w.s.Marks()) || back.ClockMs() != w.s.ClockMs() {
		t.Error("index, clock or marks differ")
	}
	verifyChain(t, back, historyOf(t, records), 2)
}

// A local snapshot ends after the live part; what it announces as the size of
// its history is what is written.
func TestSnapshotParts(t *testing.T) {
	w := sampleWorld(t)
	f := w.s.Freeze()
	var live, history bytes.Buffer
	if err := errors.Join(f.Write(&live), WriteHistory(&history, f.Totals(), w.history.UpTo(f.Totals()))); err != nil {
		t.Fatal(err)
	}
	var frames int64
	for r := range w.history.UpTo(f.Totals()) {
		frames += FrameSize(r)
	}
	if got := HistorySize(f.Totals(), frames); got != int64(history.Len()) {
		t.Errorf("%d bytes of history announced, %d written", got, history.Len())
	}
	s, rest, err := ReadSnapshot(bytes.NewReader(live.Bytes()))
	if err != nil || s.Digest() != w.s.Digest() {
		t.Fatalf("the live part alone: %v", err)
	}
	if present, err := rest.Present(); present || err != nil {
		t.Errorf("a history was seen behind the live part: %t, %v", present, err)
	}
	for _, whole := range []bool{false, true} {
		data := live.Bytes()
		if whole {
			data = slices.Concat(data, history.Bytes())
		}
		info, err := ScanSnapshot(bytes.NewReader(data))
		if err != nil || info.LiveBytes != int64(live.Len()) || info.LiveBytes+info.HistoryBytes != int64(len(data)) || info.Index != w.index || info.Digest != w.s.Digest() {
			t.Errorf("scanned as %+v, %v", info, err)
		}
	}
}

// flip a bit of each byte in turn: each is refused, none changes the state silently.
func TestSnapshotEveryFlippedByteRefused(t *testing.T) {
	w := sampleWorld(t)
	data := snapshotOf(t, w.s, w.history)
	for i := range data {
		damaged := slices.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		refuseSnapshot(t, fmt.Sprintf("bit %d of byte %d flipped", i%8, i), damaged)
	}
}

func TestSnapshotEveryTruncationRefused(t *testing.T) {
	w := sampleWorld(t)
	data := snapshotOf(t, w.s, w.history)
	info, err := ScanSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		if int64(i) == info.LiveBytes {
			continue // a local snapshot, whose history lies elsewhere
		}
		refuseSnapshot(t, fmt.Sprintf("cut to %d of %d bytes", i, len(data)), data[:i])
	}
	refuseSnapshot(t, "a byte follows", append(slices.Clone(data), 0))
	refuseSnapshot(t, "another snapshot follows", append(slices.Clone(data), data...))
}

func refuseSnapshot(t *testing.T, what string, data []byte) {
	t.Helper()
	s, _, err := LoadSnapshot(bytes.NewReader(data), func(Record) error { return nil })
	if err == nil || s != nil || !errors.Is(err, ErrSnapshot) {
		t.Errorf("%s: %v", what, err)
	}
}

// parts is a snapshot taken apart: its frames can be changed and sealed again,
// which shows the checks behind the checksum.
type parts struct {
	header  snapshotHeader
	fields  []part
	end     liveEnd
	totals  Totals
	history []Record
}

type part struct {
	name string
	rows [][]byte
}

func takeApart(t testing.TB, w *world) *parts {
	t.Helper()
	f := w.s.Freeze()
	p := &parts{header: f.header, end: liveEnd{Digest: f.digest}, totals: f.Totals()}
	p.header.Totals = maps.Clone(p.totals)
	for i, z := range f.fields {
		field := part{name: f.titles[i].Name}
		for row, err := range z.rows() {
			if err != nil {
				t.Fatal(err)
			}
			field.rows = append(field.rows, row)
		}
		p.fields = append(p.fields, field)
	}
	for r := range w.history.UpTo(p.totals) {
		p.history = append(p.history, r)
	}
	return p
}

func (p *parts) sealed(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := newFrameWriter(&buf)
	w.raw([]byte(snapshotMagic))
	w.value(p.header)
	for _, f := range p.fields {
		w.value(fieldTitle{Name: f.name, Rows: len(f.rows)})
		for _, row := range f.rows {
			w.frame(row)
		}
	}
	w.value(p.end)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	w = newFrameWriter(&buf)
	w.value(historyTitle{Name: historyName, Totals: p.totals})
	for _, r := range p.history {
		w.value(r)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (p *parts) field(name string) *part {
	for i := range p.fields {
		if p.fields[i].name == name {
			return &p.fields[i]
		}
	}
	panic("no field " + name)
}

func TestSnapshotSealedAnewIsStillChecked(t *testing.T) {
	w := sampleWorld(t)
	if data := takeApart(t, w).sealed(t); !bytes.Equal(data, snapshotOf(t, w.s, w.history)) {
		t.Fatal("taking apart and sealing is not the identity")
	}
	lose := func(name string) func(*parts) {
		return func(p *parts) { f := p.field(name); f.rows = f.rows[1:] }
	}
	twice := func(name string) func(*parts) {
		return func(p *parts) { f := p.field(name); f.rows = append(f.rows, f.rows[0]) }
	}
	cases := map[string]func(*parts){
		"newer version":        func(p *parts) { p.header.Version = snapshotVersion + 1 },
		"another cluster":      func(p *parts) { p.header.ClusterID = "ff" },
		"another epoch":        func(p *parts) { p.header.Epoch++ },
		"another index":        func(p *parts) { p.header.Index++ },
		"fewer fields":         func(p *parts) { p.header.Fields-- },
		"more fields":          func(p *parts) { p.header.Fields++ },
		"no fields":            func(p *parts) { p.header.Fields = -1; p.fields = nil },
		"unknown field":        func(p *parts) { p.fields = append(p.fields, part{name: "future"}); p.header.Fields++ },
		"a field twice":        func(p *parts) { p.fields = append(p.fields, part{name: "bans"}); p.header.Fields++ },
		"digest of another":    func(p *parts) { p.end.Digest[0]++ },
		"other totals":         func(p *parts) { p.header.Totals[StreamAdmin]-- },
		"history of others":    func(p *parts) { p.totals[StreamAdmin]-- },
		"history without last": func(p *parts) { p.history = p.history[:len(p.history)-1] },
		"history with a gap":   func(p *parts) { p.history = slices.Delete(p.history, 0, 1) },
		"history twice":        func(p *parts) { p.history = append(p.history, p.history[0]) },
		"history of later":     func(p *parts) { p.history[len(p.history)-1].Index = p.header.Index + 1 },
		"history unordered":    func(p *parts) { p.history[1].Index = 0 },
		"history of another chain": func(p *parts) {
			n := int(p.totals[StreamBlacklist])
			p.history[n-1].Data, p.history[n-2].Data = p.history[n-2].Data, p.history[n-1].Data
		},
		"no history":     func(p *parts) { p.history, p.totals = nil, nil },
		"unknown stream": func(p *parts) { p.history[len(p.history)-1].Stream = 9 },
		"two policies":   twice("policy"),
		"no policy":      lose("policy"),
		"no meta":        lose("meta"),
		"a ban lost":     lose("bans"),
		"a nonce lost":   lose("nonces"),
		"a window lost":  lose("rate_windows"),
		"a removal lost": lose("removed"),
		"a nonce twice":  twice("nonces"),
		"a ban twice":    twice("bans"),
		"a window twice": twice("rate_windows"),
		"a nonce cut":    func(p *parts) { f := p.field("nonces"); f.rows[0] = f.rows[0][1:] },
		"a claim id twice": func(p *parts) {
			f := p.field("nonces")
			row := slices.Clone(f.rows[0])
			row[8] ^= 1 // another nonce under the same claim id
			f.rows = append(f.rows, row)
		},
		"a row with more members": func(p *parts) { f := p.field("policy"); f.rows[0] = slices.Concat(f.rows[0], []byte{0}) },
	}
	for name, change := range cases {
		p := takeApart(t, w)
		change(p)
		refuseSnapshot(t, name, p.sealed(t))
	}
}

// A snapshot of an older binary has no rows of a field it did not know: the
// newer one reads it, and both have the same digest.
func TestSnapshotMissingNewerFieldTolerated(t *testing.T) {
	w := genesisWorld(t)
	p := takeApart(t, w)
	f := p.field("removed")
	if len(f.rows) != 0 {
		t.Fatal("the field is not empty")
	}
	p.fields = slices.DeleteFunc(p.fields, func(f part) bool { return f.name == "removed" })
	p.header.Fields--
	// What a binary without the field would say of itself.
	h := sha256.New()
	for _, f := range w.s.fields() {
		if f.label() != "removed" && f.size() > 0 {
			fmt.Fprintf(h, "%s %d\n", f.label(), f.size())
			h.Write(f.recompute().bytes())
		}
	}
	p.end.Digest = crypto.Hash(h.Sum(nil))
	back, _ := restored(t, p.sealed(t))
	if back.Digest() != p.end.Digest || w.s.Digest() != p.end.Digest {
		t.Error("the digests differ")
	}
}

func TestSnapshotFrameLengthsAreBounded(t *testing.T) {
	head := []byte(snapshotMagic)
	for name, length := range map[string][]byte{
		"8 MiB and more": binary.AppendUvarint(nil, maxWindowBytes+1),
		"all the memory": binary.AppendUvarint(nil, 1<<63),
		"endless number": bytes.Repeat([]byte{0xff}, 20),
		"8 MiB not sent": binary.AppendUvarint(nil, maxWindowBytes),
	} {
		refuseSnapshot(t, name, slices.Concat(head, length, []byte("short")))
	}
	refuseSnapshot(t, "something else", []byte("PK\x03\x04 this is a zip file, not a snapshot of ours"))
}

func TestSnapshotErrorsArePassedOn(t *testing.T) {
	w := sampleWorld(t)
	full := errors.New("no space")
	size := len(snapshotOf(t, w.s, w.history))
	for _, room := range []int{0, 1, 100, size - 1} {
		if err := writeBoth(w, &smallDisk{room: room, err: full}); !errors.Is(err, full) {
			t.Errorf("with room for %d bytes: %v", room, err)
		}
	}
	if _, _, err := LoadSnapshot(bytes.NewReader(snapshotOf(t, w.s, w.history)), func(Record) error { return full }); !errors.Is(err, full) {
		t.Errorf("a record that cannot be kept: %v", err)
	}
	if _, err := ScanSnapshot(io.MultiReader(bytes.NewReader(snapshotOf(t, w.s, w.history)[:50]), brokenReader{full})); !errors.Is(err, full) {
		t.Errorf("a read error: %v", err)
	}
}

func writeBoth(w *world, out io.Writer) error {
	f := w.s.Freeze()
	if err := f.Write(out); err != nil {
		return err
	}
	return WriteHistory(out, f.Totals(), w.history.UpTo(f.Totals()))
}

type smallDisk struct {
	room int
	err  error
}

func (d *smallDisk) Write(b []byte) (int, error) {
	if len(b) > d.room {
		n := d.room
		d.room = 0
		return n, d.err
	}
	d.room -= len(b)
	return len(b), nil
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzReadSnapshot seals whatever it is given, since random bytes never carry
// their own checksum; nothing may panic, and what is accepted is consistent.
func FuzzReadSnapshot(f *testing.F) {
	w := sampleWorld(f)
	for _, w := range []*world{w, newWorld(f)} {
		var live bytes.Buffer
		if err := w.s.Freeze().Write(&live); err != nil {
			f.Fatal(err)
		}
		f.Add(live.Bytes()[:live.Len()-len(crypto.Hash{})])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := crypto.Sum(body)
		s, _, err := ReadSnapshot(bytes.NewReader(slices.Concat(body, sum[:])))
		if err != nil {
			return
		}
		if s.Digest() != s.FullDigest() {
			t.Error("the digest kept and the digest computed differ")
		}
	})
}
