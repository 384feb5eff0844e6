package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// Shells that have a completion script.
const (
	shellBash = "bash"
	shellZsh  = "zsh"
	shellFish = "fish"
)

// The scripts ask the binary itself, so they need not change when it does
// (complete.go has the form of the answers).
var completionScripts = map[string]string{
	shellBash: `# edgecoder completion for bash. Load it with: source <(edgecoder completion bash)
_edgecoder() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]/#\~/$HOME}" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o bashdefault -o default -F _edgecoder edgecoder
`,
	shellZsh: `#compdef edgecoder
# edgecoder completion for zsh. Load it with: source <(edgecoder completion zsh)
_edgecoder() {
  local line
  local -a values
  for line in "${(@f)$("${(Q)words[1]}" __complete zsh "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
    [[ -n $line ]] && values+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  if (( $#values )); then _describe edgecoder values; else _files; fi
}
compdef _edgecoder edgecoder
[[ ${funcstack[1]} == _edgecoder ]] && _edgecoder "$@" # loaded from fpath, by the first completion
true
`,
	shellFish: `# edgecoder completion for fish. Keep it in ~/.config/fish/completions/edgecoder.fish
function __edgecoder_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l binary $words[1]
  set -e words[1]
  set -l found ($binary __complete fish $words "$current" 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path "$current"
  end
end
complete -c edgecoder -f -a '(__edgecoder_complete)'
`,
}

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script of a shell",
		UsageText: "edgecoder completion bash|zsh|fish",
		Description: "Completes commands, flags and the values that flags have.\n\nExamples:\n  source <(edgecoder completion bash)\n  source <(edgecoder completion zsh)\n" +
			"  edgecoder completion fish > ~/.config/fish/completions/edgecoder.fish",
		Action: p.completion,
	}
}

func (p *program) completion(c *cli.Context) error {
	args, err := operands(c, "SHELL")
	if err != nil {
		return err
	}
	script, ok := completionScripts[args[0]]
	if !ok {
		return usagef("%q: want bash, zsh or fish", args[0])
	}
	_, err = fmt.Fprint(p.out, script)
	return err
}
