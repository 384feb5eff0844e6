package cmd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a command line in the one order that urfave/cli reads: global flags,
// command words, the command's flags, "--", positionals. People write flags
// before and after positionals; urfave stops at the first positional, so it
// would take a later flag for an operand.
type line struct {
	args  []string        // without the program name
	given map[string]bool // flags that stood on the command line, rather than in the environment
	bare  bool            // the words end at a group that does nothing by itself
}

// sortArgs resolves the command that args name and puts args in order. It
// refuses unknown commands and flags with a suggestion.
func sortArgs(app *cli.App, args []string) (line, error) {
	s := sorter{global: flagTable(app.Flags), commands: app.Commands, given: map[string]bool{}}
	for len(args) > 0 {
		if args[0] == "--" {
			s.operands = append(s.operands, args[1:]...)
			break
		}
		rest, err := s.take(args)
		if err != nil {
			return line{}, err
		}
		args = rest
	}
	return s.finish()
}

// sorter walks a command line once, from left to right.
type sorter struct {
	global   map[string]cli.Flag
	commands []*cli.Command // that may be named next; none at a leaf
	path     []*cli.Command
	flags    []sortedFlag
	operands []string
	given    map[string]bool
	help     bool
}

// sortedFlag is one flag as it was written, and as it is passed on.
type sortedFlag struct {
	name string // canonical
	text string // --name or --name=value, so that no value is ever mistaken
}

// take consumes the first argument, and its value if it is a flag that has one.
func (s *sorter) take(args []string) ([]string, error) {
	if arg := args[0]; arg == "-" || !strings.HasPrefix(arg, "-") {
		return args[1:], s.word(arg)
	}
	name, value, joined := splitFlag(args[0])
	switch {
	case name == "help" || name == "h":
		s.help = true
		return args[1:], nil
	case name == "version" && len(s.path) == 0:
		return args[1:], s.word("version")
	}
	f, err := s.find(name)
	if err != nil {
		return nil, err
	}
	canonical := f.Names()[0]
	s.given[canonical] = true
	if joined || !takesValue(f) {
		text := "--" + canonical
		if joined {
			text += "=" + value
		}
		s.flags = append(s.flags, sortedFlag{canonical, text})
		return args[1:], nil
	}
	if len(args) < 2 || s.looksLikeFlag(args[1]) {
		return nil, usagef("flag --%s needs a value (write --%s=VALUE if the value begins with a dash)", canonical, canonical)
	}
	s.flags = append(s.flags, sortedFlag{canonical, "--" + canonical + "=" + args[1]})
	return args[2:], nil
}

// word takes a command word, or an operand once the command is known.
func (s *sorter) word(arg string) error {
	if len(s.commands) == 0 {
		s.operands = append(s.operands, arg)
		return nil
	}
	if arg == "help" && len(s.path) == 0 {
		s.help = true
		return nil
	}
	for _, c := range s.commands {
		if c.HasName(arg) {
			s.path = append(s.path, c)
			s.commands = c.Subcommands
			return nil
		}
	}
	return s.unknownCommand(arg)
}

// find looks a flag up among the global ones, then those of the command, then,
// when it stands before the command word, those of all commands below.
func (s *sorter) find(name string) (cli.Flag, error) {
	if f, ok := s.global[name]; ok {
		return f, nil
	}
	below := s.commands
	if n := len(s.path); n > 0 {
		if f, ok := flagTable(s.path[n-1].Flags)[name]; ok {
			return f, nil
		}
	}
	if f := findBelow(below, name); f != nil {
		return f, nil
	}
	return nil, s.unknownFlag(name)
}

// findBelow returns the flag of that name of any command, unless two of them
// disagree on whether it has a value: then nobody can tell what follows it.
func findBelow(commands []*cli.Command, name string) cli.Flag {
	var found cli.Flag
	for _, c := range commands {
		f := flagTable(c.Flags)[name]
		if f == nil {
			f = findBelow(c.Subcommands, name)
		}
		if f == nil {
			continue
		}
		if found != nil && takesValue(found) != takesValue(f) {
			return nil
		}
		found = f
	}
	return found
}

// finish checks that the command knows all flags and writes everything in order.
func (s *sorter) finish() (line, error) {
	out := line{given: s.given}
	words := s.words()
	if s.help {
		out.args = append(words, "--help")
		return out, nil
	}
	if len(s.commands) > 0 && len(s.operands) > 0 {
		return line{}, s.unknownCommand(s.operands[0])
	}
	own := map[string]cli.Flag{}
	if n := len(s.path); n > 0 {
		own = flagTable(s.path[n-1].Flags)
		out.bare = len(s.path[n-1].Subcommands) > 0 && s.path[n-1].Action == nil
	}
	var flags []string
	for _, f := range s.flags {
		if _, ok := s.global[f.name]; ok {
			out.args = append(out.args, f.text)
		} else if _, ok := own[f.name]; ok {
			flags = append(flags, f.text)
		} else {
			return line{}, s.unknownFlag(f.name)
		}
	}
	out.args = append(append(out.args, words...), flags...)
	if len(s.operands) > 0 {
		out.args = append(append(out.args, "--"), s.operands...)
	}
	return out, nil
}

func (s *sorter) words() []string {
	words := make([]string, 0, len(s.path))
	for _, c := range s.path {
		words = append(words, c.Name)
	}
	return words
}

// looksLikeFlag tells whether arg is a flag of this command line, or "--":
// a value that was forgotten, rather than a value.
func (s *sorter) looksLikeFlag(arg string) bool {
	if arg == "--" {
		return true
	}
	if !strings.HasPrefix(arg, "--") {
		return false
	}
	name, _, _ := splitFlag(arg)
	_, err := s.find(name)
	return err == nil || name == "help"
}

func (s *sorter) unknownCommand(arg string) error {
	var known []string
	for _, c := range s.commands {
		known = append(known, c.Names()...)
	}
	return usagef("unknown command %q%s; see `%s --help`", arg, didYouMean("", nearest(arg, known)), s.where())
}

func (s *sorter) unknownFlag(name string) error {
	known := slices.Sorted(maps.Keys(s.global))
	if n := len(s.path); n > 0 {
		known = append(known, slices.Sorted(maps.Keys(flagTable(s.path[n-1].Flags)))...)
	}
	return usagef("unknown flag --%s of `%s`%s; see `%s --help`", name, s.where(), didYouMean("--", nearest(name, known)), s.where())
}

func didYouMean(prefix, word string) string {
	if word == "" {
		return ""
	}
	return ", did you mean " + prefix + word + "?"
}

// where is the command as far as it is known.
func (s *sorter) where() string {
	return strings.Join(append([]string{programName}, s.words()...), " ")
}

// splitFlag takes -name, --name and --name=value apart.
func splitFlag(arg string) (name, value string, joined bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	return strings.Cut(name, "=")
}

func flagTable(flags []cli.Flag) map[string]cli.Flag {
	table := make(map[string]cli.Flag, len(flags))
	for _, f := range flags {
		for _, name := range f.Names() {
			table[name] = f
		}
	}
	return table
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		panic(fmt.Sprintf("cmd: flag %s does not say whether it has a value", f.Names()[0]))
	}
	return d.TakesValue()
}
