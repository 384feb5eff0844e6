// Package edgecoder is the trust plane of a mesh of machines that nobody fully
// controls. This root package holds the house rules as tests; DESIGN.md names
// the rooms, cmd/edgecoder is the program.
package edgecoder
