package judge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/edgecoder/edgecoder/client"
)

// Kind names what an operation asked for.
type Kind string

// The kinds. Each has one member of Op that holds its input and output; a new
// kind is a constant, a member and a line in bodies.
const (
	KindClaim      Kind = "claim"       // may this signed request act?
	KindBan        Kind = "ban"         // put an agent on the blacklist
	KindLift       Kind = "lift"        // supersede the ban in force
	KindBanRead    Kind = "ban_read"    // is one agent banned?
	KindBansRead   Kind = "bans_read"   // who is banned, with chain size and head
	KindChainRead  Kind = "chain_read"  // chain size and head
	KindCheckpoint Kind = "checkpoint"  // Merkle tree size and root
	KindPolicySet  Kind = "policy_set"  // compare and set
	KindPolicyRead Kind = "policy_read" // the policy
	KindStatus     Kind = "status"      // a node's view of itself
	KindRekey      Kind = "rekey"       // an agent's key is replaced by another
	KindMove       Kind = "move"        // operations of the ledger
	KindAccount    Kind = "account"     // what is on an account
)

// Outcome tells what the asker knows after the answer.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // answered; a denied claim is an answer too
	Refused Outcome = "refused" // certainly not done
	Unknown Outcome = "unknown" // may or may not have happened, and may yet happen
)

// OutcomeOf sorts the error code of an answer. A server that failed inside
// ("internal") does not know either.
func OutcomeOf(code string) Outcome {
	switch code {
	case "":
		return OK
	case client.CodeUnknownOutcome, client.CodeInternal:
		return Unknown
	}
	if client.KnownCode(code) {
		return Refused
	}
	return Unknown
}

// Op is one attempt of one client at one node. A retry is another Op.
type Op struct {
	ID      int64   `json:"id"`
	Client  int     `json:"client"`
	Kind    Kind    `json:"kind"`
	Node    string  `json:"node"`
	StartNS int64   `json:"start_ns"` // monotonic, since the run began
	EndNS   int64   `json:"end_ns"`
	WallMs  int64   `json:"wall_ms"` // the client's wall clock at the start
	Outcome Outcome `json:"outcome"`
	Code    string  `json:"code,omitempty"`   // error code when not ok
	Detail  string  `json:"detail,omitempty"` // for people
	Index   uint64  `json:"index,omitempty"`  // log index that the answer reflects, or made
	Key     string  `json:"key,omitempty"`    // idempotency key of a mutation
	Strong  bool    `json:"strong,omitempty"` // a linearizable read
	Sweep   bool    `json:"sweep,omitempty"`  // a fresh one after healing, which must succeed: see checkWorksAgain

	Claim      *Claim      `json:"claim,omitempty"`
	Ban        *Ban        `json:"ban,omitempty"`
	Lift       *Lift       `json:"lift,omitempty"`
	BanRead    *BanRead    `json:"ban_read,omitempty"`
	BansRead   *BansRead   `json:"bans_read,omitempty"`
	ChainRead  *ChainRead  `json:"chain_read,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	PolicySet  *PolicySet  `json:"policy_set,omitempty"`
	PolicyRead *PolicyRead `json:"policy_read,omitempty"`
	Status     *Status     `json:"status,omitempty"`
	Rekey      *Rekey      `json:"rekey,omitempty"`

	Move    *Move        `json:"move,omitempty"`
	Account *AccountRead `json:"account,omitempty"`
}

// Claim is the question whether a signed request may act, and its answer.
type Claim struct {
	Key         string `json:"key"` // the public key that signed
	Agent       string `json:"agent"`
	Nonce       string `json:"nonce"`
	TimestampMs int64  `json:"timestamp_ms"`
	ClaimID     string `json:"claim_id"`
	Request     string `json:"request"`          // caller, method, path and body: with claim id and timestamp all that makes two claims the same
	Forged      bool   `json:"forged,omitempty"` // the signature does not verify
	// Answer.
	Verdict  string `json:"verdict,omitempty"`
	Code     string `json:"code,omitempty"`
	Index    uint64 `json:"index,omitempty"` // of the entry that decided first
	ClockMs  int64  `json:"clock_ms,omitempty"`
	Repeated bool   `json:"repeated,omitempty"`
}

// nonceID names the nonce: it belongs to the key that signed.
func (c *Claim) nonceID() string { return c.Key + "\x00" + c.Nonce }

func (c *Claim) admitted() bool { return c.Verdict == client.VerdictAdmitted }

// same identifies the claim among all with its nonce.
func (c *Claim) same() string {
	return fmt.Sprintf("%s\x00%s\x00%d", c.ClaimID, c.Request, c.TimestampMs)
}

// Change is the answer to a ban or lift.
type Change struct {
	EventID  string `json:"event_id,omitempty"`
	Head     string `json:"head,omitempty"` // of the chain right after it
	Size     uint64 `json:"size,omitempty"`
	Repeated bool   `json:"repeated,omitempty"`
}

// Ban puts an agent on the blacklist. Reason is unique to the proposal, so that
// its event is recognised in the chain.
type Ban struct {
	Agent     string `json:"agent"`
	Reason    string `json:"reason"`
	ExpiresMs int64  `json:"expires_ms,omitempty"` // 0: permanent
	SignedMs  int64  `json:"signed_ms,omitempty"`  // when its reporter signed, which must be within the skew of the policy; 0: nobody did
	// What else was asked for, when it was recorded.
	ReasonCode string `json:"reason_code,omitempty"`
	Evidence   string `json:"evidence,omitempty"` // SHA-256, hex
	Reporter   string `json:"reporter,omitempty"`
	Signature  string `json:"signature,omitempty"` // the reporter's
	Change
}

// Lift supersedes the ban in force on an agent.
type Lift struct {
	Agent  string `json:"agent"`
	Reason string `json:"reason"`
	Change
}

// BanRead asks for one agent's ban.
type BanRead struct {
	Agent   string `json:"agent"`
	InForce bool   `json:"in_force"`
	EventID string `json:"event_id,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
}

