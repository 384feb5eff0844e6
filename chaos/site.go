package chaos

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"slices"
)

// Site is a cluster that somebody else brought up, and what faults may lay
// hands on there: simulations play scenarios on one in virtual time.
type Site struct {
	Nodes map[string]string // API URL by name
	// Observers are asked what replicas may be asked, and must agree in the end; no fault is aimed at them.
	Observers map[string]string
	Token     string         // of an admin
	Roots     *x509.CertPool // holds the cluster's CA
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	// Weak are nodes that carry no majority for the whole run, such as one whose
	// clock runs wild: with them the data of fewer others may be lost at once.
	Weak []string
	What string // the network between the nodes, for the report

	Proc  Processes
	Net   Network // nil, as the two below: faults that need it are skipped
	Disk  Disk
	Clock Clock
}

// Play carries out a scenario at a site and saves what was seen in o.Dir, which
// Report judges. It takes all its time from package time and starts no process,
// so it runs in the bubble of a testing/synctest; judging has a budget of real
// time and belongs outside.
func Play(ctx context.Context, s Scenario, o Options, site Site) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	if err := o.check(); err != nil {
		return err
	}
	f := &field{token: site.Token, roots: site.Roots, addrs: map[string]string{}, nodes: slices.Sorted(maps.Keys(site.Nodes)),
		observers: slices.Sorted(maps.Keys(site.Observers)), dialer: func(string) dialer { return site.Dial }}
	maps.Copy(f.addrs, site.Nodes)
	maps.Copy(f.addrs, site.Observers)
	for i, n := range f.nodes {
		f.Enlist(n, i < cmp.Or(s.Members, len(f.nodes)))
	}
	r := &run{Scenario: s, opts: o, field: f, network: site.What, weak: site.Weak,
		arena: Arena{Nodes: f.nodes, Admin: f, Proc: site.Proc, Net: site.Net, Disk: site.Disk, Clock: site.Clock, Missing: map[Need]string{}}}
	return r.play(ctx)
}
