package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// plain spells out what a terminal might obey: texts of a run may come from
// anybody. Newlines stay, messages have them.
func plain(s string) string {
	if strings.IndexFunc(s, unsafeRune) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !unsafeRune(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// unsafeRune tells whether a terminal might do more with r than show it. A byte
// that is no UTF-8 reads as unicode.ReplacementChar.
func unsafeRune(r rune) bool {
	return r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar)
}

// plainLine is a line of a text for people: what is in it cannot begin another.
func plainLine(format string, args ...any) string {
	return strings.ReplaceAll(plain(fmt.Sprintf(format, args...)), "\n", `\n`) + "\n"
}

// safely has only plain texts said; nil is silence.
func safely(say func(format string, args ...any)) func(format string, args ...any) {
	return func(format string, args ...any) {
		if say != nil {
			say("%s", plain(fmt.Sprintf(format, args...)))
		}
	}
}
