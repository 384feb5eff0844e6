package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// With Config.RequireManifest a node runs only a binary that the cluster has
// accepted: the digest of its own executable must be that of a version of that
// name which is kept and was not revoked, and whose signers are trusted now. It
// asks twice:
//   - Before it joins it asks the seed, over the join service that its token
//     pins, before the join is proposed: a refused node costs neither token nor name.
//     Here the version must not have expired either.
//   - At each start it asks its own state, as of a read that a leader confirmed,
//     and serves nothing until then. Raft runs meanwhile: in a cluster where all
//     nodes ask, there would never be a leader if nobody voted. What was accepted
//     starts again after its expiry: a cluster that lost power for longer could
//     renew nothing if it did not.
//
// It fails closed: what cannot be asked is refused.

// ErrManifest is in the chain of the error of a node whose binary was not accepted.
var ErrManifest = errors.New("this binary is not accepted by the cluster")

const manifestPath = "/manifest"

// manifestRequest asks what the cluster accepted under a name.
type manifestRequest struct {
	Token string `cbor:"1,keyasint"` // of a join that is to follow
	Name  string `cbor:"2,keyasint"`
}

type manifestReply struct {
	Row     fsm.Manifest      `cbor:"1,keyasint"` // without versions when nothing was accepted
	ClockMs int64             `cbor:"2,keyasint"` // the cluster's
	Trust   fsm.ManifestTrust `cbor:"3,keyasint"`
}

