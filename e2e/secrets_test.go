package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// nodeKeys are the secrets of a server's key file, by their numbers in it.
type nodeKeys struct {
	CAKey      []byte   `cbor:"6,keyasint"`
	Signing    []byte   `cbor:"7,keyasint"`
	Encryption []byte   `cbor:"8,keyasint"`
	TLSKey     []byte   `cbor:"9,keyasint"`
	PoolKeys   [][]byte `cbor:"11,keyasint"`
}

// vault is a directory of two servers whose every file is searched (disk), and
// what an operator keeps elsewhere (keep).
type vault struct {
	t          *testing.T
	disk, keep string
	passphrase string // file
	secrets    []secret
}

func (v *vault) add(name string, secret_ []byte) {
	v.secrets = append(v.secrets, secret{name, secret_})
}

// addToken adds a token's text, and the random part of it as bytes.
func (v *vault) addToken(name, text string) {
	v.t.Helper()
	token, err := crypto.ParseTokenText(text)
	if err != nil {
		v.t.Fatal(err)
	}
	raw, err := hex.DecodeString(token.Secret)
	if err != nil {
		v.t.Fatal(err)
	}
	v.add(name, []byte(text))
	v.add(name+", its secret part", []byte(token.Secret))
	v.add(name+", its random bytes", raw)
}

// addSigner adds a private key of TLS: its container and its bare number.
func (v *vault) addSigner(name string, pkcs8 []byte) {
	v.t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		v.t.Fatal(err)
	}
	number, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		v.t.Fatal(err)
	}
	v.add(name, pkcs8)
	v.add(name+", its number", number)
}

func (v *vault) addEd25519(name string, seed []byte) {
	v.add(name+", its seed", seed)
	v.add(name, ed25519.NewKeyFromSeed(seed))
	v.add(name+" in PEM", pemBody(string(crypto.MarshalPrivateKeyPEM(ed25519.NewKeyFromSeed(seed)))))
}

// pemBody is the line of base64 between the two labels.
func pemBody(text string) []byte { return []byte(strings.Split(text, "\n")[1]) }

// addNode opens a server's key file, as nobody but its operator can.
func (v *vault) addNode(name, dir string, passphrase []byte) {
	v.t.Helper()
	data, err := keyfile.ReadPrivate(filepath.Join(dir, "node.keys"))
	if err != nil {
		v.t.Fatal(err)
	}
	plain, err := keyfile.Open(passphrase, "node-keys", data)
	if err != nil {
		v.t.Fatal(err)
	}
	var keys nodeKeys
	if err := cbor.Unmarshal(plain, &keys); err != nil {
		v.t.Fatal(err)
	}
	if len(keys.Signing) != ed25519.SeedSize || len(keys.Encryption) != 32 || len(keys.PoolKeys) == 0 || len(keys.PoolKeys[0]) != 32 {
		v.t.Fatalf("%s: the key file has other members than this test knows", name)
	}
	v.addEd25519(name+": signing key", keys.Signing)
	v.add(name+": X25519 key", keys.Encryption)
	v.addSigner(name+": TLS key", keys.TLSKey)
	v.addSigner(name+": CA key", keys.CAKey)
	for i, key := range keys.PoolKeys {
		v.add(fmt.Sprintf("%s: pool key %d", name, i), key)
	}
}

// newPassphrase makes a file with a fresh passphrase.
func (v *vault) newPassphrase(name string) (file string, text []byte) {
	v.t.Helper()
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		v.t.Fatal(err)
	}
	text = []byte("passphrase " + hex.EncodeToString(random))
	file = filepath.Join(v.keep, name)
	if err := os.WriteFile(file, append(text[:len(text):len(text)], '\n'), 0o600); err != nil {
		v.t.Fatal(err)
	}
	v.add(name, text)
	v.add(name+", its random bytes", random)
	return file, text
}

// diskServer is one server process with everything it writes in one place.
type diskServer struct {
	name, dir, api, gossip string
	process                *exec.Cmd
}

// start runs a server whose log, at its most talkative, is among the files that are searched.
func (v *vault) start(s *diskServer, env []string, args ...string) {
	v.t.Helper()
	log, err := os.OpenFile(filepath.Join(v.disk, s.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	s.process = exec.Command(binary, append([]string{"server", "--name", s.name, "--data-dir", s.dir, "--api-addr", s.api, "--gossip-addr", s.gossip,
		"--passphrase-file", v.passphrase, "--log-level", "debug", "--disk-reserve", "1MiB"}, args...)...)
	s.process.Stdout, s.process.Stderr = log, log
	s.process.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + v.keep}, env...)
	if err := s.process.Start(); err != nil {
		v.t.Fatal(err)
	}
}

// stop asks the server to end, and ends it if it does not.
func (s *diskServer) stop(t *testing.T) {
	t.Helper()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended
	kill := time.AfterFunc(30*time.Second, func() { _ = s.process.Process.Kill() })
	defer kill.Stop()
	if err := s.process.Wait(); err != nil {
		t.Errorf("%s: %v", s.name, err)
	}
	s.process = nil
}

