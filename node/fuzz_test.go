package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// stable decodes data as a T and demands that what was understood has one
// spelling: two nodes that pass it on say the same.
func stable[T any](t *testing.T, data []byte) {
	var v, again T
	if fsm.Decode(data, &v) != nil {
		return
	}
	once, err := fsm.Encode(v)
	if err != nil {
		t.Fatalf("%T was read but cannot be written: %v", v, err)
	}
	if err := fsm.Decode(once, &again); err != nil {
		t.Fatalf("%T was written but cannot be read: %v", v, err)
	}
	if twice, err := fsm.Encode(again); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%T: %x became %x, %v", v, once, twice, err)
	}
}

// FuzzRPC reads every body that nodes exchange: calls, answers, joins, and
// what gossip carries for this room.
func FuzzRPC(f *testing.F) {
	for _, v := range []any{
		pingRequest{1}, pingReply{Version: "v", Marks: []fsm.Mark{{}}}, certifyRequest{"n", []byte{1}, true}, returnRequest{[]byte{1}}, sharedReply{AsOf: 1, CAs: []authority{{Cert: []byte{1}, Retiring: true}}, Sealed: []sealedKey{{Kind: fsm.SubjectGossip, Text: []byte{2}}}}, transferRequest{"n"}, memberRequest{"n"}, fieldsRequest{1},
		joinRequest{Token: "t"}, manifestRequest{"t", "n"}, readPoint{}, admitReply{}, memberReply{}, chainHead{Head: "h"},
		joinReply{Members: memberFile{Members: map[string]peerAddress{"n": {Name: "n"}}}}, fieldsReply{Fields: map[string]string{"a": "b"}},
		joinReply{CACert: []byte{1}, Sealed: []sealedKey{{Kind: fsm.SubjectGossip, Text: []byte{2}}}}, edgeJoinRequest{Token: "t"}, edgeJoinReply{PoolKeys: [][]byte{{1}}},
	} {
		data, err := fsm.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*testing.T, []byte){
			stable[pingRequest], stable[pingReply], stable[certifyRequest], stable[returnRequest], stable[sharedReply], stable[transferRequest], stable[memberRequest], stable[fieldsRequest],
			stable[joinRequest], stable[joinReply], stable[edgeJoinRequest], stable[edgeJoinReply], stable[manifestRequest], stable[manifestReply], stable[memberReply], stable[fieldsReply],
			stable[readPoint], stable[admitReply], stable[fsm.AdmitBatch], stable[fsm.Command], stable[chainHead],
		} {
			read(t, data)
		}
		var told sharedReply
		if fsm.Decode(data, &told) == nil {
			_, _ = (&identity{Role: fsm.RoleCoordinator}).openReply(told)
		}
		var joined joinReply
		if fsm.Decode(data, &joined) == nil {
			_, _ = joined.open(&identity{}, fsm.RoleCoordinator)
		}
		if head, err := parseHead(data); err == nil {
			_ = head.parts("c", "n")
		}
	})
}

// FuzzMemberFile: an address book that is damaged is an empty one, or one that
// its methods can live with.
func FuzzMemberFile(f *testing.F) {
	f.Add([]byte(`{"index":3,"members":{"n":{"name":"a","api":"x:1","raft":"x:2","gossip":"x:3","role":"coordinator"}}}`))
	f.Add([]byte(`{"members":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filePeers), text, 0o600); err != nil {
			t.Fatal(err)
		}
		b := openAddressBook(dir, slog.New(slog.DiscardHandler))
		b.hear("h", peerAddress{Gossip: "g:1"})
		_, _, _ = b.coordinators("n"), b.gossipSeeds("n"), b.raftAddresses("n")
		b.record(memberFile{Index: b.Index, Members: map[string]peerAddress{"m": {Name: "m"}}})
		if _, _, known := b.recordOf("m"); !known {
			t.Errorf("%q: what was recorded is not known", text)
		}
	})
}

// FuzzRetirement: a mark that cannot be read refuses as well as one that can.
func FuzzRetirement(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"recovery":"r"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileRetired), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if checkRetired(dir) == nil {
			t.Errorf("a directory with the mark %q may start", text)
		}
	})
}

// FuzzBackup reads whatever passes for a backup.
func FuzzBackup(f *testing.F) {
	f.Add([]byte("edgecoder"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "b.snapshot")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := InspectBackup(path); err == nil {
			t.Errorf("%x passes for a backup: %+v", data, info) // its checksums cannot be met by chance
		}
	})
}
