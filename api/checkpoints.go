package api

import (
	"context"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// Logs are streams of history that anybody can check: trees, checkpoints and proofs, by name (checkpoint.LogBlacklist).
// Errors are *client.Error.
type Logs interface {
	// Checkpoint returns the newest checkpoint that a majority cosigned, a signed note.
	Checkpoint(log string) ([]byte, error)
	// ProveInclusion proves the record of a seq, from 1, in the tree of a size; 0: of the newest checkpoint.
	ProveInclusion(ctx context.Context, log string, seq, size uint64) (client.InclusionProof, error)
	// ProveConsistency proves that the tree of one size begins with that of another; to 0: of the newest checkpoint.
	ProveConsistency(ctx context.Context, log string, from, to uint64) (client.ConsistencyProof, error)
}

// checkpoint answers GET /v1/blacklist/checkpoint, and that of any other log.
func (s *Server) checkpoint(log string) func(*call) error {
	return func(c *call) error {
		note, err := s.node.Checkpoint(log)
		if err != nil {
			return err
		}
		c.setIndexHeader()
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		c.write(http.StatusOK, note)
		return nil
	}
}

// inclusion answers GET /v1/blacklist/proof/inclusion, and that of any other log.
func (s *Server) inclusion(log string) func(*call) error {
	return func(c *call) error {
		seq, err := c.queryNumber("seq", 0, checkpoint.MaxSize)
		if err == nil && seq == 0 {
			err = invalid("seq", "name the record by its number, from 1 on")
		}
		if err != nil {
			return err
		}
		size, err := c.queryNumber("size", 0, checkpoint.MaxSize)
		if err != nil {
			return err
		}
		out, err := s.node.ProveInclusion(c.ctx, log, seq, size)
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, out)
	}
}

// consistency answers GET /v1/blacklist/proof/consistency, and that of any other log.
func (s *Server) consistency(log string) func(*call) error {
	return func(c *call) error {
		from, err := c.queryNumber("from", 0, checkpoint.MaxSize)
		if err != nil {
			return err
		}
		to, err := c.queryNumber("to", 0, checkpoint.MaxSize)
		if err != nil {
			return err
		}
		out, err := s.node.ProveConsistency(c.ctx, log, from, to)
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, out)
	}
}

// cosigners answers GET /v1/blacklist/cosigners: who cosigns, and who did.
func (s *Server) cosigners(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	from, err := c.queryNumber("from", 1, checkpoint.MaxSize)
	if err != nil {
		return err
	}
	from = max(from, 1)
	var rows []fsm.CosignerSet
	var cluster string
	err = c.read(func(state *fsm.State) {
		rows, cluster = state.CosignerSets(from, limit+1), state.Meta().ClusterID
	})
	if err != nil {
		return err
	}
	out := client.CosignerSets{Sets: []client.CosignerSet{}}
	for size, i := 0, 0; i < len(rows); i++ {
		signed := rows[i].Signed(cluster)
		note := signed.Encode()
		if size += len(note); i == limit || size > maxPageBytes && i > 0 {
			out.Next = rows[i].Version
			break
		}
		row := client.CosignerSet{Version: signed.Version, Epoch: signed.Epoch, Hash: signed.Hash().String(), Cosigners: signed.Names(), AtMs: rows[i].AtMs, Note: string(note)}
		if !signed.Root() {
			row.Previous = signed.Previous.String()
		}
		out.Sets = append(out.Sets, row)
	}
	return c.reply(http.StatusOK, out)
}