func (v *vault) newServer(name string) *diskServer {
	ports := freePorts(v.t)
	s := &diskServer{name: name, dir: filepath.Join(v.disk, name), api: ports.API(0), gossip: ports.Gossip(0)}
	v.t.Cleanup(func() { s.stop(v.t) })
	return s
}

// api returns a client of one server, whose CA is in its data directory.
func (v *vault) api(s *diskServer, token string) *client.Client {
	v.t.Helper()
	c, err := client.New(client.Config{CAFile: filepath.Join(s.dir, "ca.pem"), Token: token, Attempts: 20, Addrs: []string{"https://" + s.api}})
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

// waitFor polls with a generous deadline.
func (v *vault) waitFor(what string, s *diskServer, ok func(ctx context.Context) bool) {
	v.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok(v.t.Context()) {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(v.disk, s.name+".log"))
	v.t.Fatalf("not in a minute: %s\n%s", what, log[max(0, len(log)-4000):])
}

func (v *vault) token(role string, api *client.Client) string {
	v.t.Helper()
	got, err := api.CreateToken(v.t.Context(), client.TokenRequest{Role: role})
	if err != nil {
		v.t.Fatal(err)
	}
	v.addToken(role+" token", got.Token)
	return got.Token
}

// command runs the binary as an operator, with secrets by file and environment.
func (v *vault) command(env []string, args ...string) {
	v.t.Helper()
	c := exec.CommandContext(v.t.Context(), binary, args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + v.keep}, env...)
	out, err := c.CombinedOutput()
	if err != nil {
		v.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	// What a command prints ends in logs of others.
	if err := os.WriteFile(filepath.Join(v.disk, "output-"+strings.Join(args[:2], "-")), out, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// TestP8SecretsNeverTouchTheDisk: two servers are made, joined, used, refused,
// backed up, restarted under another passphrase; then no file of theirs, and no
// line of their logs, holds a private key, a passphrase or a token in any form.
func TestP8SecretsNeverTouchTheDisk(t *testing.T) {
	root := t.TempDir()
	v := &vault{t: t, disk: filepath.Join(root, "disk"), keep: filepath.Join(root, "keep")}
	for _, dir := range []string{v.disk, v.keep, filepath.Join(v.disk, "backups")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	v.passphrase, _ = v.newPassphrase("first passphrase")
	one, two := v.newServer("one"), v.newServer("two")
	admin := v.found(one)
	v.join(one, two, admin)
	v.use(one, two, admin)
	two.stop(t)
	one.stop(t)
	v.changePassphrase(one, two, admin)
	// What is no secret must be found in the very same files, or the search says nothing.
	control := secret{"cluster id", []byte(strings.Split(admin, "_")[1])}
	if found, _ := findSecrets(t, []secret{control}, v.disk); len(found) < 5 {
		t.Errorf("the cluster id should stand in many files: %v", found)
	}
	found, files := findSecrets(t, v.secrets, v.disk)
	for _, text := range found {
		t.Error(text)
	}
	t.Logf("%d secrets in %d files", len(v.secrets), files)
	if files < 10 || len(v.secrets) < 30 {
		t.Error("that is not all of it")
	}
}

// found bootstraps a cluster and returns the first admin token.
func (v *vault) found(s *diskServer) string {
	v.t.Helper()
	file := filepath.Join(v.keep, "admin.token")
	v.start(s, nil, "--bootstrap", "--admin-token-out", file)
	v.waitFor("the admin token", s, func(context.Context) bool { _, err := os.Stat(file); return err == nil })
	text, err := os.ReadFile(file)
	if err != nil {
		v.t.Fatal(err)
	}
	admin := strings.TrimSpace(string(text))
	v.addToken("admin token", admin)
	v.waitFor("the first server is ready", s, func(ctx context.Context) bool { return v.api(s, admin).Ready(ctx) == nil })
	return admin
}

func (v *vault) join(one, two *diskServer, admin string) {
	v.t.Helper()
	token := v.token("coordinator", v.api(one, admin))
	v.start(two, []string{"EDGECODER_JOIN_TOKEN=" + token}, "--join", one.gossip)
	v.waitFor("two voters", two, func(ctx context.Context) bool {
		st, err := v.api(one, admin).Status(ctx)
		return err == nil && len(st.Voters) == 2
	})
	v.waitFor("the second server is ready", two, func(ctx context.Context) bool { return v.api(two, admin).Ready(ctx) == nil })
}

// use makes an agent with its keys, lets it act, and lets others fail.
func (v *vault) use(one, two *diskServer, admin string) {
	v.t.Helper()
	ctx := v.t.Context()
	key, box := filepath.Join(v.keep, "agent.key"), filepath.Join(v.keep, "agent.box")
	agentPass, text := v.newPassphrase("agent passphrase")
	v.command(nil, "agent", "keygen", "--out", key, "--passphrase-file", agentPass)
	v.command(nil, "keys", "generate", "--type", "x25519", "--out", box, "--passphrase-file", agentPass)
	signing := v.openPEM(key, "agent-key", text)
	private, err := crypto.ParsePrivateKeyPEM(signing)
	if err != nil {
		v.t.Fatal(err)
	}
	v.addEd25519("agent's key", private.Seed())
	v.add("agent's X25519 key in PEM", pemBody(string(v.openPEM(box, "encryption-key", text))))
	v.add("agent's X25519 key", x25519Of(v.t, v.openPEM(box, "encryption-key", text)))
	enrol := v.token("agent", v.api(one, admin))
	v.command([]string{"EDGECODER_ADDR=https://" + two.api, "EDGECODER_CA=" + filepath.Join(two.dir, "ca.pem"), "EDGECODER_ENROLL_TOKEN=" + enrol},
		"agent", "enroll", "worker", "--key", key, "--passphrase-file", agentPass)
	api := v.api(two, admin)
	if _, err := api.ApproveAgent(ctx, "worker"); err != nil {
		v.t.Fatal(err)
	}
	worker := agent{"worker", private}
	verifier := v.token("verifier", api)
	got, err := v.api(one, verifier).Admit(ctx, worker.request(v.t, "n-1"))
	if err != nil || got.Verdict != client.VerdictAdmitted {
		v.t.Fatalf("admit: %+v, %v", got, err)
	}
	if got, err = v.api(two, verifier).Admit(ctx, worker.request(v.t, "n-1")); err != nil || got.Verdict == client.VerdictAdmitted {
		v.t.Fatalf("replay: %+v, %v", got, err)
	}
	v.refused(one, two, admin, enrol)
	if _, err := api.Ban(ctx, client.BanRequest{AgentID: "worker", ReasonCode: "manual_review", Reason: "done", EvidenceSHA256: strings.Repeat("ab", 32), ReporterID: "operator"}); err != nil {
		v.t.Fatal(err)
	}
	v.command([]string{"EDGECODER_ADDR=https://" + one.api, "EDGECODER_CA=" + filepath.Join(one.dir, "ca.pem"), "EDGECODER_TOKEN=" + admin},
		"snapshot", "save", filepath.Join(v.disk, "backups"))
}

// refused shows the servers secrets that they do not take: errors are what quotes.
func (v *vault) refused(one, two *diskServer, admin, used string) {
	v.t.Helper()
	ctx := v.t.Context()
	clusterID := strings.Split(admin, "_")[1]
	stranger, err := crypto.NewTokenText(rand.Reader, clusterID, "admin", "")
	if err != nil {
		v.t.Fatal(err)
	}
	v.addToken("a token that nobody made", stranger.String())
	for _, s := range []*diskServer{one, two} {
		for _, token := range []string{stranger.String(), used} {
			var e *client.Error
			if _, err := v.api(s, token).Tokens(ctx); !errors.As(err, &e) {
				v.t.Errorf("a wrong token: %v", err)
			}
			if _, err := v.api(s, "").Enroll(ctx, client.EnrollRequest{AgentID: "nobody", PublicKey: "no key", Token: token, Proof: "no proof"}); err == nil {
				v.t.Error("enrolled without a key")
			}
		}
	}
}

// changePassphrase gives both key files new passphrases, and starts both again.
func (v *vault) changePassphrase(one, two *diskServer, admin string) {
	v.t.Helper()
	next, text := v.newPassphrase("second passphrase")
	for _, s := range []*diskServer{one, two} {
		v.command(nil, "keys", "passphrase", filepath.Join(s.dir, "node.keys"), "--passphrase-file", v.passphrase, "--new-passphrase-file", next, "--cost", "100000")
		v.command(nil, "keys", "inspect", filepath.Join(s.dir, "node.keys"), "--open", "--passphrase-file", next)
	}
	v.passphrase = next
	v.start(one, nil)
	v.start(two, nil, "--join", one.gossip)
	v.waitFor("they serve again", one, func(ctx context.Context) bool { return v.api(one, admin).Ready(ctx) == nil })
	two.stop(v.t)
	one.stop(v.t)
	v.addNode("one", one.dir, text)
	v.addNode("two", two.dir, text)
}

func (v *vault) openPEM(path, purpose string, passphrase []byte) []byte {
	v.t.Helper()
	data, err := keyfile.ReadPrivate(path)
	if err != nil {
		v.t.Fatal(err)
	}
	text, err := keyfile.Open(passphrase, purpose, data)
	if err != nil {
		v.t.Fatal(err)
	}
	return text
}

func x25519Of(t *testing.T, text []byte) []byte {
	t.Helper()
	key, err := crypto.ParseEncryptionKeyPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	return key.Bytes()
}
