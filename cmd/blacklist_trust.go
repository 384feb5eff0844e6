package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// maxTrustBytes bounds a trust file: hundreds of cosigner sets.
const maxTrustBytes = 4 << 20

// trust is whom a verifier believes about checkpoints: versions of the cosigner set, each of which the one before
// vouches for, or keys that were named one by one.
type trust struct {
	sets []checkpoint.SignedSet // ascending, each with the signatures by which it was believed
	keys []crypto.PublicKey
	from string // "cluster" proves consistency only
}

// noTrustNote is what to do about a missing --trust.
const noTrustNote = "whom to believe is the cluster's own word: this proves that it is consistent, not that nobody is shown anything else; " +
	"save who cosigns with `edgecoder blacklist cosigners --out FILE`, compare its hash with other operators, and give --trust FILE"

// readTrust reads a file of cosigner sets as `blacklist cosigners --out` writes them, or of verifier keys, one a line.
func readTrust(path string) (*trust, error) {
	text, err := readSmall(path, maxTrustBytes)
	if err != nil {
		return nil, usagef("--trust %s: %w", path, err)
	}
	t, err := parseTrust(text)
	if err != nil {
		return nil, usagef("--trust %s: %w", path, err)
	}
	t.from = path
	return t, nil
}

func parseTrust(text string) (t *trust, err error) {
	t = &trust{}
	if strings.HasPrefix(text, checkpoint.SetTitle) {
		err = t.addSets(splitSets(text))
	} else {
		t.keys, err = cosignerKeys(text)
	}
	return t, err
}

func readSmall(path string, most int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readBounded(f, most)
	return string(text), err
}

// splitSets cuts the notes apart, which stand one behind the other.
func splitSets(text string) (notes []string) {
	parts := strings.Split(text, checkpoint.SetTitle+"\n")
	for _, part := range parts[1:] {
		notes = append(notes, checkpoint.SetTitle+"\n"+part)
	}
	return notes
}

// cosignerKeys reads verifier keys (c2sp.org/signed-note), with comments and empty lines.
func cosignerKeys(text string) (keys []crypto.PublicKey, err error) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := checkpoint.ParseCosignerKey(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("neither a cosigner set nor a verifier key is in it")
	}
	return keys, nil
}

// addSets follows further versions. The first of a file, or of a cluster, is taken as it is: a root must be signed by
// its own majority. One that begins a line of its own is not followed.
func (t *trust) addSets(notes []string) error {
	for _, note := range notes {
		next, err := checkpoint.ParseSet([]byte(note))
		if err != nil {
			return err
		}
		last := len(t.sets) - 1
		switch {
		case last < 0 && next.Root():
			err = next.VerifyRoot()
		case last >= 0 && next.Version <= t.sets[last].Version:
			if err := t.sameAs(next.Set); err != nil {
				return err
			}
			continue
		case last >= 0:
			err = t.sets[last].Verify(next)
		}
		if err != nil {
			return err
		}
		t.sets = append(t.sets, next)
	}
	return nil
}

// sameAs refuses another set of a version that is trusted.
func (t *trust) sameAs(s checkpoint.Set) error {
	for _, have := range t.sets {
		if have.Version == s.Version && have.Hash() != s.Hash() {
			return fmt.Errorf("cosigner set version %d is %s, the trusted one is %s: two histories of who cosigns", s.Version, s.Hash(), have.Hash())
		}
	}
	return nil
}

// follow asks a cluster for the versions since the newest that is trusted. Without any, the cluster's first is taken
// on its word.
func (t *trust) follow(ctx context.Context, api *client.Client) error {
	if t.keys != nil {
		return nil
	}
	notes, err := fetchSets(ctx, api, t.newest())
	if err != nil {
		return err
	}
	if err := t.addSets(notes); err != nil {
		return refusedf("who cosigns, as the cluster tells it, does not follow from whom you trust: %w", err)
	}
	if len(t.sets) == 0 {
		return unknownf("the cluster has no cosigner set yet: every server must be upgraded first, see `edgecoder status`")
	}
	return nil
}

func (t *trust) newest() uint64 {
	if n := len(t.sets); n > 0 {
		return t.sets[n-1].Version
	}
	return 0
}

func fetchSets(ctx context.Context, api *client.Client, from uint64) (notes []string, err error) {
	err = eachSet(ctx, api, from, func(s client.CosignerSet) { notes = append(notes, s.Note) })
	return notes, err
}

// eachSet reads a cluster's versions from one on. Nothing of them is verified.
func eachSet(ctx context.Context, api *client.Client, from uint64, do func(client.CosignerSet)) error {
	for next := max(from, 1); next != 0; {
		page, err := api.CosignerSets(ctx, next, 100)
		if err != nil {
			return err
		}
		for _, s := range page.Sets {
			do(s)
		}
		if page.Next != 0 && page.Next <= next {
			return refusedf("the cluster's list of cosigner sets does not end")
		}
		next = page.Next
	}
	return nil
}

// told returns the versions that are trusted, as the API shows them, with the times that the cluster says, which no
// signature covers.
func (t *trust) told(ctx context.Context, api *client.Client) (all client.CosignerSets, err error) {
	at := map[uint64]int64{}
	if err := eachSet(ctx, api, t.sets[0].Version, func(s client.CosignerSet) {
		if s.Version <= t.newest() {
			at[s.Version] = s.AtMs
		}
	}); err != nil {
		return all, err
	}
	for _, s := range t.sets {
		row := client.CosignerSet{Version: s.Version, Epoch: s.Epoch, Hash: s.Hash().String(), Cosigners: s.Names(), AtMs: at[s.Version], Note: string(s.Encode())}
		if !s.Root() {
			row.Previous = s.Previous.String()
		}
		all.Sets = append(all.Sets, row)
	}
	return all, nil
}

// save writes the sets that were verified, and nothing that only was told.
func (t *trust) save(f *os.File) error {
	for _, s := range t.sets {
		if _, err := f.Write(s.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// openLog verifies a checkpoint, and that it is of a log: the same coordinators cosign several.
func (t *trust) openLog(note []byte, log string) (checkpoint.Opened, uint64, error) {
	o, version, err := t.open(note)
	if err == nil && o.Origin.Log != log {
		err = fmt.Errorf("it is of the log %s, not of the %s", o.Origin.Log, log)
	}
	return o, version, err
}

// open verifies a checkpoint by the newest version. An older one is not enough, though it was once: the first of most
// clusters was a single coordinator, which could sign whatever it likes for ever.
func (t *trust) open(note []byte) (checkpoint.Opened, uint64, error) {
	if t.keys != nil {
		n, err := checkpoint.ParseNote(note)
		if err != nil {
			return checkpoint.Opened{}, 0, err
		}
		set, err := checkpoint.NewSet(n.Checkpoint.Origin.ClusterID, 1, n.Checkpoint.Origin.Epoch, crypto.Hash{}, t.keys)
		if err != nil {
			return checkpoint.Opened{}, 0, err
		}
		o, err := set.OpenFinal(note)
		return o, 0, err
	}
	if len(t.sets) == 0 {
		return checkpoint.Opened{}, 0, errors.New("nobody is trusted")
	}
	newest := t.sets[len(t.sets)-1]
	o, err := newest.OpenFinal(note)
	for _, older := range t.sets[:len(t.sets)-1] {
		if _, was := older.OpenFinal(note); err != nil && was == nil {
			err = fmt.Errorf("only cosigner set version %d vouches for it, and version %d is the newest you trust: get a fresh one from the cluster (%w)", older.Version, newest.Version, err)
			break
		}
	}
	return o, newest.Version, err
}
