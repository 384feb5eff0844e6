// Command edgecoder is the trust plane of a mesh of machines: see `edgecoder --help`.
package main

import (
	"os"

	"github.com/edgecoder/edgecoder/cmd"
)

func main() { os.Exit(cmd.Main(os.Args)) }
