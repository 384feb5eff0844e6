package cmd

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// maxBodyBytes bounds a request body that is read to be hashed.
const maxBodyBytes = 64 << 20

func (p *program) signCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign one request as an agent and print its headers",
		UsageText: "edgecoder sign --key FILE --agent ID METHOD URL|PATH [--body FILE] [--profile NAME] [--authority HOST]",
		Description: "With a URL the signature is an HTTP message signature (RFC 9421), which binds host, path, query, body, agent\n" +
			"and key. With a bare PATH it is the five headers that existing services know, which bind neither host nor query.\n" +
			"The headers are good for one request.\n\n" +
			"Examples:\n  edgecoder sign --key agent-1.key --agent agent-1 POST 'https://service.example/tasks?urgent=1' --body task.json > headers\n" +
			"  curl -H @headers --data-binary @task.json 'https://service.example/tasks?urgent=1'\n" +
			"  edgecoder sign --key agent-1.key --agent agent-1 GET /tasks | edgecoder admit --method GET --path /tasks\n" +
			"  edgecoder sign --key agent-1.key --agent agent-1 --profile rfc9421 --authority service.example GET /tasks |\n" +
			"    edgecoder admit --method GET --path /tasks --authority service.example",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the agent's key `FILE`, encrypted or PKCS#8 PEM"},
			&cli.StringFlag{Name: "agent", Usage: "the agent's `ID`"},
			&cli.StringFlag{Name: "body", Usage: "`FILE` with the exact bytes of the body, - for standard input; without it the body is empty"},
			&cli.StringFlag{Name: "profile", Usage: "`NAME` of the signature profile, rfc9421 or five-header; by default rfc9421 for a URL, five-header for a path"},
			&cli.StringFlag{Name: "authority", Usage: "`HOST` of the service, with its port unless that is 80 or 443; by default that of the URL"},
			&cli.DurationFlag{Name: "expires", Value: defaultLifetime, Usage: "with rfc9421: end of the signature, `DURATION` after the signed time, in whole seconds"},
			&cli.Int64Flag{Name: "timestamp-ms", Usage: "sign this time instead of now; rfc9421 signs its whole second"},
			&cli.StringFlag{Name: "nonce", Usage: "sign this nonce instead of a fresh one; a nonce works once"},
			passphraseFlag(),
		},
		Action: p.sign,
	}
}

// defaultLifetime is long enough to send the request, and for a retry or two.
const defaultLifetime = time.Minute

