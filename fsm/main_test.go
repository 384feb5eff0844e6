package fsm

import (
	"flag"
	"os"
	"testing"
)

// update rewrites the golden bytes. Stored logs and snapshots hold them, so a
// change of theirs is a change of format and needs a reason.
var update = flag.Bool("update", false, "rewrite testdata/golden.json and testdata/golden.snapshot")

// propertyChecks bounds rapid's runs so that the package stays quick under the
// race detector; -rapid.checks asks for more.
const propertyChecks = "40"

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", propertyChecks); err != nil {
			panic(err) // rapid renamed its flag
		}
	}
	os.Exit(m.Run())
}
