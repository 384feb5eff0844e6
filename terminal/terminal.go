// Package terminal makes texts of others safe to show to people: what a
// terminal might obey is spelled out. It is pure.
package terminal

import (
	"strconv"
	"strings"
	"unicode"
)

// Plain spells control and format characters out: the texts of others must not
// drive the terminal, or change the direction of what stands beside them.
// Newlines stay: messages have them.
func Plain(s string) string {
	if strings.IndexFunc(s, Unsafe) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !Unsafe(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// PlainLine is Plain for a text that must not begin a line of its own.
func PlainLine(s string) string { return strings.ReplaceAll(Plain(s), "\n", `\n`) }

// Unsafe tells whether a terminal might do more with r than show it. A byte
// that is no UTF-8, such as a control character of Latin-1, reads as
// unicode.ReplacementChar.
func Unsafe(r rune) bool {
	return r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar)
}
