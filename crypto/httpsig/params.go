package httpsig

import (
	"errors"
	"fmt"

	"github.com/dunglas/httpsfv"

	"github.com/edgecoder/edgecoder/crypto"
)

// params are the signature parameters of the profile.
type params struct {
	created, expires int64 // Unix seconds
	nonce            string
	agentID, keyID   string
}

// readParams reads the parameters of a signature whose tag is ours.
func readParams(p *httpsfv.Params) (out params, err error) {
	if out.created, err = seconds(p, "created"); err != nil {
		return out, err
	}
	if out.expires, err = seconds(p, "expires"); err != nil {
		return out, err
	}
	if life := out.expires - out.created; life < 1 || life > MaxLifetime {
		return out, fmt.Errorf("expires %d is %d s after created %d, want 1 to %d", out.expires, life, out.created, MaxLifetime)
	}
	if out.nonce, err = text(p, "nonce"); err != nil {
		return out, err
	}
	if err := crypto.CheckNonce(out.nonce); err != nil {
		return out, fmt.Errorf("nonce: %w", err)
	}
	keyid, err := text(p, "keyid")
	if err != nil {
		return out, err
	}
	if out.agentID, out.keyID, err = parseKeyID(keyid); err != nil {
		return out, fmt.Errorf("keyid: %w", err)
	}
	return out, checkRest(p)
}

// checkRest refuses another algorithm, and parameters that the profile does not know: what they should mean to
// whoever verifies would be lost.
func checkRest(p *httpsfv.Params) error {
	for _, name := range p.Names() {
		switch name {
		case "created", "expires", "nonce", "keyid", "tag":
		case "alg":
			if alg, _ := p.Get(name); alg != "ed25519" {
				return errors.New(`alg must be "ed25519", or absent`)
			}
		default:
			return fmt.Errorf("unknown parameter %q", cut(name))
		}
	}
	return nil
}

func seconds(p *httpsfv.Params, name string) (int64, error) {
	value, ok := p.Get(name)
	if !ok {
		return 0, fmt.Errorf("parameter %s is missing", name)
	}
	n, ok := value.(int64)
	if !ok || n < 1 || n > maxSeconds {
		return 0, fmt.Errorf("%s is not a time in whole seconds of 1 to %d", name, int64(maxSeconds))
	}
	return n, nil
}

func text(p *httpsfv.Params, name string) (string, error) {
	value, ok := p.Get(name)
	if !ok {
		return "", fmt.Errorf("parameter %s is missing", name)
	}
	s, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}
