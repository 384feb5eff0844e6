package store

import (
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
