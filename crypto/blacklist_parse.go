package crypto

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Bounds on a blacklist event. Events live for ever, so they are small.
const (
	MaxBlacklistEventBytes = 16 << 10 // of WireJSON
	MaxReasonBytes         = 4 << 10
	MaxEvidenceRefBytes    = 2 << 10
)

// ParseBlacklistEvent reads one record, strictly: at most 16 KiB, members of WIRE 9.1 only and each once, in any
// order, the required ones present, none null, every value as [BlacklistEvent.Check] wants it. Hash and signatures
// are checked for form only, see [ChainVerifier].
func ParseBlacklistEvent(text []byte) (BlacklistEvent, error) {
	if len(text) > MaxBlacklistEventBytes {
		return BlacklistEvent{}, fmt.Errorf("blacklist event: %d bytes, at most %d", len(text), MaxBlacklistEventBytes)
	}
	e, err := parseBlacklistEvent(text)
	if err != nil {
		return BlacklistEvent{}, fmt.Errorf("blacklist event: %w", err)
	}
	if err := e.Check(); err != nil {
		return BlacklistEvent{}, err
	}
	return e, nil
}

func parseBlacklistEvent(text []byte) (e BlacklistEvent, err error) {
	scanner, err := newJSONScanner(text)
	if err != nil {
		return e, err
	}
	seen := make(map[string]bool, 17)
	err = scanner.object(func(name string) error {
		if seen[name] {
			return scanner.fail("member %s twice", quote(name))
		}
		seen[name] = true
		return scanner.blacklistMember(&e, name)
	})
	if err == nil {
		err = scanner.end()
	}
	if err != nil {
		return e, err
	}
	// Strings that must not be empty are found by Check; these two have no empty value to tell.
	for _, name := range [...]string{"evidenceSignatureVerified", "timestampMs"} {
		if !seen[name] {
			return e, fmt.Errorf("member %q is missing", name)
		}
	}
	return e, nil
}

// blacklistMember reads the value of one member.
func (s *jsonScanner) blacklistMember(e *BlacklistEvent, name string) (err error) {
	switch name {
	case "evidenceSignatureVerified":
		e.EvidenceSignatureVerified, err = s.boolean()
	case "timestampMs":
		e.TimestampMs, err = s.milliseconds()
	case "expiresAtMs":
		var at int64
		at, err = s.milliseconds()
		e.ExpiresAtMs = &at
	default:
		field := e.stringMember(name)
		if field == nil {
			return s.fail("unknown member %s", quote(name))
		}
		*field, err = s.validString()
	}
	if err != nil {
		return fmt.Errorf("member %q: %w", name, err)
	}
	return nil
}

// stringMember returns the field of a wire name, or nil.
func (e *BlacklistEvent) stringMember(name string) *string {
	switch name {
	case "eventId":
		return &e.EventID
	case "agentId":
		return &e.AgentID
	case "reasonCode":
		return &e.ReasonCode
	case "reason":
		return &e.Reason
	case "evidenceHashSha256":
		return &e.EvidenceHashSHA256
	case "reporterId":
		return &e.ReporterID
	case "reporterPublicKeyPem":
		return &e.ReporterPublicKeyPEM
	case "reporterSignature":
		return &e.ReporterSignature
	case "evidenceRef":
		return &e.EvidenceRef
	case "sourceCoordinatorId":
		return &e.SourceCoordinatorID
	case "reportedBy":
		return &e.ReportedBy
	case "prevEventHash":
		return &e.PrevEventHash
	case "eventHash":
		return &e.EventHash
	case "coordinatorSignature":
		return &e.CoordinatorSignature
	}
	return nil
}

// validString reads a string that is neither empty (an absent optional has no second spelling) nor holds lone
// surrogates, which no UTF-8 string of ours could carry on.
func (s *jsonScanner) validString() (string, error) {
	if s.next() != '"' {
		return "", s.unexpected("a string")
	}
	text, err := s.str()
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", s.fail("empty string")
	}
	if !utf8.ValidString(text) {
		return "", s.fail("lone surrogate in a string")
	}
	return text, nil
}

func (s *jsonScanner) boolean() (bool, error) {
	switch s.next() {
	case 't':
		return true, s.literal("true")
	case 'f':
		return false, s.literal("false")
	}
	return false, s.unexpected("true or false")
}

// milliseconds reads a time as Node prints it: a plain integer that a double holds exactly.
func (s *jsonScanner) milliseconds() (int64, error) {
	digits, err := s.number()
	if err != nil {
		return 0, err
	}
	if !plainDecimal(digits) {
		return 0, s.fail("%s is not a time in milliseconds", quote(digits))
	}
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || ms > maxSafeInteger {
		return 0, s.fail("%s is beyond the largest time", quote(digits))
	}
	return ms, nil
}

// Check reports whether the linked event is well-formed: what [ParseBlacklistEvent] would accept of its
// [BlacklistEvent.WireJSON]. Ask it before proposing an event. All faults are reported together.
func (e *BlacklistEvent) Check() error {
	faults := errors.Join(
		member("eventId", checkWireID(e.EventID)),
		member("agentId", checkWireID(e.AgentID)),
		member("reasonCode", checkReasonCode(e.ReasonCode)),
		member("reason", checkFreeText(e.Reason, MaxReasonBytes)),
		member("evidenceHashSha256", checkHashText(e.EvidenceHashSHA256)),
		member("reporterId", checkWireID(e.ReporterID)),
		member("reporterPublicKeyPem", checkOptionalPEM(e.ReporterPublicKeyPEM)),
		member("reporterSignature", checkOptionalSignature(e.ReporterSignature)),
		member("evidenceRef", checkOptionalText(e.EvidenceRef, MaxEvidenceRefBytes)),
		member("sourceCoordinatorId", checkWireID(e.SourceCoordinatorID)),
		member("reportedBy", checkWireID(e.ReportedBy)),
		member("timestampMs", checkTime(e.TimestampMs)),
		member("expiresAtMs", checkOptionalTime(e.ExpiresAtMs)),
		member("prevEventHash", checkPrevHash(e.PrevEventHash)),
		member("eventHash", checkHashText(e.EventHash)),
		member("coordinatorSignature", checkSignature(e.CoordinatorSignature)),
	)
	if faults != nil {
		return fmt.Errorf("blacklist event %s: %w", quote(e.EventID), faults)
	}
	if n := len(e.WireJSON()); n > MaxBlacklistEventBytes {
		return fmt.Errorf("blacklist event %s: %d bytes on the wire, at most %d", quote(e.EventID), n, MaxBlacklistEventBytes)
	}
	return nil
}
