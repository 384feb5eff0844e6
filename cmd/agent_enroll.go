package cmd

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// ownTokenLife is how long an enrolment token lives that this command makes
// for itself: it uses it at once.
const ownTokenLife = 10 * time.Minute

func (p *program) agentEnrollCommand() *cli.Command {
	return &cli.Command{
		Name: "enroll", Usage: "bind an agent id to a key, for ever",
		UsageText: "edgecoder agent enroll --key FILE --agent ID [--enroll-token-file FILE]",
		Description: "The enrolment token (role agent) is the only credential needed: give it by file or in EDGECODER_ENROLL_TOKEN.\n" +
			"Without one, but with an admin's API token, the command makes an enrolment token for itself first.\n\n" +
			"Examples:\n  edgecoder agent enroll --key agent-1.key --agent agent-1 --enroll-token-file enroll.token\n" +
			"  EDGECODER_ENROLL_TOKEN=… edgecoder agent enroll agent-1 --key agent-1.key",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the agent's key `FILE`"},
			&cli.StringFlag{Name: "agent", Usage: "the agent's `ID`, if it is not the argument"},
			&cli.StringFlag{Name: "enroll-token-file", EnvVars: []string{"EDGECODER_ENROLL_TOKEN_FILE"}, Usage: "`FILE` with the enrolment token, - for standard input"},
			&cli.StringFlag{Name: "enroll-token", Usage: "enrolment token; rather use --enroll-token-file or EDGECODER_ENROLL_TOKEN"},
			&cli.StringFlag{Name: "encryption-key", Usage: "the agent's X25519 public `KEY`, for what is sealed to it: base64 of the raw key, or a file with that or with PEM"},
			passphraseFlag(),
		},
		Action: p.agentEnroll,
	}
}

func (p *program) agentEnroll(c *cli.Context) error {
	id, err := agentOperand(c)
	if err != nil {
		return err
	}
	var box *ecdh.PublicKey
	if text := c.String("encryption-key"); text != "" {
		if box, err = p.encryptionPublicKey("encryption-key", text); err != nil {
			return err
		}
	}
	key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	token, err := p.enrollToken(c, id)
	if err != nil {
		return err
	}
	req, err := enrollRequest(id, token, key)
	if err != nil {
		return err
	}
	if err := proveEncryptionKey(&req, key, box); err != nil {
		return err
	}
	api, err := p.dialPinned(c, token)
	if err != nil {
		return err
	}
	agent, err := api.Enroll(c.Context, req)
	if err != nil {
		return hintFor(err, "give an enrolment token that is neither used up nor expired with --enroll-token-file or EDGECODER_ENROLL_TOKEN; an admin makes one: `edgecoder token create --role agent`")
	}
	if err := p.emit(c, agent, func(t *table) { drawAgent(t, agent) }); err != nil {
		return err
	}
	switch {
	case agent.EncryptionKey != req.EncryptionKey:
		return refusedf("agent %s is enrolled with the encryption key %s, not with the one that was given: somebody changed the enrolment on its way; revoke the agent and enrol a new id with a new key", id, orDash(agent.EncryptionKey))
	case agent.EncryptionProof != req.EncryptionProof:
		p.say("warning: the cluster did not keep the proof of the encryption key, so `edgecoder envelope seal --agent` will refuse the key: upgrade its servers before agents enrol with one")
	}
	if agent.State == "pending" {
		p.say("it may act once an operator approves it: edgecoder agent approve %s", shellWord(id))
	}
	return nil
}

// agentOperand returns the agent id, from --agent or as the argument.
func agentOperand(c *cli.Context) (string, error) {
	args, err := operands(c, "[ID]")
	if err != nil {
		return "", err
	}
	id := c.String("agent")
	switch {
	case id == "" && len(args) == 0:
		return "", usagef("the agent's id is missing: give --agent ID")
	case id != "" && len(args) > 0 && args[0] != id:
		return "", usagef("two agent ids, %q and %q: give one", id, args[0])
	case id == "":
		id = args[0]
	}
	if err := crypto.CheckID(id); err != nil {
		return "", usagef("--agent: %w", err)
	}
	return id, nil
}

// enrollToken returns the enrolment token that was given, or a fresh one made
// with the caller's own API token: on the first day that is all people have.
func (p *program) enrollToken(c *cli.Context, id string) (string, error) {
	token, err := p.secret(c, secretSource{
		what: "enrolment token", flag: "enroll-token", file: "enroll-token-file", env: "EDGECODER_ENROLL_TOKEN",
	})
	if err != nil || token != "" {
		return token, err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return "", usagef("no enrolment token: give --enroll-token-file or EDGECODER_ENROLL_TOKEN (an admin makes one with `edgecoder token create --role agent`)\n  and none can be made here: %w", err)
	}
	defer api.Close()
	p.say("no enrolment token given: making one with your API token")
	made, err := api.CreateToken(c.Context, client.TokenRequest{Role: "agent", Uses: 1, TTLMs: ownTokenLife.Milliseconds(), Label: "enrolment of " + shorten(id, 100)})
	if err != nil {
		return "", err
	}
	return made.Token, nil
}

// shorten cuts s to at most n bytes of whole characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// enrollRequest proves possession of the key towards the token's cluster.
func enrollRequest(id, token string, key crypto.PrivateKey) (client.EnrollRequest, error) {
	parsed, err := crypto.ParseTokenText(token)
	if err != nil {
		return client.EnrollRequest{}, usagef("enrolment token: %w", err)
	}
	if parsed.Role != "agent" {
		return client.EnrollRequest{}, usagef("the enrolment token is of role %s: want one of role agent (`edgecoder token create --role agent`)", parsed.Role)
	}
	proof := ed25519.Sign(key, crypto.EnrollProofText(parsed.ClusterID, id, token))
	return client.EnrollRequest{
		AgentID: id, PublicKey: crypto.PublicOf(key).PEM(), Token: token, Proof: base64.StdEncoding.EncodeToString(proof),
	}, nil
}

// proveEncryptionKey adds the encryption key, and the agent's signature on it,
// so that nobody on the way or in the cluster can put another in its place.
func proveEncryptionKey(req *client.EnrollRequest, key crypto.PrivateKey, pub *ecdh.PublicKey) error {
	if pub == nil {
		return nil
	}
	token, err := crypto.ParseTokenText(req.Token)
	if err != nil {
		return usagef("enrolment token: %w", err)
	}
	req.EncryptionKey = base64.StdEncoding.EncodeToString(pub.Bytes())
	req.EncryptionProof = base64.StdEncoding.EncodeToString(crypto.SignEncryptionKey(key, token.ClusterID, req.AgentID, pub.Bytes()))
	return nil
}

// dialPinned connects without an API token. A machine that has no CA file
// trusts the CA that the enrolment token pins.
func (p *program) dialPinned(c *cli.Context, token string) (*client.Client, error) {
	addrs, err := addresses(c.String("addr"))
	if err != nil {
		return nil, err
	}
	parsed, err := crypto.ParseTokenText(token)
	if err != nil {
		return nil, usagef("enrolment token: %w", err)
	}
	return p.dialWith(c, client.Config{Addrs: addrs, CAPin: parsed.Pin})
}
