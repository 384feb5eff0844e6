package edge

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/edgecoder/edgecoder/crypto"
)

// The formats. All numbers are big-endian.
//
// A list: "EDGELST1", generation (8 bytes), length of the cluster id (4) and the id, length of the position (4) and the position, number
// of bans (8), a row of 32 bytes each, and the seal of all that.
//
// Steps: "EDGESTP1", generation (8), then for each step: length of its body (4), its seal, and the body: length of the position (4) and the
// position, and a row of 32 bytes for each change.
//
// A seal is HMAC-SHA256 (RFC 2104) by a key that the identity of the edge holds: who can write the directory and has no passphrase can take the list away, or
// put an older one of this edge back, which is stale until a majority vouches anew, but cannot write another. That of a step is over "EDGESTP1", the
// seal before it, of the step or the list, and its length and body: steps stand in their order behind their list.

const (
	listMagic  = "EDGELST1"
	stepsMagic = "EDGESTP1"
	// maxStepBytes bounds one step; what is larger goes into a new list at once.
	maxStepBytes = 8 << 20
	maxNameBytes = 256
)

var errSeal = errors.New("its seal does not match: it was changed, or is of another identity")

// list is what bans.list holds.
type list struct {
	clusterID  string
	generation uint64
	position   Position
	view       *View
	bytes      int64
	seal       crypto.Hash
}

// sealKey is what the seals of one edge are made with.
type sealKey []byte

// step returns the seal of a step behind what another seal ends.
func (k sealKey) step(before crypto.Hash, length, body []byte) crypto.Hash {
	mac := hmac.New(sha256.New, k)
	for _, part := range [][]byte{[]byte(stepsMagic), before[:], length, body} {
		mac.Write(part)
	}
	return crypto.Hash(mac.Sum(nil))
}

// sealing seals what goes through it.
type sealing struct {
	r   io.Reader
	mac hash.Hash
	n   int64
}

func (s *sealing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.mac.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// field reads n bytes.
func field(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// sized reads a field that says its own length, bounded.
func sized(r io.Reader, most int) ([]byte, error) {
	head, err := field(r, 4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if int64(n) > int64(most) {
		return nil, fmt.Errorf("a field of %d bytes, at most %d", n, most)
	}
	return field(r, int(n))
}

// readList reads a list and verifies it, position and seal.
func readList(f io.Reader, key sealKey) (l list, err error) {
	r := &sealing{r: bufio.NewReaderSize(f, 1<<20), mac: hmac.New(sha256.New, key)}
	head, err := field(r, len(listMagic)+8)
	if err != nil || string(head[:len(listMagic)]) != listMagic {
		return l, errors.New("it does not begin as a list does")
	}
	l.generation = binary.BigEndian.Uint64(head[len(listMagic):])
	name, err := sized(r, maxNameBytes)
	if err != nil {
		return l, err
	}
	l.clusterID = string(name)
	position, err := sized(r, maxPositionBytes)
	if err != nil {
		return l, err
	}
	if l.view, err = readBans(r); err != nil {
		return l, err
	}
	l.seal = crypto.Hash(r.mac.Sum(nil))
	if got, err := field(r, crypto.HashSize); err != nil || !hmac.Equal(got, l.seal[:]) {
		return l, errSeal
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 {
		return l, errors.New("something follows its seal")
	}
	l.bytes = r.n
	if l.position, _, err = decodePosition(position); err != nil {
		return l, err
	}
	l.view.Head = l.position.Head
	return l, nil
}

// readBans reads bans, which stand shard by shard, so that no more than one shard's rows are held beside the view.
func readBans(r io.Reader) (*View, error) {
	head, err := field(r, 8)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(head)
	if n > MaxBans {
		return nil, fmt.Errorf("%d bans, at most %d", n, MaxBans)
	}
	v, at := emptyView(), 0
	var mine []slot
	row := make([]byte, rowBytes)
	for range n {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, err
		}
		c, err := parseRow(row)
		if err != nil {
			return nil, err
		}
		switch of := c.Key.shard(); {
		case c.Lift || of < at:
			return nil, errors.New("a lift in a list, or a ban out of order")
		case of > at:
			v.shards[at], at, mine = newShard(mine), of, mine[:0]
		}
		mine = append(mine, slot{c.Key, c.Ban})
	}
	v.shards[at] = newShard(mine)
	v.count = int(n)
	return v, v.checkOnce()
}

// checkOnce refuses a key that stands in a view twice.
func (v *View) checkOnce() error {
	for _, s := range v.shards {
		for i := range s {
			if s[i].used() && s.find(s[i].key) != i {
				return errors.New("a key stands in it twice")
			}
		}
	}
	return nil
}

func writeList(w io.Writer, key sealKey, clusterID string, generation uint64, p Position, v *View) (seal crypto.Hash, err error) {
	position, err := encodePosition(p, p.Head.Size)
	if err != nil {
		return seal, err
	}
	mac := hmac.New(sha256.New, key)
	b := bufio.NewWriterSize(io.MultiWriter(w, mac), 1<<18)
	head := binary.BigEndian.AppendUint64([]byte(listMagic), generation)
	head = binary.BigEndian.AppendUint32(head, uint32(len(clusterID)))
	head = append(head, clusterID...)
	head = binary.BigEndian.AppendUint32(head, uint32(len(position)))
	head = append(head, position...)
	head = binary.BigEndian.AppendUint64(head, uint64(v.Len()))
	if _, err := b.Write(head); err != nil {
		return seal, err
	}
	row := make([]byte, 0, rowBytes)
	for agent, ban := range v.all() {
		if _, err := b.Write(appendRow(row, Change{Key: agent, Ban: ban})); err != nil {
			return seal, err
		}
	}
	if err := b.Flush(); err != nil {
		return seal, err
	}
	seal = crypto.Hash(mac.Sum(nil))
	_, err = w.Write(seal[:])
	return seal, err
}

func stepsHead(generation uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(stepsMagic), generation)
}

// encodeStep writes a step behind what a seal ends. It returns the step's own seal too.
func encodeStep(key sealKey, before crypto.Hash, from uint64, p Position, changes []Change) (_ []byte, seal crypto.Hash, err error) {
	position, err := encodePosition(p, from)
	if err != nil {
		return nil, seal, err
	}
	n := 4 + len(position) + rowBytes*len(changes)
	out := make([]byte, 4+crypto.HashSize, 4+crypto.HashSize+n)
	binary.BigEndian.PutUint32(out, uint32(n))
	out = binary.BigEndian.AppendUint32(out, uint32(len(position)))
	out = append(out, position...)
	for _, c := range changes {
		out = appendRow(out, c)
	}
	seal = key.step(before, out[:4], out[4+crypto.HashSize:])
	copy(out[4:], seal[:])
	return out, seal, nil
}

// reached is how far a list and steps behind it lead.
type reached struct {
	view     *View
	position *Position
	seal     crypto.Hash // of the last of them
}

// readSteps applies steps to a list. It returns how many bytes of the file are whole steps: a file ends in the middle of one, or in zeros, when the
// process or the power ended there, since a step is acted on only once it is on disk. A step that is there as a whole and does not match is damage.
func readSteps(f io.Reader, key sealKey, generation uint64, at reached) (_ reached, whole int64, err error) {
	r := bufio.NewReaderSize(f, 1<<18)
	head, err := field(r, len(stepsMagic)+8)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return at, 0, nil
	}
	if err != nil || !bytes.Equal(head, stepsHead(generation)) {
		return at, 0, fmt.Errorf("it does not begin as steps of generation %d do", generation)
	}
	whole = int64(len(head))
	for {
		body, seal, err := readStep(r, key, at.seal)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errSeal) && isTorn(body, r) {
			return at, whole, nil
		}
		if err == nil {
			at, err = at.after(body, seal)
		}
		if err != nil {
			return at, 0, fmt.Errorf("step at byte %d: %w", whole, err)
		}
		whole += int64(4 + crypto.HashSize + len(body))
	}
}

