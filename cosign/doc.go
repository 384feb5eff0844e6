// Package cosign is a coordinator's conscience about a log: what it may sign, what it has signed, and the newest
// checkpoint that a majority vouches for. It holds what it signs to its own records and its own promises, and keeps
// both heads when two that contradict each other turn up. It knows no network: who asks, and whom, is the node's.
package cosign
