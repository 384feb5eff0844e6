package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the binary itself, with the flag that urfave/cli answers.
const (
	bashCompletion = `# edgecoder completion for bash. Load it with: source <(edgecoder completion bash)
_edgecoder() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  if [[ "$cur" == -- ]]; then words+=(-); elif [[ "$cur" == -* ]]; then words+=("$cur"); fi # a bare -- would end the flags
  COMPREPLY=($(compgen -W "$(edgecoder "${words[@]}" --generate-bash-completion 2>/dev/null | cut -d: -f1)" -- "$cur"))
  [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _edgecoder edgecoder
`
	zshCompletion = `#compdef edgecoder
# edgecoder completion for zsh. Load it with: source <(edgecoder completion zsh)
_edgecoder() {
  local -a replies asked
  asked=("${(@)words[2,CURRENT-1]}")
  if [[ "${words[CURRENT]}" == -- ]]; then asked+=(-); elif [[ "${words[CURRENT]}" == -* ]]; then asked+=("${words[CURRENT]}"); fi # a bare -- would end the flags
  replies=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 edgecoder "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${replies[1]}" ]]; then _describe 'edgecoder' replies; else _files; fi
}
compdef _edgecoder edgecoder
`
)

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script of a shell",
		UsageText: "edgecoder completion bash|zsh|fish",
		Description: "Examples:\n  source <(edgecoder completion bash)\n  source <(edgecoder completion zsh)\n" +
			"  edgecoder completion fish > ~/.config/fish/completions/edgecoder.fish",
		Action: p.completion,
	}
}

func (p *program) completion(c *cli.Context) error {
	args, err := operands(c, "SHELL")
	if err != nil {
		return err
	}
	var script string
	switch args[0] {
	case "bash":
		script = bashCompletion
	case "zsh":
		script = zshCompletion
	case "fish":
		if script, err = c.App.ToFishCompletion(); err != nil {
			return err
		}
	default:
		return usagef("%q: want bash, zsh or fish", args[0])
	}
	_, err = fmt.Fprintln(p.out, script)
	return err
}
