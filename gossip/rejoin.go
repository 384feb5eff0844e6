package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// rejoin looks for lost members until the pool ends. memberlist forgets who it declared dead and never calls again, so after
// a partition longer than half a minute both halves would stay apart for ever.
func (p *Pool) rejoin() {
	wait := time.Duration(rand.Int64N(int64(p.cfg.RejoinEvery)/10 + 1))
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.rekeyed: // who missed a rotation could reach nobody until now
		case <-time.After(wait):
		}
		p.rejoinRound()
		// Jitter keeps the halves of a healed partition from all calling at once.
		wait = p.cfg.RejoinEvery*3/4 + time.Duration(rand.Int64N(int64(p.cfg.RejoinEvery)/2+1))
	}
}

// rejoinRound tries at most maxJoin addresses: seeds, and where dead members were last, in random order so that each gets its turn.
func (p *Pool) rejoinRound() {
	live, dead := p.table.addresses()
	seeds := append(append([]string(nil), p.cfg.Seeds()...), dead...)
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	if len(seeds) > maxJoinCall {
		seeds = seeds[:maxJoinCall]
	}
	addrs := p.targets(seeds, func(a string) bool { return !live[a] }, nil)
	if len(addrs) > maxJoin {
		addrs = addrs[:maxJoin]
	}
	if len(addrs) == 0 {
		return
	}
	p.count.rejoinTried.Add(uint64(len(addrs)))
	n, err := p.join(addrs)
	p.count.rejoinDone.Add(uint64(n))
	if err != nil && p.ctx.Err() == nil {
		p.cfg.Log.Debug("gossip: rejoin", "tried", len(addrs), "reached", n, "err", err)
	}
}

// Join contacts the given host:port addresses, at most maxJoinCall of them, and returns how many answered. The error says why the
// others did not, and is nil if any did. Addresses that answer may still not accept us: look at Members.
func (p *Pool) Join(seeds []string) (int, error) {
	if p.state.Load() != running {
		return 0, ErrClosed
	}
	if len(seeds) > maxJoinCall {
		return 0, fmt.Errorf("gossip: %d seeds, at most %d", len(seeds), maxJoinCall)
	}
	var faults []error
	addrs := p.targets(seeds, func(string) bool { return true }, &faults)
	n, err := p.join(addrs)
	if n > 0 {
		return n, nil
	}
	return 0, errors.Join(append(faults, err)...)
}

// targets resolves seeds to distinct ip:port addresses that are not our own. Faults are collected if wanted.
func (p *Pool) targets(seeds []string, want func(addr string) bool, faults *[]error) []string {
	var out []string
	dup := map[string]bool{p.advertise: true, p.bound: true}
	for _, s := range seeds {
		addrs, err := resolveHostPort(p.ctx, s)
		if err != nil && faults != nil {
			*faults = append(*faults, fmt.Errorf("gossip: seed %q: %w", s, err))
		}
		for _, a := range addrs {
			if !dup[a] && want(a) {
				dup[a] = true
				out = append(out, a)
			}
		}
		if p.ctx.Err() != nil {
			return nil
		}
	}
	return out
}

func resolveHostPort(ctx context.Context, s string) ([]string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("port %q", port)
	}
	ips, err := resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip, uint16(n)).String()
	}
	return out, nil
}

// join does push/pull with each address in turn.
func (p *Pool) join(addrs []string) (int, error) {
	done := 0
	var faults []error
	for _, a := range addrs {
		if p.ctx.Err() != nil {
			return done, ErrClosed
		}
		n, err := p.ml.Join([]string{a})
		done += n
		if err != nil {
			faults = append(faults, err)
		}
	}
	return done, errors.Join(faults...)
}
