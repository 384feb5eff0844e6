package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// A reset keeps what raft must never forget, throws the rest away, and may be
// called again wherever it broke off.
func TestResetKeepsTermAndVote(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
	if err := s.Stable.Set([]byte("LastVoteCand"), []byte("n2")); err != nil {
		t.Fatal(err)
	}
	if err := s.Logs.StoreLogs([]*raft.Log{{Index: 1, Term: 7, Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as if the first had broken off before its caller noted it
		if err := Reset(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, EvidenceDir, fileHistory)); err != nil {
		t.Errorf("the evidence: %v", err)
	}
	if s, err = Open(dir, Options{Keep: 3}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if term, err := s.Stable.GetUint64([]byte("CurrentTerm")); err != nil || term != 7 {
		t.Errorf("term %d, %v", term, err)
	}
	if vote, err := s.Stable.Get([]byte("LastVoteCand")); err != nil || string(vote) != "n2" {
		t.Errorf("vote %q, %v", vote, err)
	}
	if last, err := s.Logs.LastIndex(); err != nil || last != 0 {
		t.Errorf("the log ends at %d, %v", last, err)
	}
}

// A node that differs may have a bad disk: what a reset would keep is checked
// before it is taken over, and the damage names the file.
func TestResetRefusesDamage(t *testing.T) {
	for _, tt := range []struct {
		what  string
		spoil func([]byte) []byte
	}{
		{"a torn meta page", func(b []byte) []byte {
			copy(b[pageHeader+40:], make([]byte, 8))
			return b
		}},
		{"another vote", func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("LastVoteCand0123"), []byte("LastVoteCand0124"))
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := sampleDir(t, 3, 3)
			name := under(dir, fileRaft)
			writeAll(t, name, tt.spoil(slurp(t, name)))
			var d *Damage
			if err := Reset(dir); !errors.As(err, &d) || d.File != fileRaft {
				t.Errorf("%v", err)
			}
			if exists(under(dir, EvidenceDir, fileRaft)) || !exists(under(dir, fileHistory)) {
				t.Error("files were moved")
			}
		})
	}
}
