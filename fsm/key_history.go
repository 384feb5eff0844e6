package fsm

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A ring forgets keys that ended longest ago, and subjects leave. History does not:
// each record of a change of keys ends the ring as it was made, so the windows of all
// keys that there ever were can be read from the records alone. A key that is in a
// ring and not in the one after it had ended before.

// KeyWindow is a key as a record of history tells it.
type KeyWindow struct {
	KeyID       string
	NotBeforeMs int64
	NotAfterMs  int64  // 0: no end yet
	RevokedAt   uint64 // 0: not revoked
	Waits       bool   // it begins with a switch
}

// KeyStep is one record about the keys of a subject, or about their owner.
type KeyStep struct {
	AdminRecord
	Seq    uint64
	Fields map[string]string // what the record's text says beside ring and reason
	Reason string
	Rung   bool // Ring is told: it is the ring from this entry on, also if it is empty
	Ring   []KeyWindow
}

// ringField begins the ring in the text of a record, reasonField what somebody said,
// which is the last.
const (
	ringField   = "ring="
	reasonField = "reason="
	noRing      = "none"
)

// windowText is "KEY-ID/BEGIN/END/REVOKED AT", with zeros for what is not set and the
// begin "switch" of a key that waits for one.
func (k Key) windowText() string {
	begin := strconv.FormatInt(k.NotBeforeMs, 10)
	if k.waits() {
		begin = keySwitchWord
	}
	return fmt.Sprintf("%s/%s/%d/%d", k.Public.KeyID(), begin, k.NotAfterMs, k.RevokedAt)
}

const keySwitchWord = "switch"

// text is the ring as records tell it.
func (r Ring) text() string {
	if len(r) == 0 {
		return ringField + noRing
	}
	out := make([]string, len(r))
	for i, k := range r {
		out[i] = k.windowText()
	}
	return ringField + strings.Join(out, ",")
}

// ringNow is the ring of a subject as records tell it, once it is changed.
func (s *State) ringNow(of Subject) string {
	if ring, known := s.ring(of); known {
		return ring.text()
	}
	return Ring(nil).text()
}

// recordRing has history tell a ring that something else than a change of its own
// keys has changed.
func (s *State) recordRing(c *change, of Subject, why string) {
	s.record(c, "key_windows", of.String(), "by="+why+" "+s.ringNow(of))
}

// recordSigners does so for the signers of manifests that come or go.
func (s *State) recordSigners(c *change, was, is ManifestTrust) {
	same := func(g ManifestSigner, t ManifestTrust) bool {
		other, ok := t.signer(g.Name)
		return ok && other.Key == g.Key
	}
	for _, g := range is.Signers {
		if !same(g, was) {
			s.recordRing(c, Subject{SubjectManifest, g.Name}, "manifest_trust_set")
		}
	}
	for _, g := range was.Signers {
		if _, stays := is.signer(g.Name); !stays {
			s.recordRing(c, Subject{SubjectManifest, g.Name}, "manifest_trust_set")
		}
	}
}

// recordRings has it tell all rings that are other than in another state, for those
// who know what that one's history tells.
func (s *State) recordRings(c *change, other *State, why string) {
	for _, kind := range SubjectKinds() {
		for _, of := range s.subjectsToo(other, kind) {
			is, _ := s.ring(of)
			was, known := other.ring(of)
			if !is.Same(was) || !known {
				s.recordRing(c, of, why)
			}
		}
	}
}

// subjectsToo lists the subjects of a kind of two states: first those of this one.
func (s *State) subjectsToo(other *State, kind SubjectKind) []Subject {
	const all = MaxAgents
	out := s.KeySubjects(kind, "", all)
	for _, of := range other.KeySubjects(kind, "", all) {
		if _, known := s.ring(of); !known {
			out = append(out, of)
		}
	}
	return out
}

// ReadKeyStep reads a record of StreamAdmin; ok is false if it is not about the keys
// of the subject.
func ReadKeyStep(of Subject, r Record) (step KeyStep, ok bool, err error) {
	id := of.ID
	if id == "" {
		id = string(of.Kind)
	}
	if !bytes.Contains(r.Data, []byte(id)) { // most are not: the text of a record has it as it is
		return step, false, nil
	}
	if err := Decode(r.Data, &step.AdminRecord); err != nil {
		return step, false, fmt.Errorf("history of actions, record %d: %w", r.Seq, err)
	}
	if step.Seq = r.Seq; !step.about(of) {
		return step, false, nil
	}
	return step, true, step.read()
}

// about tells whether a record is one of a subject's keys. Records of owners name
// these without their kind.
func (k KeyStep) about(of Subject) bool {
	if strings.HasPrefix(k.Action, "key_") {
		return k.Subject == of.String()
	}
	switch of.Kind {
	case SubjectAgent:
		return k.Subject == of.ID && strings.HasPrefix(k.Action, "agent_")
	case SubjectCoordinator:
		return k.Subject == of.ID && strings.HasPrefix(k.Action, "coordinator_") && k.Action != "coordinator_update" ||
			k.Action == "genesis" && k.Actor.NodeID == of.ID
	}
	return false
}

// read takes the text of the record apart.
func (k *KeyStep) read() (err error) {
	text, reason, said := strings.Cut(k.Detail, " "+reasonField)
	if said {
		if k.Reason, err = strconv.Unquote(reason); err != nil {
			return fmt.Errorf("history of actions, record %d: its reason: %w", k.Seq, err)
		}
	}
	k.Fields = map[string]string{}
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		if name+"=" != ringField {
			k.Fields[name] = value
			continue
		}
		if k.Ring, err = parseWindows(value); err != nil {
			return fmt.Errorf("history of actions, record %d: %w", k.Seq, err)
		}
		k.Rung = true
	}
	return nil
}

func parseWindows(text string) (out []KeyWindow, err error) {
	if text == noRing {
		return nil, nil
	}
	for window := range strings.SplitSeq(text, ",") {
		k, err := parseWindow(window)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func parseWindow(text string) (k KeyWindow, err error) {
	parts := strings.Split(text, "/")
	if len(parts) != 4 {
		return k, fmt.Errorf("%s is no window of a key", shown(text))
	}
	k.KeyID, k.Waits = parts[0], parts[1] == keySwitchWord
	begin := parts[1]
	if k.Waits {
		begin = "0"
	}
	var errs [3]error
	k.NotBeforeMs, errs[0] = strconv.ParseInt(begin, 10, 64)
	k.NotAfterMs, errs[1] = strconv.ParseInt(parts[2], 10, 64)
	k.RevokedAt, errs[2] = strconv.ParseUint(parts[3], 10, 64)
	for _, err := range errs {
		if err != nil {
			return k, fmt.Errorf("%s is no window of a key: %w", shown(text), err)
		}
	}
	return k, nil
}
