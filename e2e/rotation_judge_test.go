package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// pinned is a file of keys for `edgecoder blacklist verify --keys`.
type pinned struct {
	Peers []client.MeshPeer `json:"peers"`
}

// judgeChain: the chain of each node verifies from genesis, offline, with nothing but
// the keys that this node serves under /v1/keys, and not without one that was rotated;
// no event is of a key outside of its window.
func (r *rotations) judgeChain(rotated ...rotated) {
	r.t.Helper()
	for _, name := range r.m.names() {
		keys := r.coordinatorKeys(name)
		chain, signers := r.saveChain(name, keys)
		if fault := r.verify(chain, keys); fault != "" {
			r.t.Errorf("the chain of %s does not verify with the keys that it serves: %s", name, fault)
		}
		for _, c := range rotated {
			if signers[c.before.PeerID] == 0 || signers[c.after.PeerID] == 0 {
				r.t.Errorf("both keys of %s must have signed, events by key: %v", c.name, signers)
			}
		}
		without := slices.DeleteFunc(slices.Clone(keys), func(k client.Key) bool { return k.KeyID == rotated[0].before.KeyID })
		if r.verify(chain, without) == "" {
			r.t.Errorf("the chain of %s verifies without a key that signed it", name)
		}
	}
}

// coordinatorKeys are the signing keys that a node serves.
func (r *rotations) coordinatorKeys(name string) (out []client.Key) {
	r.t.Helper()
	list, err := r.m.client(r.m.admin, 20, name).KeyList(r.t.Context(), "coordinator")
	if err != nil || list.Next != "" {
		r.t.Fatalf("%s: keys: %v, next %q", name, err, list.Next)
	}
	for _, k := range list.Keys {
		out = append(out, k.Keys...)
	}
	return out
}

// saveChain writes the chain of a node without any keys, and counts events by signer.
func (r *rotations) saveChain(name string, keys []client.Key) (file string, signers map[string]int) {
	r.t.Helper()
	signers = map[string]int{}
	var events []json.RawMessage
	audit, err := r.m.client(r.m.admin, 20, name).Audit(r.t.Context(), func(text json.RawMessage) error {
		e, err := crypto.ParseBlacklistEvent(text)
		signers[e.SourceCoordinatorID]++
		r.inWindow(name, keys, e)
		events = append(events, slices.Clone(text))
		return err
	})
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	file = filepath.Join(r.t.TempDir(), name+".json")
	r.write(file, map[string]any{"peers": []any{}, "events": events, "version": audit.Version, "chainHead": audit.ChainHead})
	return file, signers
}

func (r *rotations) inWindow(name string, keys []client.Key, e crypto.BlacklistEvent) {
	i := slices.IndexFunc(keys, func(k client.Key) bool { return k.PeerID == e.SourceCoordinatorID })
	if i < 0 {
		r.t.Errorf("%s serves no key of %s, which signed event %s", name, e.SourceCoordinatorID, e.EventID)
		return
	}
	if k := keys[i]; e.TimestampMs < k.NotBeforeMs || k.UntilMs != 0 && e.TimestampMs > k.UntilMs {
		r.t.Errorf("%s: event %s is of %d, its key %s verifies from %d to %d", name, e.EventID, e.TimestampMs, k.KeyID, k.NotBeforeMs, k.UntilMs)
	}
}

func (r *rotations) write(file string, body any) {
	r.t.Helper()
	text, err := json.Marshal(body)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// verify asks the program, which gets no address of any cluster, and says what it found
// wrong.
func (r *rotations) verify(chain string, keys []client.Key) (fault string) {
	r.t.Helper()
	var file pinned
	for _, k := range keys {
		file.Peers = append(file.Peers, client.MeshPeer{PeerID: k.PeerID, PublicKeyPEM: k.PublicKey})
	}
	pins := filepath.Join(r.t.TempDir(), "keys.json")
	r.write(pins, file)
	cmd := exec.Command(binary, "blacklist", "verify", chain, "--keys", pins)
	cmd.Env = []string{"HOME=" + r.t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return err.Error() + ": " + string(out)
	}
	return ""
}

// judgeKeyFiles: each server holds the one gossip key that the API says is active, and
// has forgotten the one before.
func (r *rotations) judgeKeyFiles() {
	r.t.Helper()
	gossip, err := r.admin.Keys(r.t.Context(), "gossip")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range r.m.cluster.Record().Nodes {
		var ids []string
		r.m.eventually(n.Name+" has forgotten the keys that are over", func() bool {
			ids = nil
			for _, key := range r.keyFile(n.DataDir).PoolKeys {
				ids = append(ids, crypto.PublicKey(crypto.Sum(append([]byte("edgecoder pool key v1\n"), key...))).KeyID())
			}
			return slices.Equal(ids, []string{gossip.KeyID})
		})
	}
}

func (r *rotations) keyFile(dir string) (keys nodeKeys) {
	r.t.Helper()
	pass, err := os.ReadFile(r.m.cluster.Record().PassphraseFile)
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := keyfile.ReadPrivate(filepath.Join(dir, "node.keys"))
	if err != nil {
		r.t.Fatal(err)
	}
	plain, err := keyfile.Open(bytes.TrimSpace(pass), "node-keys", data)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cbor.Unmarshal(plain, &keys); err != nil {
		r.t.Fatal(err)
	}
	return keys
}
