package cluster

import (
	"os"
	"path/filepath"
	"strings"
)

// envFile returns the shell file that points a user's commands at the cluster.
func envFile(dir string, r Record) []byte {
	var b strings.Builder
	b.WriteString("# Points edgecoder at the cluster in this directory. Use it with: . " + quote(filepath.Join(dir, "env")) + "\n")
	var addrs []string
	for _, n := range r.Nodes {
		addrs = append(addrs, n.API)
	}
	for _, v := range [][2]string{
		{"EDGECODER_ADDR", strings.Join(addrs, ",")},
		{"EDGECODER_CA", r.CAFile},
		{"EDGECODER_TOKEN_FILE", r.AdminTokenFile},
		{"EDGECODER_PASSPHRASE_FILE", r.PassphraseFile},
	} {
		b.WriteString("export " + v[0] + "=" + quote(v[1]) + "\n")
	}
	return []byte(b.String())
}

// quote makes one shell word of s.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// serverEnviron is what servers get of this process's environment: all but
// our own variables, which could quietly reconfigure every one of them.
func serverEnviron(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "EDGECODER_") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}
