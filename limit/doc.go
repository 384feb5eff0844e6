// Package limit bounds what is under way for many holders at once (addresses,
// tokens, agents), so that whoever takes much makes room for whoever takes
// little. Slots bound work, which is refused when there is too much; a Room
// bounds waiting for a peer's bytes, which is given up when there is too much;
// Rates bound what comes in a time.
package limit
