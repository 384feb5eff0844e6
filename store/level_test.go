package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestSnapshotOfANewerBinaryIsNoDamage: the directory does not open, and nothing
// says that it should be moved away. With one bit flipped it is damage.
func TestSnapshotOfANewerBinaryIsNoDamage(t *testing.T) {
	r := newRig(t, rigOptions())
	r.close()
	files, err := raft.NewFileSnapshotStore(r.dir, 3, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := files.Create(1, 2, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	header, err := fsm.Encode(map[int]any{1: 99, 2: "what a later version has"})
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte("edgecoder snapshot\n"), byte(len(header)))
	data = append(append(data, header...), bytes.Repeat([]byte("rest "), 1000)...)
	if _, err := sink.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(r.dir, rigOptions())
	if d := (*Damage)(nil); !errors.Is(err, fsm.ErrLevel) || errors.As(err, &d) {
		t.Errorf("a snapshot of a newer binary: %v", err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(filepath.Join(r.dir, dirSnapshots, sink.ID(), fileState), data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(r.dir, rigOptions())
	if d := (*Damage)(nil); errors.Is(err, fsm.ErrLevel) || !errors.As(err, &d) {
		t.Errorf("damaged: %v", err)
	}
}
