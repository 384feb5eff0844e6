package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// peers answers GET /v1/peers: members first, then who was removed.
func (s *Server) peers(c *call) error {
	servers := s.node.Servers()
	out := client.Peers{Peers: []client.Peer{}}
	err := c.read(func(state *fsm.State) {
		for _, n := range state.Coordinators() {
			out.Peers = append(out.Peers, activePeer(n, state.ClockMs(), servers[n.ID]))
		}
		lastKey := map[string]fsm.SigningKey{}
		for _, k := range state.SigningKeys() {
			if k.Since >= lastKey[k.NodeID].Since {
				lastKey[k.NodeID] = k
			}
		}
		for _, n := range state.Removed() {
			out.Peers = append(out.Peers, client.Peer{ID: n.ID, Name: n.Name, PeerID: lastKey[n.ID].Public.CoordinatorID(),
				Suffrage: "none", State: "removed", RemovedMs: n.RemovedMs, Reason: removalReason(n)})
		}
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}

// activePeer joins what the cluster has on record of a node and what the one
// that answers sees of it.
func activePeer(n fsm.Coordinator, nowMs int64, seen ServerView) client.Peer {
	p := client.Peer{
		ID: n.ID, Name: n.Name, Role: string(n.Role), PeerID: n.KeyAt(nowMs).CoordinatorID(),
		API: coordinatorURL(n.API), Raft: n.Raft, Gossip: n.Gossip, Version: n.Version,
		Suffrage: cmp.Or(seen.Suffrage, "none"), State: "active", Health: cmp.Or(seen.Health, "unknown"), JoinedMs: n.JoinedMs,
	}
	if seen.Heard {
		p.LastContactMs, p.Lag = &seen.SilentMs, &seen.Lag
	}
	return p
}

// removalReason tells why a node is no member any more; "" is an operator's word.
func removalReason(n fsm.Removal) string {
	switch {
	case n.Compromised:
		return "compromised"
	case n.SilentMs > 0:
		return "silent"
	}
	return ""
}

// removePeer answers DELETE /v1/peers/{peer}.
func (s *Server) removePeer(c *call) error {
	compromised := false
	switch v := c.r.URL.Query().Get("compromised"); v {
	case "", "false":
	case "true":
		compromised = true
	default:
		return invalid("compromised", quote(v)+" is neither true nor false")
	}
	if err := c.noBody(); err != nil {
		return err
	}
	id, err := c.findPeer(c.args[0])
	if e := (*client.Error)(nil); errors.As(err, &e) && e.Code == client.CodeNotFound {
		return c.removeEdge(c.args[0], err)
	}
	if err != nil {
		return err
	}
	res, err := c.propose(fsm.CoordinatorRemove{ID: id, Compromised: compromised})
	if err != nil {
		return err
	}
	out := client.PeerRemoved{ID: res.ID, Index: res.Index, Repeated: res.Repeated}
	if t := res.Tokens; t != nil {
		out.Tokens = &client.TokensRevoked{Count: t.Count, IDs: append([]string{}, t.IDs...), Kept: t.Kept, Joined: t.Joined}
	}
	out.Ended = wireEnded(res.Ended)
	return c.reply(http.StatusOK, out)
}

func wireEnded(e *fsm.KeysEnded) *client.KeysEnded {
	if e == nil {
		return nil
	}
	return &client.KeysEnded{Keys: e.Keys, JoinTokens: e.JoinTokens, Left: e.Left, EncryptionKey: e.EncryptionKey}
}

// removeEdge ends an edge by ending its credential: no coordinator has the id or name.
func (c *call) removeEdge(nameOrID string, none error) error {
	var credential string
	var edge fsm.Edge
	err := c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) {
		if id, known := state.EdgeCredential(nameOrID); known {
			t, _ := state.Token(id)
			credential, edge = id, *t.Edge
		}
	})
	if err != nil {
		return err
	}
	if credential == "" {
		return none
	}
	res, err := c.propose(fsm.TokenRevoke{ID: credential})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.PeerRemoved{ID: edge.NodeID, Index: res.Index, Repeated: res.Repeated})
}

// findPeer returns the id of a coordinator given by id or name. A member, be it
// an edge, goes before a removed one of the same name; the read is strong,
// because a name may just have passed to another node.
func (c *call) findPeer(nameOrID string) (id string, err error) {
	err = c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) {
		if _, ok := state.Coordinator(nameOrID); ok {
			id = nameOrID
			return
		}
		for _, n := range state.Coordinators() {
			if n.Name == nameOrID {
				id = n.ID
				return
			}
		}
		if _, edge := state.EdgeCredential(nameOrID); edge {
			return
		}
		if state.IsRemoved(nameOrID) {
			id = nameOrID
			return
		}
		var newest int64
		for _, n := range state.Removed() {
			if n.Name == nameOrID && n.RemovedMs >= newest {
				id, newest = n.ID, n.RemovedMs
			}
		}
	})
	if err == nil && id == "" {
		err = &client.Error{Code: client.CodeNotFound, Detail: fmt.Sprintf("there is no coordinator or edge with the id or name %s", quote(nameOrID))}
	}
	return id, err
}

// transferLeader answers POST /v1/leader/transfer.
func (s *Server) transferLeader(c *call) error {
	var body client.LeaderTransfer
	if c.body != "" {
		if err := c.decode(&body); err != nil {
			return err
		}
	}
	if body.Node != "" {
		id, err := c.findPeer(body.Node)
		if err != nil {
			return err
		}
		body.Node = id
	}
	if err := s.node.TransferLeadership(c.ctx, body.Node); err != nil {
		return err
	}
	now := client.LeaderTransferred{Node: body.Node}
	if l := s.node.Status().Leader; l != nil {
		now = client.LeaderTransferred{Node: l.ID, Name: l.Name}
	}
	return c.reply(http.StatusOK, now)
}
