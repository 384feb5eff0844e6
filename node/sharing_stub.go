package node

func (n *Node) wantedShared() (wanted, bool) { return wanted{}, false }
