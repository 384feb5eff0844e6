package chaos

import (
	"fmt"

	"github.com/edgecoder/edgecoder/terminal"
)

// plainLine is a line of a text for people: what is in it cannot begin another.
func plainLine(format string, args ...any) string {
	return terminal.PlainLine(fmt.Sprintf(format, args...)) + "\n"
}

// safely has only plain texts said; nil is silence.
func safely(say func(format string, args ...any)) func(format string, args ...any) {
	return func(format string, args ...any) {
		if say != nil {
			say("%s", terminal.Plain(fmt.Sprintf(format, args...)))
		}
	}
}
