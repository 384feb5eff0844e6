package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// Class is the resource that a contribution used. Numbers are part of stored records.
type Class uint8

// The classes.
const (
	ClassCPU Class = 1
	ClassGPU Class = 2
)

var classNames = [...]string{ClassCPU: "cpu", ClassGPU: "gpu"}

// String returns the name of the class.
func (c Class) String() string {
	if c > 0 && int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// ParseClass reads what String prints.
func ParseClass(name string) (Class, error) {
	for c := ClassCPU; int(c) < len(classNames); c++ {
		if classNames[c] == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%.40q: want cpu or gpu", name)
}

// MaxReportMs is the longest work of one report: a day. Longer work is reported in parts.
const MaxReportMs = 24 * 3_600_000

// Report is an agent's word on work that it did, which it signs. The id carries the
// time of the report.
type Report struct {
	ID         ID     `cbor:"1,keyasint"`
	AgentID    string `cbor:"2,keyasint"`
	Account    string `cbor:"3,keyasint"` // of the agent: what is earned goes there
	Payer      string `cbor:"4,keyasint"` // account of whoever the work was for
	Task       string `cbor:"5,keyasint"`
	Class      Class  `cbor:"6,keyasint"`
	DurationMs int64  `cbor:"7,keyasint"`
	OK         bool   `cbor:"8,keyasint"` // the work succeeded
}

// SignedReport is a report with the key that verifies it, and the cluster that it was
// signed for: a copy of the ledger in another one counts nothing of it.
type SignedReport struct {
	Report    Report                     `cbor:"1,keyasint"`
	Key       crypto.PublicKey           `cbor:"2,keyasint"`
	Signature [crypto.SignatureSize]byte `cbor:"3,keyasint"`
	ClusterID string                     `cbor:"4,keyasint"`
}

const reportLabel = "contribution report v1"

// Fault returns the first member that is out of form and why, or "".
func (r Report) Fault() (field, fault string) {
	if fault := r.ID.Fault(); fault != "" {
		return "id", fault
	}
	for _, m := range []struct{ name, id string }{
		{"agent_id", r.AgentID}, {"account", r.Account}, {"payer", r.Payer}, {"task", r.Task},
	} {
		if err := crypto.CheckID(m.id); err != nil {
			return m.name, err.Error()
		}
	}
	if r.Class != ClassCPU && r.Class != ClassGPU {
		return "class", fmt.Sprintf("unknown class %d: want cpu or gpu", r.Class)
	}
	if r.DurationMs < 1 || r.DurationMs > MaxReportMs {
		return "duration_ms", fmt.Sprintf("%d is outside 1..%d", r.DurationMs, MaxReportMs)
	}
	return "", ""
}

// Weight returns what the report counts in its epoch, in millionths of a second: seconds
// of a processor, twice that of a graphics card; of work that failed 0.45, which is
// quality 0.6 times reliability 0.75 (WIRE.md section 14). Nothing is rounded.
func (r Report) Weight() int64 {
	perMs := int64(Micro / 1000)
	if !r.OK {
		perMs = perMs * 45 / 100
	}
	return r.DurationMs * int64(r.Class) * perMs
}

// parts is what is signed: every member, so that none can be exchanged, and the
// cluster, so that no other one counts it.
func (r Report) parts(clusterID string) [][]byte {
	numbers := binary.BigEndian.AppendUint64([]byte{byte(r.Class), 0}, uint64(r.DurationMs))
	if r.OK {
		numbers[1] = 1
	}
	return [][]byte{[]byte(clusterID), r.ID[:], []byte(r.AgentID), []byte(r.Account), []byte(r.Payer), []byte(r.Task), numbers}
}

// Sign returns the report with the agent's signature, for a cluster.
func (r Report) Sign(priv crypto.PrivateKey, clusterID string) SignedReport {
	s := SignedReport{Report: r, Key: crypto.PublicOf(priv), ClusterID: clusterID}
	copy(s.Signature[:], crypto.SignText(priv, reportLabel, r.parts(clusterID)...))
	return s
}

// Verify tells whether the key signed the report for the cluster that it names. Whose key
// it is, and which cluster it has to be, is for the caller to know.
func (s SignedReport) Verify() bool {
	return crypto.VerifyText(s.Key, s.Signature[:], reportLabel, s.Report.parts(s.ClusterID)...)
}

// Sum stands for the content of the report: two of the same id are one report if
// it is equal.
func (r Report) Sum() crypto.Hash {
	text := []byte("edgecoder ledger report v1\n")
	for _, part := range r.parts("") {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	return crypto.Sum(text)
}
