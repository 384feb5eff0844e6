package fsm

import (
	"bytes"
	"errors"
	"testing"
)

func TestReadSnapshotHeader(t *testing.T) {
	s := NewState()
	s.meta.v.ClusterID, s.meta.v.Epoch, s.meta.v.Index = "c", 3, 9
	var out bytes.Buffer
	if err := s.Freeze().Write(&out); err != nil {
		t.Fatal(err)
	}
	id, epoch, index, err := ReadSnapshotHeader(&out)
	if err != nil || id != "c" || epoch != 3 || index != 9 {
		t.Error(id, epoch, index, err)
	}
	endless := append([]byte(snapshotMagic), 0xff, 0xff, 0xff, 0x0f) // a header of 32 MiB
	for _, text := range [][]byte{nil, []byte("something else entirely, and no snapshot"), append(endless, make([]byte, 1<<20)...)} {
		if _, _, _, err := ReadSnapshotHeader(bytes.NewReader(text)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
