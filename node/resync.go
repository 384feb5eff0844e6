package node

import (
	"fmt"

	"github.com/edgecoder/edgecoder/store"
)

// resync throws away the state of a node that was found to differ from the
// others', keeping term and vote, so that raft fetches theirs. The note of it
// goes last: a crash in between begins again.
func (n *Node) resync() error {
	n.log.Warn("this node's state differed from the others': starting afresh, the old files are kept as evidence", "dir", store.EvidenceDir)
	if err := store.Reset(n.cfg.DataDir); err != nil {
		return fmt.Errorf("start afresh: %w", err)
	}
	n.id.Resync = false
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}
