package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A seed sees each request of a joiner and each question of an edge, and could repeat it
// at another one, long after it was removed. So whoever asks shows the TLS key that the
// request names, in the handshake of that very connection (RFC 8446, 4.4.3), and what is
// secret in the answer to a server is sealed to its encryption key besides. Binaries
// before fsm.LevelKeys show no key, and read no sealed answer: they are answered as they
// ask below that level, and edges for as long as that tells nobody a key that is new to him.

// showing has a TLS configuration prove the key that this identity joins with. Nobody
// asks who issued the certificate, or until when it is good.
func (id *identity) showing(config *tls.Config) (*tls.Config, error) {
	key, err := readTLSKey(id.TLSKey)
	if err != nil {
		return nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: number, Subject: pkix.Name{CommonName: id.NodeID},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} // RFC 5280, 4.1.2.5
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.signer.Public(), key.signer)
	if err != nil {
		return nil, fmt.Errorf("certificate to join with: %w", err)
	}
	shown := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.signer}
	config = config.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	return config, nil
}

type joinerKey struct{}

// withJoiner is an http.Server.ConnContext that notes which TLS key a joiner proved.
func withJoiner(ctx context.Context, c net.Conn) context.Context {
	if j, ok := c.(*joinConn); ok && len(j.public) > 0 {
		return context.WithValue(ctx, joinerKey{}, crypto.Sum(j.public))
	}
	return ctx
}

// provesKey tells whether whoever asks proved the TLS key (PKIX) that the request names. Who
// proved another one is refused.
func provesKey(r *http.Request, public []byte) (bool, error) {
	shown, any := r.Context().Value(joinerKey{}).(crypto.Hash)
	if any && shown != crypto.Sum(public) {
		return false, &client.Error{Code: client.CodeForbidden, Field: "tls_public", Detail: "the connection is not of the TLS key that the request names"}
	}
	return any, nil
}

// toldWithoutProof tells whether a server that asks without a proof may be told the keys
// that all share: from LevelKeys on those that may join show theirs (Apply refuses older ones).
func toldWithoutProof(s *fsm.State) bool { return s.Meta().Level < fsm.LevelKeys }

// edgeToldWithoutProof is the same of an edge, which may be of an older binary: whoever
// could have seen its request knows the keys anyway.
func edgeToldWithoutProof(s *fsm.State) bool {
	return toldWithoutProof(s) || s.SharedWithAll() && !s.TLSKeyRevoked()
}

// errUnproved is no refusal of the credential: an edge that hears it goes on with what it has.
func errUnproved() error {
	return &client.Error{Code: client.CodeConflict, Field: "tls_public",
		Detail: "who asks shows no certificate of the TLS key that the request names, as older binaries do not, and what a seed hears may be in wrong hands by now: a member left and the keys of the cluster were replaced, or a TLS key was revoked. Upgrade this binary and start it again"}
}

// sealed is the answer with its secrets sealed to the encryption key on record.
func (n *Node) sealed(r joinReply, set *sharedSet, to []byte) (joinReply, error) {
	var err error
	if r.Sealed, r.Signer, err = n.sealShared(set, to); err != nil {
		return r, &client.Error{Code: client.CodeUnavailable, Detail: fmt.Sprintf("the keys of the cluster cannot be sealed to the joiner here, ask another node: %v", err)}
	}
	r.CAKey, r.PoolKeys = nil, nil
	r.MoreCAs = set.forRole(fsm.RoleEdge).cas[1:]
	return r, nil
}

// open reads the keys that all share in an answer to this identity, which joins in a role.
// Seeds of older binaries seal nothing.
func (r joinReply) open(id *identity, role fsm.Role) (*sharedSet, error) {
	set := &sharedSet{asOf: r.AsOf, ring: r.PoolKeys, cas: append([]authority{{Cert: r.CACert, Key: r.CAKey}}, r.MoreCAs...)}
	if len(r.Sealed) > 0 && (len(r.PoolKeys) > 0 || set.tellsCAKey()) || len(r.Sealed) > 2*maxShared {
		return nil, errors.New("secrets both sealed and in clear, or too many")
	}
	as := *id
	as.Role = role
	for _, k := range r.Sealed {
		if err := as.openSealed(set, k, r.Signer); err != nil {
			return nil, fmt.Errorf("%s key %s: %w", k.Kind, k.ID, err)
		}
	}
	return set, set.check()
}

func (s *sharedSet) tellsCAKey() bool {
	for _, a := range s.cas {
		if len(a.Key) > 0 {
			return true
		}
	}
	return false
}
