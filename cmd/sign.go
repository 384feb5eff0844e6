package cmd

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
)

// maxBodyBytes bounds a request body that is read to be hashed.
const maxBodyBytes = 64 << 20

func (p *program) signCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign one request as an agent and print its five headers",
		UsageText: "edgecoder sign --key FILE --agent ID METHOD PATH [--body FILE]",
		Description: "PATH is the bare route, without host or query. The headers are good for one request.\n\n" +
			"Examples:\n  edgecoder sign --key agent-1.key --agent agent-1 POST /tasks --body task.json > headers\n" +
			"  curl -H @headers --data-binary @task.json https://service.example/tasks\n" +
			"  edgecoder sign --key agent-1.key --agent agent-1 GET /tasks | edgecoder admit --method GET --path /tasks",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the agent's key `FILE`, encrypted or PKCS#8 PEM"},
			&cli.StringFlag{Name: "agent", Usage: "the agent's `ID`"},
			&cli.StringFlag{Name: "body", Usage: "`FILE` with the exact bytes of the body, - for standard input; without it the body is empty"},
			&cli.Int64Flag{Name: "timestamp-ms", Usage: "sign this time instead of now"},
			&cli.StringFlag{Name: "nonce", Usage: "sign this nonce instead of a fresh one; a nonce works once"},
			passphraseFlag(),
		},
		Action: p.sign,
	}
}

func (p *program) sign(c *cli.Context) error {
	args, err := operands(c, "METHOD", "PATH")
	if err != nil {
		return err
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	if c.String("agent") == "" {
		return usagef("--agent is missing: name the agent that signs")
	}
	body, err := p.requestBody(c)
	if err != nil {
		return err
	}
	nonce, timestamp := c.String("nonce"), p.now().UnixMilli()
	if nonce == "" {
		if nonce, err = crypto.NewUUID(p.rand); err != nil {
			return err
		}
	}
	if c.IsSet("timestamp-ms") {
		timestamp = c.Int64("timestamp-ms")
	}
	key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	signed, err := crypto.SignRequest(key, c.String("agent"), args[0], args[1], body, timestamp, nonce)
	if err != nil {
		return usagef("%w", err)
	}
	if format == formatJSON {
		return writeJSON(p.out, headerObject(signed))
	}
	for _, h := range signed.Headers() {
		fmt.Fprintf(p.out, "%s: %s\n", h[0], h[1])
	}
	return nil
}

func headerObject(signed crypto.SignedRequest) map[string]string {
	object := make(map[string]string, 5)
	for _, h := range signed.Headers() {
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

// signatureHeaders are the five that an admission is about.
var signatureHeaders = []string{
	crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature,
}

// parseHeaders reads `Name: value` lines and keeps the five of a signature:
// others, such as cookies, are nobody's business. One given twice is refused,
// since two readers might take different ones.
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
		if !isSignatureHeader(name) {
			continue
		}
		if _, twice := headers[name]; twice {
			return nil, usagef("--headers: line %d: %s is given twice", i+1, name)
		}
		headers[name] = strings.TrimSpace(value)
	}
	return headers, nil
}

func isSignatureHeader(name string) bool {
	for _, h := range signatureHeaders {
		if h == name {
			return true
		}
	}
	return false
}
