package cmd

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// maxHeaderBytes bounds what is read as headers.
const maxHeaderBytes = 64 << 10

func (p *program) admitCommand() *cli.Command {
	return &cli.Command{
		Name: "admit", Usage: "ask the cluster for the verdict on a signed request",
		UsageText: "edgecoder admit --method M --path P [--headers FILE] [--body FILE] [--authority HOST]",
		Description: "Exit status: 0 admitted, 1 denied, 3 undecided. A request is admitted once: asking again under the same\n" +
			"--claim-id gets the first answer, under another one it is a replay.\n\n" +
			"An HTTP message signature is for one host. Say with --authority which one you answer for: a Host among the headers\n" +
			"is what the sender wrote, and is not looked at.\n\n" +
			"Examples:\n  edgecoder sign --key agent-1.key --agent agent-1 POST /tasks | edgecoder admit --method POST --path /tasks\n" +
			"  edgecoder admit --method POST --path /tasks --headers headers --body task.json\n" +
			"  edgecoder admit --method POST --path '/tasks?urgent=1' --headers headers --authority service.example",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "method", Usage: "the request's method, in capitals"},
			&cli.StringFlag{Name: "path", Usage: "the request's path, without host; under an HTTP message signature with its query"},
			&cli.StringFlag{Name: "authority", Usage: "`HOST` that you answer for, with its port unless that is 80 or 443; needed for an HTTP message signature"},
			&cli.StringFlag{Name: "headers", Value: "-", Usage: "`FILE` with `Name: value` lines, - for standard input"},
			&cli.StringFlag{Name: "body", Usage: "`FILE` with the body that was received: it must be the one that was signed"},
			&cli.StringFlag{Name: "claim-id", Usage: "repeat an earlier question under its id"},
		},
		Action: p.admit,
	}
}

func (p *program) admit(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	req, err := p.admissionRequest(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	verdict, err := api.Admit(c.Context, req)
	if err != nil {
		return err
	}
	if err := p.emit(c, verdict, func(t *table) { drawVerdict(t, verdict) }); err != nil {
		return err
	}
	switch verdict.Verdict {
	case client.VerdictAdmitted:
		return nil
	case client.VerdictDenied:
		return refusedf("denied: %s%s", verdict.Code, hint(verdict))
	}
	return unknownf("undecided (%s): ask again with --claim-id %s", verdict.Code, verdict.ClaimID)
}

func (p *program) admissionRequest(c *cli.Context) (client.AdmissionRequest, error) {
	req := client.AdmissionRequest{Method: c.String("method"), Path: c.String("path"), ClaimID: c.String("claim-id")}
	if req.Method == "" || req.Path == "" {
		return req, usagef("--method and --path are needed: what was signed is a method and a path")
	}
	if c.String("headers") == "-" && c.String("body") == "-" {
		return req, usagef("--headers and --body both come from standard input: give one as a file")
	}
	if f, ok := p.in.(*os.File); ok && c.String("headers") == "-" && term.IsTerminal(int(f.Fd())) {
		p.say("reading `Name: value` lines from the terminal; end with Ctrl-D")
	}
	text, err := p.readInput("headers", c.String("headers"), maxHeaderBytes)
	if err != nil {
		return req, err
	}
	if req.Headers, err = parseHeaders(string(text)); err != nil {
		return req, err
	}
	if err := setAuthority(req.Headers, c.String("authority")); err != nil {
		return req, err
	}
	if c.String("body") != "" {
		body, err := p.requestBody(c)
		if err != nil {
			return req, err
		}
		req.BodySHA256 = crypto.Sum(body).String()
	}
	if req.ClaimID == "" {
		req.ClaimID, err = crypto.NewUUID(p.rand)
	}
	return req, err
}

// setAuthority puts the host that the caller answers for in the place of what the
// sender wrote: a request for another service, passed on here, names that one.
func setAuthority(headers map[string]string, host string) error {
	delete(headers, httpsig.HeaderHost)
	if host != "" {
		headers[httpsig.HeaderHost] = host
	} else if httpsig.HasOurs(headers[httpsig.HeaderSignatureInput]) {
		return usagef("--authority is missing: an HTTP message signature is for one host; name the one that you answer for, not the one that the sender wrote")
	}
	return nil
}

func drawVerdict(t *table, v client.Admission) {
	t.row("verdict", v.Verdict)
	code := v.Code
	if v.Repeated {
		code += " (the first answer to this claim, again)"
	}
	t.row("code", code)
	t.row("agent", orDash(v.AgentID))
	t.row("index", number(v.Index))
	t.row("clock", t.when(v.ClockMs))
	t.row("claim id", v.ClaimID)
	if v.NodeClocks != "" {
		t.row("node clocks", v.NodeClocks)
	}
	if v.Detail != "" {
		t.row("detail", v.Detail)
	}
}

// hint tells what a denied caller may do, where the code does not say it all.
func hint(v client.Admission) string {
	switch {
	case v.RetryAfterMs > 0:
		return fmt.Sprintf(": the next slot frees in %d ms", v.RetryAfterMs)
	case v.Code == client.VerdictReplay:
		return ": this request was used already; sign a new one"
	case v.Code == client.VerdictTimestampSkew && v.MaxSkewMs > 0:
		return fmt.Sprintf(": the signed time is more than %d ms off the cluster's clock", v.MaxSkewMs)
	case v.Code == client.VerdictAgentNotActive:
		return ": an operator approves it with `edgecoder agent approve`"
	case v.Code == client.VerdictBlacklisted:
		return ": `edgecoder blacklist show` tells why"
	}
	return ""
}
