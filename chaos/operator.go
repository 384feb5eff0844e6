package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// orderTimeout bounds a command with all its tries; while a majority is away
// there is nobody to ask.
const orderTimeout = 15 * time.Second

// statusWait bounds the question to all nodes for their status.
const statusWait = time.Second

// statuses asks all members at once; who does not answer is left out.
func (f *field) statuses(ctx context.Context) map[string]client.Status {
	type answer struct {
		node string
		st   client.Status
		err  error
	}
	members := f.Members()
	answers := make(chan answer, len(members))
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	for _, n := range members {
		go func() {
			c, err := f.client(n)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			defer c.Close()
			st, err := c.Status(ctx)
			answers <- answer{n, st, err}
		}()
	}
	out := map[string]client.Status{}
	for range members {
		if a := <-answers; a.err == nil {
			out[a.node] = a.st
		}
	}
	return out
}

// leaderOf returns the node that leads the newest term.
func leaderOf(all map[string]client.Status) (string, error) {
	leader, term := "", uint64(0)
	for n, st := range all {
		if st.State == "leader" && st.Term >= term {
			leader, term = n, st.Term
		}
	}
	if leader == "" {
		return "", errors.New("nobody leads")
	}
	return leader, nil
}

// Leader implements Admin.
func (f *field) Leader(ctx context.Context) (string, error) { return leaderOf(f.statuses(ctx)) }

// Voter implements Admin.
func (f *field) Voter(ctx context.Context, node string) error {
	all := f.statuses(ctx)
	leader, err := leaderOf(all)
	if err != nil {
		return err
	}
	own, ok := all[node]
	if !ok {
		return fmt.Errorf("%s does not say who it is", node)
	}
	if !slices.ContainsFunc(all[leader].Voters, func(s client.Server) bool { return s.ID == own.Node.ID }) {
		return fmt.Errorf("%s does not vote yet", node)
	}
	return nil
}

// Skews implements Admin.
func (f *field) Skews(ctx context.Context) map[string]time.Duration {
	out := map[string]time.Duration{}
	for n, st := range f.statuses(ctx) {
		out[n] = time.Duration(st.ClockSkewMs) * time.Millisecond
	}
	return out
}

// Remove implements Admin: the others are asked to do it.
func (f *field) Remove(ctx context.Context, node string) error {
	others := slices.DeleteFunc(f.Members(), func(n string) bool { return n == node })
	return f.order(ctx, others, func(ctx context.Context, c *client.Client) error {
		_, err := c.RemovePeer(ctx, node, false)
		return err
	})
}

// transferWait is how long leadership may take to be seen elsewhere.
const transferWait = 5 * time.Second

// Transfer implements Admin. Where the answer says unknown, what the nodes say
// afterwards decides.
func (f *field) Transfer(ctx context.Context, from string) (to string, err error) {
	err = f.order(ctx, f.Members(), func(ctx context.Context, c *client.Client) error {
		_, err := c.TransferLeader(ctx, "")
		return err
	})
	if e := (*client.Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != client.CodeUnknownOutcome) {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, transferWait)
	defer cancel()
	for {
		now, unseen := f.Leader(ctx)
		if unseen == nil && now != from {
			return now, nil
		}
		if !waitUntil(ctx, time.Now().Add(statusWait/10)) {
			return from, errors.Join(err, unseen)
		}
	}
}

// order has one node carry out a command: the first that is there.
func (f *field) order(ctx context.Context, nodes []string, do func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	err := errors.New("there is no other node")
	for _, n := range nodes {
		var c *client.Client
		if c, err = f.client(n); err != nil {
			return err
		}
		err = do(ctx, c)
		c.Close()
		if e := (*client.Error)(nil); err == nil || errors.As(err, &e) && e.Code != client.CodeUnavailable {
			return err
		}
	}
	return err
}

// settleTimeout bounds the wait for a server whose disk is good again.
const settleTimeout = 20 * time.Second

// Settle implements Processes. One good answer may be the last one of a server
// that is ending, so three in a row are wanted.
func (f *field) Settle(ctx context.Context, node string) error {
	c, err := f.client(node)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for good := 0; good < 3; {
		if n, err := f.cluster.Node(node); err != nil || !n.Running() {
			return err
		}
		good++
		if c.Ready(ctx) != nil {
			good = 0
		}
		if !waitUntil(ctx, time.Now().Add(statusWait/5)) {
			return fmt.Errorf("%s was neither ready nor gone within %s", node, settleTimeout)
		}
	}
	return nil
}
