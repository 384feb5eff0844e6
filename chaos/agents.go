package chaos

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// agent is an enrolled agent of the traffic.
type agent struct {
	id      string
	key     crypto.PrivateKey
	cluster string // where it is enrolled
}

func (a agent) public() crypto.PublicKey { return crypto.PublicOf(a.key) }

// Limits of the traffic's policy: wide, but one agent is held to a narrow
// override so that the cluster-wide limit is put to the test.
const (
	wideRequests, wideWindowMs     = 5_000, 10_000
	narrowRequests, narrowWindowMs = 5, 2_000
)

// prepare enrols agents and sets the policy, before anything is recorded.
func prepare(ctx context.Context, f *field, mix Traffic) ([]agent, judge.PolicyRead, error) {
	api, err := f.patient()
	if err != nil {
		return nil, judge.PolicyRead{}, err
	}
	defer api.Close()
	status, err := api.Status(ctx)
	if err != nil {
		return nil, judge.PolicyRead{}, err
	}
	agents := make([]agent, mix.Agents)
	for i := range agents {
		if agents[i], err = enrol(ctx, api, status.ClusterID, fmt.Sprintf("agent-%d", i)); err != nil {
			return nil, judge.PolicyRead{}, fmt.Errorf("enrol an agent: %w", err)
		}
	}
	policy, err := api.Policy(ctx, client.Strong())
	if err != nil {
		return nil, judge.PolicyRead{}, err
	}
	update := client.PolicyUpdate{
		RateLimit: &client.RateLimit{Requests: wideRequests, WindowMs: wideWindowMs},
		Overrides: map[string]client.RateLimit{agents[len(agents)-1].id: {Requests: narrowRequests, WindowMs: cmp.Or(mix.NarrowMs, narrowWindowMs)}},
	}
	if mix.SkewMs != 0 {
		update.MaxSkewMs = &mix.SkewMs
	}
	if policy, err = api.SetPolicy(ctx, policy.Version, update); err != nil {
		return nil, judge.PolicyRead{}, err
	}
	return agents, judge.PolicyRead{Version: policy.Version, Policy: judge.PolicyOf(policy)}, f.caughtUp(ctx, policy.Version)
}

// caughtUp waits until every node has a version of the policy: what is older
// than the first operation must not be seen by it.
func (f *field) caughtUp(ctx context.Context, version uint64) error {
	clients, err := f.clients()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTimeout)
	defer cancel()
	return each(f.Members(), func(n string) error {
		defer clients[n].Close()
		for {
			policy, err := clients[n].Policy(ctx)
			if err == nil && policy.Version >= version {
				return nil
			}
			if !waitUntil(ctx, time.Now().Add(50*time.Millisecond)) {
				return fmt.Errorf("%s did not learn the policy: %w", n, errors.Join(err, ctx.Err()))
			}
		}
	})
}

func enrol(ctx context.Context, api *client.Client, clusterID, id string) (agent, error) {
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		return agent{}, err
	}
	a := agent{id: id, key: key, cluster: clusterID}
	token, err := api.CreateToken(ctx, client.TokenRequest{Role: "agent", Uses: 1, Label: "chaos " + id})
	if err != nil {
		return agent{}, err
	}
	proof := ed25519.Sign(key, crypto.EnrollProofText(clusterID, id, token.Token))
	if _, err := api.Enroll(ctx, client.EnrollRequest{AgentID: id, PublicKey: a.public().PEM(), Token: token.Token,
		Proof: base64.StdEncoding.EncodeToString(proof)}); err != nil {
		return agent{}, err
	}
	_, err = api.ApproveAgent(ctx, id)
	return a, err
}