// BansRead is who is banned at one length of the chain.
type BansRead struct {
	Size     uint64   `json:"size"`
	Head     string   `json:"head"`
	Agents   []string `json:"agents"`
	Complete bool     `json:"complete"` // Agents are all of them
}

// ChainRead is a chain's length and head as some node showed it.
type ChainRead struct {
	Size uint64 `json:"size"`
	Head string `json:"head"`
}

// Checkpoint is a signed tree head (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"` // hex
}

// PolicySet replaces the policy if it is still at IfVersion.
type PolicySet struct {
	IfVersion uint64 `json:"if_version"`
	Policy    Policy `json:"policy"`            // what is to stand afterwards, all of it
	Version   uint64 `json:"version,omitempty"` // answered
	Repeated  bool   `json:"repeated,omitempty"`
}

// PolicyRead is the policy as a node knows it.
type PolicyRead struct {
	Version uint64 `json:"version"`
	Policy  Policy `json:"policy"`
}

// Status is what a node says of itself.
type Status struct {
	NodeID       string        `json:"node_id"`
	State        string        `json:"state"`
	Leader       string        `json:"leader,omitempty"` // name
	Term         uint64        `json:"term"`
	Epoch        uint64        `json:"epoch"`
	AppliedIndex uint64        `json:"applied_index"`
	Digests      []client.Mark `json:"digests,omitempty"`
}

// wallEndMs is the client's wall clock at the answer.
func (op *Op) wallEndMs() int64 { return op.WallMs + (op.EndNS-op.StartNS)/1e6 + 1 }

// bodies tells for each kind whether its member is there.
func (op *Op) bodies() map[Kind]bool {
	return map[Kind]bool{
		KindClaim: op.Claim != nil, KindBan: op.Ban != nil, KindLift: op.Lift != nil, KindBanRead: op.BanRead != nil,
		KindBansRead: op.BansRead != nil, KindChainRead: op.ChainRead != nil, KindCheckpoint: op.Checkpoint != nil,
		KindPolicySet: op.PolicySet != nil, KindPolicyRead: op.PolicyRead != nil, KindStatus: op.Status != nil,
		KindRekey: op.Rekey != nil,
		KindMove:  op.Move != nil, KindAccount: op.Account != nil,
	}
}

// check holds what every checker relies on.
func (op *Op) check() error {
	switch {
	case op.ID <= 0:
		return errors.New("an operation's id must be positive")
	case op.StartNS < 0 || op.EndNS < op.StartNS:
		return fmt.Errorf("operation %d ends before it starts", op.ID)
	case op.EndNS > int64(maxTime):
		return fmt.Errorf("operation %d ends later than %s", op.ID, maxTime)
	case op.Outcome != OK && op.Outcome != Refused && op.Outcome != Unknown:
		return fmt.Errorf("operation %d: unknown outcome %q", op.ID, op.Outcome)
	}
	return op.checkBody()
}

func (op *Op) checkBody() error {
	present := op.bodies()
	if _, known := present[op.Kind]; !known {
		return fmt.Errorf("operation %d: kind %q is unknown to this judge", op.ID, op.Kind)
	}
	for kind, has := range present {
		if has != (kind == op.Kind) {
			return fmt.Errorf("operation %d of kind %s: member %s is missing or out of place", op.ID, op.Kind, kind)
		}
	}
	if op.Kind == KindMove {
		if err := op.Move.check(op.Outcome); err != nil {
			return fmt.Errorf("operation %d: %w", op.ID, err)
		}
	}
	return nil
}

// maxLine bounds one line of a saved run.
const maxLine = 1 << 20

// ReadHistory reads operations, one a line. What does not parse is an error: a
// verdict over half a history would be worth nothing.
func ReadHistory(r io.Reader) ([]Op, error) {
	var ops []Op
	ids := map[int64]bool{}
	err := readLines(r, func(line []byte) error {
		var op Op
		if err := strictJSON(line, &op); err != nil {
			return err
		}
		if err := op.check(); err != nil {
			return err
		}
		if ids[op.ID] {
			return fmt.Errorf("operation %d stands twice", op.ID)
		}
		if len(ops) == maxOps {
			return fmt.Errorf("more than %d operations", maxOps)
		}
		ids[op.ID] = true
		ops = append(ops, op)
		return nil
	})
	return ops, err
}

// WriteOp appends one operation as a line.
func WriteOp(w io.Writer, op *Op) error {
	if err := op.check(); err != nil {
		return err
	}
	return writeLine(w, op)
}

func writeLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func readLines(r io.Reader, each func(line []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := each(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// strictJSON refuses members it does not know: an older judge must not quietly
// pass over what a newer harness recorded.
func strictJSON(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the value")
	}
	return nil
}
