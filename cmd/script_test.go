package cmd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestMain lets scripts run this very binary under the name of the program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		programName: func() { os.Exit(Main(os.Args)) },
	})
}

// TestScripts runs what people type (testdata/script), in an empty environment
// and directory each.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   filepath.Join("testdata", "script"),
		Setup: setUpScript,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": scriptExits},
	})
}

func setUpScript(env *testscript.Env) error {
	token, err := crypto.NewTokenText(zeroes{}, testClusterID, "admin", "")
	if err != nil {
		return err
	}
	env.Setenv("TOKEN", token.String())
	env.Setenv("EDGECODER_CLUSTER_DIR", filepath.Join(env.WorkDir, "cluster"))
	env.Defer(func() { // whatever a script that failed left running
		dir := filepath.Join(env.WorkDir, "cluster")
		if _, err := os.Stat(filepath.Join(dir, "cluster.json")); err == nil {
			_ = exec.Command(programName, "cluster", "down", "--purge", "--data", dir).Run()
		}
	})
	return nil
}

// zeroes is randomness for a token that opens nothing.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// scriptExits runs a command and demands its exit status: exits 2 edgecoder …
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
