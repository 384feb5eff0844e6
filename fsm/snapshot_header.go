package fsm

import (
	"fmt"
	"io"
)

// maxHeaderBytes bounds what ReadSnapshotHeader reads.
const maxHeaderBytes = 4 << 10

// ReadSnapshotHeader reads of a snapshot only whose it is. Nothing of it is
// proven: checksum and state come behind it.
func ReadSnapshotHeader(in io.Reader) (clusterID string, epoch, index uint64, err error) {
	h, err := readHeader(newFrameReader(io.LimitReader(in, maxHeaderBytes)))
	if err != nil {
		return "", 0, 0, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return h.ClusterID, h.Epoch, h.Index, nil
}
