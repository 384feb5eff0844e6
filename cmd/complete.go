package cmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeCommand is what the scripts of completion.go call: `edgecoder
// __complete SHELL WORD… CURRENT`, where CURRENT may be empty. It answers with
// one candidate a line, and after a tab what it is. No candidate means that
// the shell completes a file name.
const completeCommand = "__complete"

// candidate is one way to go on from the cursor.
type candidate struct{ text, help string }

// complete writes the candidates for a command line that ends at the cursor.
func (p *program) complete(w io.Writer, app *cli.App, args []string) error {
	if len(args) < 2 {
		return usagef("%s SHELL WORD… CURRENT is for the scripts of `%s completion`", completeCommand, programName)
	}
	shell, words := args[0], args[1:]
	cut := ""
	if shell == shellBash {
		words, cut = joinBroken(words)
	}
	last := len(words) - 1
	for _, c := range newCursor(app, words[:last]).candidates(words[last]) {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", strings.TrimPrefix(c.text, cut), oneLine(c.help)); err != nil {
			return err
		}
	}
	return nil
}

// joinBroken undoes what bash does to words: it breaks them at "=" and ":" and
// replaces only the last piece, so cut is what stands before that.
func joinBroken(words []string) (joined []string, cut string) {
	glue := false
	for i, word := range words {
		isBreak := word == "=" || word == ":" || word == "::"
		if n := len(joined); n > 0 && (isBreak || glue) && joined[n-1] != "" {
			if i == len(words)-1 {
				cut = joined[n-1]
				if isBreak {
					cut += word
				}
			}
			joined[n-1] += word
		} else {
			joined = append(joined, word)
		}
		glue = isBreak
	}
	return joined, cut
}

// cursor is what is known of a command line before the word that is typed.
type cursor struct {
	app      *cli.App
	path     []*cli.Command
	commands []*cli.Command // that may be named next; none at a leaf
	given    map[string]bool
	operands int
	pending  cli.Flag // waits for its value
	ended    bool     // after "--"
	lost     bool     // a command or flag that does not exist
}

func newCursor(app *cli.App, words []string) *cursor {
	at := &cursor{app: app, commands: app.Commands, given: map[string]bool{}}
	for _, word := range words {
		at.pass(word)
	}
	return at
}

// pass reads one whole word.
func (at *cursor) pass(word string) {
	switch {
	case at.pending != nil:
		at.pending = nil
	case word == "--" && !at.ended:
		at.ended = true
	case !at.ended && word != "-" && strings.HasPrefix(word, "-"):
		at.passFlag(word)
	case len(at.commands) > 0:
		i := slices.IndexFunc(at.commands, func(c *cli.Command) bool { return c.HasName(word) })
		if i < 0 {
			at.lost = true
			return
		}
		at.path = append(at.path, at.commands[i])
		at.commands = at.commands[i].Subcommands
	default:
		at.operands++
	}
}

func (at *cursor) passFlag(word string) {
	name, _, joined := splitFlag(word)
	f := at.flag(name)
	if f == nil {
		at.lost = at.lost || name != "help" && name != "h"
		return
	}
	at.given[f.Names()[0]] = true
	if takesValue(f) && !joined {
		at.pending = f
	}
}

// flag finds a flag as the sorter of args.go does.
func (at *cursor) flag(name string) cli.Flag {
	for _, f := range at.flags() {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return findBelow(at.commands, name)
}

// flags are those of the command and the global ones.
func (at *cursor) flags() []cli.Flag {
	var all []cli.Flag
	if n := len(at.path); n > 0 {
		all = append(all, at.path[n-1].Flags...)
	}
	return append(all, at.app.Flags...)
}

// candidates returns what word may become.
func (at *cursor) candidates(word string) []candidate {
	var all []candidate
	switch name, _, joined := splitFlag(word); {
	case at.lost:
	case at.pending != nil:
		all = flagValues(at.words(), at.pending)
	case !at.ended && strings.HasPrefix(word, "-") && joined:
		f := at.flag(name)
		if f == nil {
			break
		}
		prefix, _, _ := strings.Cut(word, "=")
		for _, c := range flagValues(at.words(), f) {
			all = append(all, candidate{prefix + "=" + c.text, c.help})
		}
	case !at.ended && strings.HasPrefix(word, "-"):
		all = at.flagNames()
	case len(at.commands) > 0:
		for _, c := range at.commands {
			if !c.Hidden {
				all = append(all, candidate{c.Name, c.Usage})
			}
		}
	default:
		all = operandValues(at.words(), at.operands)
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.text, word) })
}

// flagNames are the flags that may still be given.
func (at *cursor) flagNames() []candidate {
	all := []candidate{{"--help", "show help"}}
	for _, f := range at.flags() {
		d, documented := f.(cli.DocGenerationFlag)
		v, hideable := f.(cli.VisibleFlag)
		_, repeatable := f.(*cli.StringSliceFlag)
		if !documented || hideable && !v.IsVisible() || at.given[f.Names()[0]] && !repeatable {
			continue
		}
		all = append(all, candidate{"--" + f.Names()[0], strings.ReplaceAll(d.GetUsage(), "`", "")})
	}
	return all
}

// words is the command as far as it is known, such as "token create".
func (at *cursor) words() string {
	names := make([]string, 0, len(at.path))
	for _, c := range at.path {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// oneLine keeps a description from breaking the form of the answer.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
