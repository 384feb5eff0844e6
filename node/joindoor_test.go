package node

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// TestStrangersShutNoJoinerOut: connections that begin TLS on the gossip port and say
// no more make room, as they do on the others.
func TestStrangersShutNoJoinerOut(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	greeter := c.nodes[0].face.muxes[0].greeter
	before, _ := greeter.refused()
	for range maxStrangers + 100 {
		conn, err := net.DialTimeout("tcp", c.cfgs[0].GossipAddr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{0x16}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.tryJoin("n2", c.token("coordinator", 1)); err != nil {
		t.Errorf("a joiner is shut out: %v", err)
	}
	c.eventually("the oldest made room", func() bool { now, _ := greeter.refused(); return now-before >= 100 })
}

// TestJoinsOfStrangersWriteNothing: a join token that is used up is no more than an
// answer, and what Apply would refuse is refused before it is in the log.
func TestJoinsOfStrangersWriteNothing(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	ask := func(with string, change func(*joinRequest)) error {
		t.Helper()
		cfg := testConfig(t, "stranger")
		cfg.JoinToken = with
		token, err := crypto.ParseTokenText(with)
		if err != nil {
			t.Fatal(err)
		}
		id, err := newIdentity()
		if err != nil {
			t.Fatal(err)
		}
		req, err := newJoinRequest(cfg, id, token)
		if err != nil {
			t.Fatal(err)
		}
		change(&req)
		parts, err := req.parts()
		if err != nil {
			t.Fatal(err)
		}
		req.Proof = crypto.SignText(id.signingKey(), joinLabel, parts...)
		_, err = joinAt(t.Context(), cfg, id, c.cfgs[0].GossipAddr, token, req)
		return err
	}
	same := func(*joinRequest) {}
	c.eventually("the token is used up here", func() bool { return code(ask(c.cfgs[1].JoinToken, same)) == client.CodeUnauthorized })
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.nodes[0].Collectors()...)
	proposals := func() uint64 { return histogramCount(t, registry, "edgecoder_propose_duration_seconds") }
	proposed := proposals()
	for range 20 {
		if err := ask(c.cfgs[1].JoinToken, same); code(err) != client.CodeUnauthorized || !strings.Contains(err.Error(), "used") {
			t.Fatalf("with a token that is used up: %v", err)
		}
	}
	fresh := c.token("coordinator", -1)
	proposed++ // the token
	for what, change := range map[string]func(*joinRequest){
		"a version of 60 kB": func(r *joinRequest) { r.Coordinator.Version = strings.Repeat("v", 60_000) },
		"hosts of 60 kB":     func(r *joinRequest) { r.Coordinator.Hosts = []string{strings.Repeat("h", 60_000)} },
		"no address":         func(r *joinRequest) { r.Coordinator.Gossip = "" },
	} {
		if err := ask(fresh, change); err == nil || code(err) == client.CodeUnavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	if now := proposals(); now != proposed {
		t.Errorf("%d proposals for what is refused", now-proposed)
	}
	n := c.nodes[0]
	refused := 0
	for range joinsBurst + 10 {
		if n.joinRates.Take("token") > 0 {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("joins under one token are not paced: %d refused", refused)
	}
}
