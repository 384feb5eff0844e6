package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
	"github.com/edgecoder/edgecoder/node"
)

// flagWords are the values of flags that have few, by the flag's name; where
// the name means different things, the command stands before it.
func flagWords() map[string][]string {
	return map[string][]string{
		"format":               {formatTable, formatJSON},
		"role":                 roles,
		"state":                agentStates,
		"wait":                 {client.EnforcedQuorum, client.EnforcedAll},
		"reason-code":          crypto.ReasonCodes(),
		"keys list --kind":     keyKinds,
		"keys generate --type": {typeEd25519, typeX25519},
		"profile":              {crypto.ProfileRFC9421.String(), crypto.ProfileFiveHeader.String()},
		"level":                {"INFO", "WARN", "HIGH", "CRITICAL"},
		"events --type":        client.EventTypes(),
		"timing":               {node.TimingLocal, node.TimingWAN},
		"log-level":            {"debug", "info", "warn", "error"},
		"log-format":           {"text", "json"},
		"kind":                 {ledger.KindAgent.String(), ledger.KindService.String()},
		"class":                {ledger.ClassCPU.String(), ledger.ClassGPU.String()},
	}
}

// flagValues are the candidates for the value of f; none where a file name or
// a text of one's own is wanted.
func flagValues(command string, f cli.Flag) []candidate {
	words := flagWords()
	name := f.Names()[0]
	if list, ok := words[command+" --"+name]; ok {
		return plainCandidates(list)
	}
	return plainCandidates(words[name])
}

// operandValues are the candidates for the operand of that number, from 0.
func operandValues(command string, number int) []candidate {
	switch {
	case command == "completion" && number == 0:
		return plainCandidates([]string{shellBash, shellZsh, shellFish})
	case command == "policy set":
		return plainCandidates(policyWords)
	case command == "keys schedule" && number == 0:
		return plainCandidates(keyKinds)
	case command == "chaos run" && number == 0:
		var all []candidate
		for _, s := range chaos.Scenarios() {
			all = append(all, candidate{s.Name, s.Description})
		}
		return all
	}
	return nil
}

func plainCandidates(words []string) []candidate {
	all := make([]candidate, 0, len(words))
	for _, word := range words {
		all = append(all, candidate{text: word})
	}
	return all
}
