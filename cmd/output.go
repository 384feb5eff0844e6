package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/terminal"
)

const (
	formatTable = "table"
	formatJSON  = "json"
)

// formatOf returns what --format asks for.
func formatOf(c *cli.Context) (string, error) {
	switch format := c.String("format"); format {
	case formatTable, formatJSON:
		return format, nil
	default:
		return "", usagef("--format %q: want table or json", format)
	}
}

// emit prints one result: v as one JSON document, or the table that draw fills.
func (p *program) emit(c *cli.Context, v any, draw func(t *table)) error {
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	if format == formatJSON {
		return writeJSON(p.out, v)
	}
	t := &table{now: p.now()}
	draw(t)
	return t.write(p.out, p.colour)
}

func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // reasons are read by people too
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(cleanJSON(b.Bytes()))
	return err
}

// cleanJSON escapes what a terminal may obey and encoding/json leaves as it is:
// DEL, the control characters above ASCII, and format characters. They can
// stand in strings only, so the document says the same.
func cleanJSON(text []byte) []byte {
	if bytes.IndexFunc(text, terminal.Unsafe) < 0 {
		return text
	}
	var b []byte
	for _, r := range string(text) {
		if !terminal.Unsafe(r) || r == unicode.ReplacementChar {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	return b
}

// say writes one message to standard error. It may quote others.
func (p *program) say(format string, args ...any) {
	fmt.Fprintln(p.err, terminal.Plain(fmt.Sprintf(format, args...)))
}

// table is rows of cells for people; programs ask for JSON.
type table struct {
	now  time.Time
	rows [][]string
}

// row appends a row, or with two cells a name and its value.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write aligns and prints the rows. Cells may come from anywhere, so control
// characters, which could move the cursor, are spelt out.
func (t *table) write(w io.Writer, colour bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		for i, cell := range cells {
			cell = terminal.PlainLine(cell)
			if colour {
				cell = paint(cell)
			}
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, cell)
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// Colours of words that tell how things stand. All have the same length, the
// plain one too, so that tabwriter counts every cell alike.
const (
	plain  = "\x1b[39m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	reset  = "\x1b[0m"
)

var colours = map[string]string{
	"leader": green, "active": green, "alive": green, "admitted": green, "verified": green, "running": green, "healthy": green,
	"pending": yellow, "suspect": yellow, "candidate": yellow, "nonvoter": yellow, "used": yellow, "expired": yellow, "retired": yellow, "lagging": yellow, "unknown": yellow,
	"suspended": red, "revoked": red, "dead": red, "denied": red, "stopped": red, "removed": red, "silent": red, "stuck": red, "compromised": red, "NOT verified": red,
}

func paint(cell string) string {
	colour, ok := colours[cell]
	if !ok {
		colour = plain
	}
	return colour + cell + reset
}

// when prints a time in milliseconds and how far away it is; "-" for none.
func (t *table) when(ms int64) string {
	if ms == 0 {
		return "-"
	}
	at := time.UnixMilli(ms)
	text := at.UTC().Format("2006-01-02 15:04:05Z")
	if away := t.now.Sub(at); away >= 0 {
		return text + " (" + roughly(away) + " ago)"
	}
	return text + " (in " + roughly(at.Sub(t.now)) + ")"
}

// roughly prints a duration with the precision people think in.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// number prints an integer.
func number[N int | int64 | uint32 | uint64](n N) string { return fmt.Sprint(n) }

// orDash stands "-" in for nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// short cuts a hash for a table; the whole of it is in JSON.
func short(hash string) string {
	if len(hash) != 2*crypto.HashSize {
		return orDash(hash) // such as BLACKLIST_GENESIS
	}
	return hash[:16]
}