// executable opens the file that this process runs: on Linux the very file, even
// if another has its name by now.
func executable() (io.ReadCloser, error) {
	if runtime.GOOS == "linux" {
		return os.Open("/proc/self/exe")
	}
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// ownDigest hashes the executable, if a manifest is required of it.
func (c Config) ownDigest() (digest crypto.Hash, err error) {
	if c.RequireManifest == "" {
		return digest, nil
	}
	open := c.executable
	if open == nil {
		open = executable
	}
	f, err := open()
	if err != nil {
		return digest, fmt.Errorf("%w: its executable cannot be read: %w", ErrManifest, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return digest, fmt.Errorf("%w: its executable cannot be read: %w", ErrManifest, err)
	}
	return crypto.Hash(h.Sum(nil)), nil
}

// checkDigest holds the digest of this binary against what was accepted, and
// against who is trusted now. With nowMs 0 nothing has expired.
func checkDigest(name string, digest crypto.Hash, row fsm.Manifest, trust fsm.ManifestTrust, nowMs int64) error {
	v, state := row.Standing(digest, trust, nowMs)
	why := ""
	switch state {
	case fsm.ManifestActive:
		return nil
	case fsm.ManifestExpired, fsm.ManifestRevoked:
		why = fmt.Sprintf("version %s of %q has it, which is %s", v.Statement.Version, name, state)
	case fsm.ManifestUntrusted:
		why = fmt.Sprintf("version %s of %q has it, whose signers are trusted no more, or too few", v.Statement.Version, name)
	default:
		why = fmt.Sprintf("no version of %q that is kept has it: ", name) + newestText(row)
	}
	return fmt.Errorf("%w: its sha256 is %s, and %s; sign it with `edgecoder manifest sign --name %s …` and have it accepted with `edgecoder manifest accept`",
		ErrManifest, digest, why, name)
}

// startFault tells why a member may not start with a binary. Expired is good
// enough: renewing takes a node that serves.
func startFault(name string, digest crypto.Hash, s *fsm.State) error {
	row, _ := s.Manifest(name)
	return checkDigest(name, digest, row, s.ManifestTrust(), 0)
}

func newestText(row fsm.Manifest) string {
	if len(row.Versions) == 0 {
		return "nothing was accepted under that name"
	}
	st := row.Newest().Statement
	return fmt.Sprintf("the newest accepted is %s with sha256 %s", st.Version, st.SHA256)
}

// serveManifest answers a node that is about to join. Its token is asked for as
// for the join, so that strangers learn nothing; it is not used up.
func (n *Node) serveManifest(r *http.Request) (manifestReply, error) {
	var req manifestRequest
	var reply manifestReply
	leave, err := n.admitJoiner(r, &req)
	if err != nil {
		return reply, err
	}
	defer leave()
	if err := n.mayAskManifest(r.Context(), req.Token); err != nil {
		return reply, err
	}
	// Strong: what was accepted at another node a moment ago counts.
	_, err = n.Read(r.Context(), api.ReadOptions{Strong: true}, func(s *fsm.State) {
		reply.Row, _ = s.Manifest(req.Name)
		reply.ClockMs, reply.Trust = s.ClockMs(), s.ManifestTrust()
	})
	return reply, err
}

func (n *Node) mayAskManifest(ctx context.Context, text string) error {
	if err := n.Serving(); err != nil {
		return err
	}
	token, err := crypto.ParseTokenText(text)
	if err != nil || token.ClusterID != n.id.ClusterID {
		return errJoinToken("is none of this cluster")
	}
	stored, err := n.joinToken(ctx, token)
	if err != nil {
		return err
	}
	if !stored.Hash.Equal(token.Hash()) || stored.State(n.clockMs()) == "expired" || stored.RevokedMs != 0 {
		return errJoinToken("is unknown, expired or revoked")
	}
	if stored.Role != fsm.RoleCoordinator && stored.Role != fsm.RoleObserver {
		return &client.Error{Code: client.CodeForbidden, Field: "role", Detail: fmt.Sprintf("a token of role %s opens no join", stored.Role)}
	}
	return nil
}

// askSeed asks a seed whether the cluster accepted this binary.
func askSeed(ctx context.Context, seed string, token crypto.TokenText, cfg Config) error {
	if cfg.RequireManifest == "" {
		return nil
	}
	digest, err := cfg.ownDigest()
	if err != nil {
		return err
	}
	var reply manifestReply
	_, err = postSeed(ctx, cfg, seed, joinDial(token), manifestPath, manifestRequest{Token: token.String(), Name: cfg.RequireManifest}, &reply)
	if err != nil {
		return fmt.Errorf("ask whether this binary was accepted: %w", err)
	}
	return checkDigest(cfg.RequireManifest, digest, reply.Row, reply.Trust, reply.ClockMs)
}

// manifestLoop asks the state about this binary once there is a leader, and ends
// the node if it was not accepted. Then it warns of what would stop the next start.
func (n *Node) manifestLoop(ctx context.Context) {
	if n.cfg.RequireManifest == "" {
		return
	}
	var fault error
	for {
		_, err := n.Read(ctx, api.ReadOptions{Strong: true}, func(s *fsm.State) { fault = startFault(n.cfg.RequireManifest, n.binary, s) })
		if err == nil {
			break
		}
		if !pause(ctx, retryPause) {
			return
		}
	}
	if fault != nil {
		n.note("manifest_signature_failure", audit.LevelCritical, "not_accepted", map[string]string{"subject": n.cfg.RequireManifest, "sha256": n.binary.String(), "detail": fault.Error()})
		n.fail(fault)
		return
	}
	n.accepted.Store(true)
	n.log.Info("this binary is accepted", "name", n.cfg.RequireManifest, "sha256", n.binary)
	for ok := true; ok; ok = pause(ctx, manifestWarnPause) {
		if st, now := n.manifestStatus(); manifestFault(*st, now) != "" {
			n.log.Warn("the manifest of this binary: "+manifestFault(*st, now), "name", st.Name, "version", st.Version, "state", st.State, "expires_ms", st.ExpiresMs)
		}
	}
}

const (
	// manifestWarnPause is how often a node says what is wrong with its manifest: a few times a working day.
	manifestWarnPause = 3 * time.Hour
	// manifestWarnMs is how long before its end a manifest is warned of: a week, so that a working day is in it.
	manifestWarnMs = 7 * 24 * 3_600_000
)

// manifestStatus tells where the manifest of this binary stands, nil if none is
// required, and the cluster's time.
func (n *Node) manifestStatus() (out *client.ManifestStatus, nowMs int64) {
	if n.cfg.RequireManifest == "" {
		return nil, 0
	}
	out = &client.ManifestStatus{Name: n.cfg.RequireManifest, SHA256: n.binary.String(), State: "unknown"}
	n.machine.Read(func(s *fsm.State) {
		row, _ := s.Manifest(out.Name)
		nowMs = s.ClockMs()
		if v, state := row.Standing(n.binary, s.ManifestTrust(), nowMs); state != "" {
			out.Version, out.ExpiresMs, out.State = v.Statement.Version, v.Statement.ExpiresMs, string(state)
		}
	})
	return out, nowMs
}

// manifestFault says what of a manifest needs somebody's hand, or "".
func manifestFault(st client.ManifestStatus, nowMs int64) string {
	switch fsm.ManifestState(st.State) {
	case fsm.ManifestActive:
		if st.ExpiresMs-nowMs < manifestWarnMs {
			return "it expires soon: nodes that run this binary cannot join then; sign it again and have it accepted"
		}
		return ""
	case fsm.ManifestExpired:
		return "it has expired: nodes that run this binary start, but cannot join; sign it again and have it accepted"
	}
	return "it is in force no more: this node will not start again with this binary"
}

// mayServeBinary refuses while it is not known whether this binary was accepted.
func (n *Node) mayServeBinary() error {
	if n.cfg.RequireManifest == "" || n.accepted.Load() {
		return nil
	}
	return &client.Error{Code: client.CodeUnavailable, Reason: "manifest", RetryAfter: time.Second,
		Detail: "this node does not know yet whether its binary was accepted: ask another one"}
}
