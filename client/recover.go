package client

import (
	"context"
	"net/http"
)

// Clocks is the answer of GET /v1/recover/clock: the cluster clock beside the
// wall clocks of the voters, as the node that answers knows them.
type Clocks struct {
	Epoch            uint64       `json:"epoch"`
	ClockMs          int64        `json:"clock_ms"`
	MaxSkewMs        int64        `json:"max_skew_ms"`
	AdmissionsFromMs int64        `json:"admissions_from_ms,omitempty"` // while they pause after a recovery
	Voters           []VoterClock `json:"voters"`
}

// VoterClock is the wall clock of one voter.
type VoterClock struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Leader  bool   `json:"leader"`
	WallMs  int64  `json:"wall_ms"`  // 0: it did not report lately
	AheadMs int64  `json:"ahead_ms"` // cluster clock minus its wall clock, with WallMs
}

// ClockRecovery is the body of POST /v1/recover/clock.
type ClockRecovery struct {
	Reason string `json:"reason,omitempty"`
}

// ClockRecovered is its answer.
type ClockRecovered struct {
	Epoch            uint64 `json:"epoch"` // that the recovery opened, or a later one
	ClockMs          int64  `json:"clock_ms"`
	AdmissionsFromMs int64  `json:"admissions_from_ms"` // 0: they go on already
	Index            uint64 `json:"index"`
	Repeated         bool   `json:"repeated,omitempty"`
}

// Clocks tells how far the cluster clock runs ahead of the world.
func (c *Client) Clocks(ctx context.Context, opts ...Option) (out Clocks, err error) {
	err = c.get(ctx, "/v1/recover/clock", &out, opts)
	return out, err
}

// RecoverClock sets a cluster clock back that runs ahead of the leader's.
func (c *Client) RecoverClock(ctx context.Context, req ClockRecovery, opts ...Option) (out ClockRecovered, err error) {
	err = c.change(ctx, http.MethodPost, "/v1/recover/clock", req, &out, opts)
	return out, err
}
