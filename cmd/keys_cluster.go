package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

// keyKinds are the kinds of subjects whose keys the cluster knows.
var keyKinds = []string{"coordinator", "certificate", "agent", "manifest", "gossip", "ca"}

const subjectsHelp = "SUBJECT is coordinator/NODE (what it signs with), certificate/NODE (its TLS key), agent/AGENT, manifest/SIGNER, gossip or ca.\n\n"

func (p *program) keysListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "the keys of the cluster, by whose they are",
		UsageText:   "edgecoder keys list [--kind KIND]",
		Description: "Examples:\n  edgecoder keys list\n  edgecoder keys list --kind agent",
		Flags:       []cli.Flag{strongFlag(), &cli.StringFlag{Name: "kind", Usage: "only those of " + strings.Join(keyKinds, ", ")}},
		Action:      p.keysList,
	}
}

func (p *program) keysShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "the keys of one subject, with their windows",
		UsageText: "edgecoder keys show SUBJECT",
		Description: subjectsHelp + "Keys that retire are shown with who still signs with them at which node, and the nodes that did not say.\n\n" +
			"Examples:\n  edgecoder keys show agent/agent-1\n  edgecoder keys show ca --format json",
		Flags: []cli.Flag{strongFlag()}, Action: p.keysShow,
	}
}

func (p *program) keysScheduleCommand() *cli.Command {
	return &cli.Command{
		Name: "schedule", Usage: "how often keys are rotated: print it, or change it",
		UsageText: "edgecoder keys schedule SUBJECT|KIND [--period TIME] [--overlap TIME] [--lead TIME]",
		Description: subjectsHelp + "A kind (coordinator, certificate, agent, manifest) stands for all its subjects that have no schedule of their own. Windows of keys that are announced\nalready stay as they are.\n\n" +
			"Examples:\n  edgecoder keys schedule coordinator\n  edgecoder keys schedule agent --period 90d --overlap 2d --lead 7d\n  edgecoder keys schedule agent/builder-7 --period off",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "period", Usage: "`TIME` from one key to the next, such as 90d; off: only when somebody asks"},
			&cli.StringFlag{Name: "overlap", Usage: "`TIME` for which the key before verifies beside the next one"},
			&cli.StringFlag{Name: "lead", Usage: "`TIME` before it is due at which the next key is asked for"},
		},
		Action: p.keysSchedule,
	}
}

func (p *program) keysRevokeCommand() *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "end a key at once, everywhere",
		UsageText: "edgecoder keys revoke SUBJECT KEY-ID [--with-successors] [--reason TEXT]",
		Description: subjectsHelp + "A next key that it announced is revoked with it; keys that it ordered and that have begun are named, and end with --with-successors,\nalso later. An older key whose end was announced goes on until then. Of gossip, ca and certificate/NODE the next key begins at once; a node's only\nTLS key is not revoked: rotate it first, or remove the node. A revoked CA takes the tokens for joins and enrolments with it, which name it. A coordinator\nwithout a key makes itself a new one. An agent without one waits for an operator: edgecoder keys rotate agent/ID --recover. A coordinator that somebody\nelse has, not only its key, is removed: edgecoder peers remove NAME --compromised.\n\n" +
			"Example:\n  edgecoder keys revoke agent/agent-1 0011223344556677 --reason 'left on a train'\n  edgecoder keys revoke agent/agent-1 0011223344556677 --with-successors",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the record"},
			&cli.BoolFlag{Name: "with-successors", Usage: "end the keys that it ordered too, and those that these ordered"},
		},
		Action: p.keysRevoke,
	}
}

func (p *program) keysList(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	kind := c.String("kind")
	if err := oneOf("kind", kind, keyKinds); err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	all := client.KeyList{Keys: []client.Keys{}}
	for after := ""; ; {
		page, err := api.KeyList(c.Context, kind, append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		all.Keys = append(all.Keys, page.Keys...)
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) { drawKeyList(t, all) })
}

// oneOf refuses the value of a flag that is none of a few words.
func oneOf(flag, value string, words []string) error {
	for _, w := range append([]string{""}, words...) {
		if w == value {
			return nil
		}
	}
	return usagef("--%s %q: want one of %s", flag, value, strings.Join(words, ", "))
}

func drawKeyList(t *table, list client.KeyList) {
	t.row("SUBJECT", "KEY ID", "KEYS", "NEXT DUE", "ROTATION")
	for _, k := range list.Keys {
		t.row(subjectText(k), orDash(k.KeyID), strconv.Itoa(len(k.Keys)), t.when(k.DueMs), rotationWord(k))
	}
}

// subjectText shows a subject as people name it; the commands take it so.
func subjectText(k client.Keys) string {
	if kind, _, named := strings.Cut(k.Subject, "/"); named && k.Name != "" {
		return kind + "/" + k.Name
	}
	return k.Subject
}

// rotationWord says in a word what is to be done about a subject's keys.
func rotationWord(k client.Keys) string {
	switch {
	case k.Overdue:
		return "overdue"
	case k.Due:
		return "due"
	case len(k.Keys) > 0 && k.Keys[len(k.Keys)-1].State == client.KeyNext:
		return "prepared"
	case k.KeyID == "" && len(k.Keys) > 0:
		return "no key verifies"
	}
	return "-"
}