func (p *program) sign(c *cli.Context) error {
	args, err := operands(c, "METHOD", "PATH")
	if err != nil {
		return err
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	order, err := p.signOrder(c, args[0], args[1])
	if err != nil {
		return err
	}
	if order.body, err = p.requestBody(c); err != nil {
		return err
	}
	key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	headers, err := order.sign(key)
	if err != nil {
		return usagef("%w", err)
	}
	if format == formatJSON {
		return writeJSON(p.out, headerObject(headers))
	}
	for _, h := range headers {
		fmt.Fprintf(p.out, "%s: %s\n", h[0], h[1])
	}
	return nil
}

// signOrder is what `sign` is asked to sign.
type signOrder struct {
	profile           crypto.Profile
	agent             string
	method, target    string // target: path, with the query under rfc9421
	authority         string
	body              []byte
	nonce             string
	timestampMs, life int64 // life: milliseconds
}

func (p *program) signOrder(c *cli.Context, method, operand string) (signOrder, error) {
	o := signOrder{agent: c.String("agent"), method: method, target: operand, authority: c.String("authority"),
		nonce: c.String("nonce"), timestampMs: p.now().UnixMilli(), life: c.Duration("expires").Milliseconds()}
	if o.agent == "" {
		return o, usagef("--agent is missing: name the agent that signs")
	}
	host, target, isURL, err := splitURL(operand)
	if err != nil {
		return o, err
	}
	if isURL {
		o.profile, o.target = crypto.ProfileRFC9421, target
		o.authority = cmp.Or(o.authority, host)
	}
	if name := c.String("profile"); name != "" {
		if o.profile, err = crypto.ParseProfile(name); err != nil {
			return o, usagef("--profile: %w", err)
		}
	}
	if err := o.check(c, isURL); err != nil {
		return o, err
	}
	if c.IsSet("timestamp-ms") {
		o.timestampMs = c.Int64("timestamp-ms")
	}
	if o.nonce == "" {
		o.nonce, err = crypto.NewUUID(p.rand)
	}
	return o, err
}

// check refuses what the profile would leave unsigned although it was given.
func (o *signOrder) check(c *cli.Context, isURL bool) error {
	if o.profile == crypto.ProfileRFC9421 {
		if o.authority == "" {
			return usagef("--authority is missing: an HTTP message signature is for one host; name it, or give the whole URL instead of a path")
		}
		if o.life%1000 != 0 || o.life < 1000 || o.life > httpsig.MaxLifetime*1000 {
			return usagef("--expires %s: want whole seconds, 1s to %s", c.Duration("expires"), httpsig.MaxLifetime*time.Second)
		}
		return nil
	}
	switch {
	case isURL && strings.Contains(o.target, "?"):
		return usagef("the five headers do not sign a query: give the bare path that the service verifies, or --profile rfc9421")
	case c.IsSet("authority"), c.IsSet("expires"):
		return usagef("--authority and --expires belong to --profile rfc9421: the five headers sign neither host nor end")
	}
	return nil
}

// splitURL returns the host and the request target of an absolute http or https URL.
func splitURL(operand string) (host, target string, isURL bool, err error) {
	if !strings.Contains(operand, "://") || strings.HasPrefix(operand, "/") {
		return "", "", false, nil
	}
	u, err := url.Parse(operand)
	switch {
	case err != nil:
		return "", "", false, usagef("%q is no URL: %w", operand, err)
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.User != nil, u.Fragment != "":
		return "", "", false, usagef("%q: want a URL such as https://service.example/tasks?urgent=1, without user or fragment", operand)
	}
	return u.Host, u.RequestURI(), true, nil
}

// sign returns the headers as pairs of name and value.
func (o *signOrder) sign(key crypto.PrivateKey) ([][2]string, error) {
	if o.profile == crypto.ProfileFiveHeader {
		signed, err := crypto.SignRequest(key, o.agent, o.method, o.target, o.body, o.timestampMs, o.nonce)
		if err != nil {
			return nil, err
		}
		return signed.Headers(), nil
	}
	created := o.timestampMs / 1000
	signed, err := httpsig.Sign(key,
		httpsig.Params{AgentID: o.agent, Created: created, Expires: created + o.life/1000, Nonce: o.nonce},
		httpsig.Request{Method: o.method, Authority: o.authority, Target: o.target, BodySHA256: crypto.Sum(o.body)})
	if err != nil {
		return nil, err
	}
	return signed.Headers(), nil
}

func headerObject(headers [][2]string) map[string]string {
	object := make(map[string]string, len(headers))
	for _, h := range headers {
		object[h[0]] = h[1]
	}
	return object
}

// requestBody returns the bytes of --body, none without it.
func (p *program) requestBody(c *cli.Context) ([]byte, error) {
	if c.String("body") == "" {
		return nil, nil
	}
	return p.readInput("body", c.String("body"), maxBodyBytes)
}

// signatureHeaders are what an admission is about, in either profile.
var signatureHeaders = []string{
	crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature,
	httpsig.HeaderSignatureInput, httpsig.HeaderSignature, httpsig.HeaderContentDigest, httpsig.HeaderHost,
}

// listHeaders may stand in several lines, which are one list (RFC 9110 section 5.3).
var listHeaders = []string{httpsig.HeaderSignatureInput, httpsig.HeaderSignature, httpsig.HeaderContentDigest}

// parseHeaders reads `Name: value` lines and keeps those of a signature:
// others, such as cookies, are nobody's business. One given twice that is no
// list is refused, since two readers might take different ones.
func parseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, usagef("--headers: line %d: want `Name: value`", i+1)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(signatureHeaders, name) {
			continue
		}
		value = strings.TrimSpace(value)
		if before, twice := headers[name]; twice {
			if !slices.Contains(listHeaders, name) {
				return nil, usagef("--headers: line %d: %s is given twice", i+1, name)
			}
			value = before + ", " + value
		}
		headers[name] = value
	}
	return headers, nil
}