// isTorn tells whether a step was lost with the power: the file had grown, and the end of what it grew by was never written, so there are zeros. No step ends in
// a row of zeros, since events count from 1.
func isTorn(body []byte, rest io.Reader) bool {
	end := io.MultiReader(bytes.NewReader(body[max(len(body)-rowBytes, 0):]), rest)
	for b := make([]byte, 4096); ; {
		n, err := end.Read(b)
		if bytes.Count(b[:n], []byte{0}) != n {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// readStep reads the body of the step behind what a seal ends, and the step's own seal. The body comes with [errSeal] too.
func readStep(r io.Reader, key sealKey, before crypto.Hash) (body []byte, seal crypto.Hash, err error) {
	head, err := field(r, 4+crypto.HashSize)
	if err != nil {
		return nil, seal, err
	}
	n := binary.BigEndian.Uint32(head)
	if n > maxStepBytes {
		return nil, seal, fmt.Errorf("%d bytes, at most %d", n, maxStepBytes)
	}
	if body, err = field(r, int(n)); err != nil {
		return nil, seal, err
	}
	seal = key.step(before, head[:4], body)
	if !hmac.Equal(seal[:], head[4:]) {
		return body, seal, errSeal
	}
	return body, seal, nil
}

// after returns where the body of a step leads.
func (at reached) after(body []byte, seal crypto.Hash) (reached, error) {
	p, rows := at.position, bytes.NewReader(body)
	position, err := sized(rows, maxPositionBytes)
	if err != nil || rows.Len()%rowBytes != 0 {
		return at, errors.New("its fields do not fill it")
	}
	next, from, err := decodePosition(position)
	if err != nil {
		return at, err
	}
	if from != p.Head.Size || next.Head.Size < from || next.Head.Epoch < p.Head.Epoch {
		return at, fmt.Errorf("it leads from size %d to %d of epoch %d, the list is at %d of epoch %d", from, next.Head.Size, next.Head.Epoch, p.Head.Size, p.Head.Epoch)
	}
	var changes []Change
	for b := body[len(body)-rows.Len():]; len(b) > 0; b = b[rowBytes:] {
		c, err := parseRow(b)
		if err != nil {
			return at, err
		}
		changes = append(changes, c)
	}
	v, err := at.view.with(changes, next.Head, 0)
	return reached{view: v, position: &next, seal: seal}, err
}

// writeFile replaces a file in one step: the new one is whole and on disk before it takes the name.
func writeFile(path string, write func(io.Writer) error) (n int64, err error) {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		n, err = f.Seek(0, io.SeekEnd)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if err = os.Rename(temp, path); err != nil {
		return 0, err
	}
	return n, syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