func (p *program) keysShow(c *cli.Context) error {
	args, api, err := p.ask(c, "SUBJECT")
	if err != nil {
		return err
	}
	keys, err := api.Keys(c.Context, args[0], freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, keys, func(t *table) { drawKeys(t, keys) })
}

func drawKeys(t *table, k client.Keys) {
	t.row("subject", k.Subject)
	if k.Name != "" {
		t.row("node", k.Name)
	}
	t.row("active key", orDash(k.KeyID))
	t.row("schedule", scheduleText(k.Schedule))
	t.row("next due", t.when(k.DueMs))
	t.row("rotation", rotationWord(k))
	for _, key := range k.Keys {
		t.row("key", key.KeyID, key.State, "from "+beginText(t, key), "until "+cmp.Or(endText(t, key), "its successor"), orDash(key.PeerID))
	}
	for _, u := range k.Uses {
		t.row("used while retiring", u.KeyID, "by "+cmp.Or(u.By, "the agent itself"), number(u.Count)+" times", "last "+t.when(u.LastMs), "at "+u.Node)
	}
	for _, m := range k.Unreachable {
		t.row("uses unknown at", m.Node, m.Name, m.Detail)
	}
}

func beginText(t *table, k client.Key) string {
	switch {
	case k.NotBeforeMs != 0:
		return t.when(k.NotBeforeMs)
	case k.State == client.KeyNext:
		return "the switch"
	}
	return "the beginning"
}

func endText(t *table, k client.Key) string {
	switch {
	case k.RevokedAt != 0:
		return "index " + number(k.RevokedAt)
	case k.UntilMs != 0:
		return t.when(k.UntilMs)
	}
	return ""
}

func scheduleText(d client.KeySchedule) string {
	period := "when somebody asks"
	if d.PeriodMs != 0 {
		period = "every " + daysText(d.PeriodMs) + ", asked for " + daysText(d.LeadMs) + " ahead"
	}
	return fmt.Sprintf("%s, overlap %s (version %d)", period, daysText(d.OverlapMs), d.Version)
}

// daysText prints a time in whole days where it is some, else as Go does.
func daysText(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if days := d / (24 * time.Hour); days > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(days)) + "d"
	}
	return d.String()
}

func (p *program) keysSchedule(c *cli.Context) error {
	args, err := operands(c, "SUBJECT")
	if err != nil {
		return err
	}
	update, changes, err := scheduleFlags(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	now, err := api.KeySchedule(c.Context, args[0], client.Strong())
	if err != nil {
		return err
	}
	if !changes {
		return p.emit(c, now, func(t *table) { drawSchedule(t, args[0], now) })
	}
	set, err := api.SetKeySchedule(c.Context, args[0], now.Version, update)
	if err != nil {
		return err
	}
	return p.emit(c, set, func(t *table) { drawSchedule(t, set.Subject, set.KeySchedule) })
}

func drawSchedule(t *table, subject string, d client.KeySchedule) {
	t.row("of", subject)
	t.row("schedule", scheduleText(d))
}

func scheduleFlags(c *cli.Context) (u client.KeyScheduleUpdate, changes bool, err error) {
	for _, f := range []struct {
		name string
		to   **int64
	}{{"period", &u.PeriodMs}, {"overlap", &u.OverlapMs}, {"lead", &u.LeadMs}} {
		text := c.String(f.name)
		if text == "" {
			continue
		}
		changes = true
		ms := int64(0)
		if text != "off" || f.name != "period" {
			d, err := parseDuration(f.name, text)
			if err != nil {
				return u, false, err
			}
			ms = d.Milliseconds()
		}
		*f.to = &ms
	}
	return u, changes, nil
}

func (p *program) keysRevoke(c *cli.Context) error {
	args, api, err := p.ask(c, "SUBJECT", "KEY-ID")
	if err != nil {
		return err
	}
	done, err := api.RevokeKey(c.Context, args[0], client.RevokeKeyRequest{KeyID: args[1], Reason: c.String("reason"), WithSuccessors: c.Bool("with-successors")})
	if err != nil {
		return err
	}
	if more := saysWith(done.Ended) + saysVoided(done.Ended); more != "" {
		p.say("the key is revoked%s", more)
	}
	if strings.HasPrefix(done.Subject, "certificate/") {
		p.say("if it was stolen: joiners go by its certificate until that ends, so revoke the CA too (edgecoder keys show ca has its key id), or remove the node: edgecoder peers remove NODE --compromised")
	}
	return p.emit(c, done, func(t *table) { drawKeysChanged(t, done) })
}

// saysWith tells what went with a key that was revoked, and what it ordered and stays.
func saysWith(e *client.KeysEnded) (out string) {
	if e == nil {
		return ""
	}
	if len(e.Keys) > 0 {
		out += ", and those that it ordered: " + strings.Join(e.Keys, ", ")
	}
	if e.EncryptionKey {
		out += "; whoever had it may have registered the agent's encryption key, which is forgotten: the agent registers one again"
	}
	if len(e.Left) > 0 {
		out += "; it ordered these, which count on: " + strings.Join(e.Left, ", ") + ". If its owner did not make them, revoke it again with --with-successors"
	}
	return out
}

func drawKeysChanged(t *table, k client.KeysChanged) {
	drawKeys(t, k.Keys)
	t.row("index", number(k.Index))
}

// errNoCluster is what a signed order needs and nobody told.
var errNoCluster = errors.New("the cluster's id is part of what is signed: give --cluster-id (edgecoder status prints it), or an API token, which names it")
