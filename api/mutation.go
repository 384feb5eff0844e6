package api

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxKeyBytes bounds the Idempotency-Key header.
const maxKeyBytes = 128

// propose has a mutation decided under the call's idempotency key. A refusal
// by the state is an error here.
func (c *call) propose(body any) (fsm.Result, error) {
	res, err := c.decideOnce(body)
	if err == nil && !res.OK() {
		err = refusal(res)
	}
	return res, err
}

// decideOnce is propose with refusals as data.
func (c *call) decideOnce(body any) (fsm.Result, error) {
	if err := c.settleKey(); err != nil {
		return fsm.Result{}, err
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: c.token.ID}, body)
	if err != nil {
		return fsm.Result{}, err
	}
	cmd.Idem = c.idempotency()
	return c.decide(cmd)
}

// decide proposes a command and takes an unclear failure for what it is: an
// unknown outcome.
func (c *call) decide(cmd fsm.Command) (fsm.Result, error) {
	if err := c.s.mayChange(); err != nil {
		return fsm.Result{}, err
	}
	res, err := c.s.node.Propose(c.ctx, cmd)
	if err == nil {
		c.proposed, c.result = res.OK(), res.ID
		c.index = max(c.index, res.Index)
		return res, nil
	}
	var e *client.Error
	if !errors.As(err, &e) {
		c.s.cfg.Log.Error("proposal failed without a code", "request_id", c.requestID, "error", err)
		e = &client.Error{Code: client.CodeUnknownOutcome, Detail: "the change may have been made: ask again under the same id"}
	}
	named := *e
	named.IdempotencyKey = c.key
	return res, &named
}

// settleKey takes the caller's idempotency key, or makes one so that an
// unknown outcome can name it.
func (c *call) settleKey() error {
	if c.key != "" {
		return nil
	}
	key, ok := "", true
	if !c.route.wire() {
		key, ok = header(c.r.Header, client.HeaderIdempotencyKey)
		if _, given := c.r.Header[client.HeaderIdempotencyKey]; given && (!ok || !printable(key)) {
			return invalid(client.HeaderIdempotencyKey, fmt.Sprintf("give one value of 1 to %d printable ASCII characters", maxKeyBytes))
		}
	}
	if key == "" {
		var err error
		if key, err = crypto.NewUUID(c.s.cfg.Rand); err != nil {
			return err
		}
	}
	c.key = key
	return nil
}

func printable(s string) bool {
	if s == "" || len(s) > maxKeyBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// idempotency scopes the key to who asks for what, and binds it to all that
// decides the outcome besides: query, precondition and body.
func (c *call) idempotency() *fsm.Idempotency {
	return &fsm.Idempotency{
		Key:  hashParts("edgecoder idempotency key v1", c.token.ID, c.r.Method, c.r.URL.EscapedPath(), c.key),
		Body: hashParts("edgecoder idempotency body v1", c.r.URL.RawQuery, c.r.Header.Get("If-Match"), c.body),
	}
}

func hashParts(label string, parts ...string) crypto.Hash {
	text := append([]byte(label), '\n')
	for _, p := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(p)))
		text = append(text, p...)
	}
	return crypto.Sum(text)
}
