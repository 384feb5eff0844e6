package cmd

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestSaysWhichTokensWereRevoked(t *testing.T) {
	for want, tokens := range map[string]client.TokensRevoked{
		"revoked 2 tokens that were made through it: a, b":                                {Count: 2, IDs: []string{"a", "b"}},
		"revoked 3 tokens that were made through it: a and 2 more (edgecoder token list)": {Count: 3, IDs: []string{"a"}},
		"mine, which you are using, was made through it too":                              {Kept: "mine"},
		"still members: c1, c2: remove those":                                             {Joined: []string{"c1", "c2"}},
	} {
		if got := saysRevoked(&tokens); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSaysWhichKeysEnded(t *testing.T) {
	for want, ended := range map[string]*client.KeysEnded{
		"no gossip key or CA key ended with it":          nil,
		"are revoked, the others go on with new ones":    {Keys: []string{"ca 0011223344556677", "gossip 8899aabbccddeeff"}},
		"ca 0011223344556677; 3 tokens for joins and en": {Keys: []string{"ca 0011223344556677"}, JoinTokens: 3},
	} {
		if got := saysEnded(ended); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSaysWhatWentWithAKey(t *testing.T) {
	for want, ended := range map[string]*client.KeysEnded{
		"": nil,
		", and those that it ordered: agent/a 0011223344556677":              {Keys: []string{"agent/a 0011223344556677"}},
		"which count on: agent/a 0011223344556677. If its owner did not":     {Left: []string{"agent/a 0011223344556677"}},
		"may have registered the agent's encryption key, which is forgotten": {EncryptionKey: true},
	} {
		if got := saysWith(ended); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
