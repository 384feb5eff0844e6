package store

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain bounds rapid's runs, as each writes to a disk; -rapid.checks asks for
// more.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir)) // it ends only by a kill, or by a fault
		os.Exit(1)
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		checks := "25"
		if testing.Short() {
			checks = "8"
		}
		if err := flag.Set("rapid.checks", checks); err != nil {
			panic(err) // rapid renamed its flag
		}
	}
	os.Exit(m.Run())
}
