package envelope

import (
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// MaxPayloadBytes bounds what an envelope holds. Envelopes travel in HTTP bodies, which existing services cap at
	// 1 MiB (WIRE 0.3), and are opened in memory; more goes as a stream.
	MaxPayloadBytes = 1 << 20
	// MaxTextBytes bounds the JSON of an envelope: base64 takes four bytes for three, the other members little.
	MaxTextBytes = MaxPayloadBytes/3*4 + 4096
	// MaxPriority is the highest priority of a task (WIRE 7.6).
	MaxPriority = 100
	// MaxTimeoutMs bounds the timeout of a task, in milliseconds, to a day. In version 1 anybody on the way can raise
	// it, and it holds an agent's only place.
	MaxTimeoutMs = 24 * 60 * 60 * 1000
	// maxLanguageBytes is ample for the name of a programming language.
	maxLanguageBytes = 32
)

// Clear is what an envelope shows to whoever carries it. Version 2 authenticates all of it, version 1 only the
// subtask id.
type Clear struct {
	SubtaskID string // 1 to 128 bytes, see [crypto.CheckID]
	Metadata  Metadata
}

// Metadata tells a dispatcher what kind of task it carries. All members are optional.
type Metadata struct {
	ResourceClass string // "cpu" or "gpu"; "" if not said
	Priority      *int   // 0 to [MaxPriority]
	Language      string // such as "python": lower-case letters, digits and "+#._-"; "" if not said
	TimeoutMs     int64  // 1 to [MaxTimeoutMs]; 0 if not said
}

func (c Clear) check() error {
	if err := crypto.CheckID(c.SubtaskID); err != nil {
		return fmt.Errorf("%w: subtaskId: %w", ErrMalformed, err)
	}
	return c.Metadata.check()
}

func (m Metadata) check() error {
	switch {
	case m.ResourceClass != "" && m.ResourceClass != "cpu" && m.ResourceClass != "gpu":
		return fmt.Errorf("%w: metadata.resourceClass %.20q: want cpu or gpu", ErrMalformed, m.ResourceClass)
	case m.Priority != nil && (*m.Priority < 0 || *m.Priority > MaxPriority):
		return fmt.Errorf("%w: metadata.priority %d: want 0 to %d", ErrMalformed, *m.Priority, MaxPriority)
	case m.TimeoutMs < 0 || m.TimeoutMs > MaxTimeoutMs:
		return fmt.Errorf("%w: metadata.timeoutMs %d: want 1 to %d", ErrMalformed, m.TimeoutMs, MaxTimeoutMs)
	case !isLanguage(m.Language):
		return fmt.Errorf("%w: metadata.language %.40q: want at most %d lower-case letters, digits and +#._-",
			ErrMalformed, m.Language, maxLanguageBytes)
	}
	return nil
}

func isLanguage(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '#', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(s) <= maxLanguageBytes
}

// appendJSON writes the metadata in the order of WIRE 19.
func (m Metadata) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	name := func(s string) {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(crypto.AppendJSONString(dst, s), ':')
	}
	if m.ResourceClass != "" {
		name("resourceClass")
		dst = crypto.AppendJSONString(dst, m.ResourceClass)
	}
	if m.Priority != nil {
		name("priority")
		dst = strconv.AppendInt(dst, int64(*m.Priority), 10)
	}
	if m.Language != "" {
		name("language")
		dst = crypto.AppendJSONString(dst, m.Language)
	}
	if m.TimeoutMs != 0 {
		name("timeoutMs")
		dst = strconv.AppendInt(dst, m.TimeoutMs, 10)
	}
	return append(dst, '}')
}

// readMetadata reads what Clear.check then judges.
func readMetadata(text []byte) (m Metadata, err error) {
	var resource, language *string
	var timeout *int64
	if err := readObject(text,
		member{"resourceClass", &resource, true}, member{"priority", &m.Priority, true},
		member{"language", &language, true}, member{"timeoutMs", &timeout, true}); err != nil {
		return Metadata{}, fmt.Errorf("metadata: %w", err)
	}
	if isEmpty(resource) || isEmpty(language) || isEmpty(timeout) {
		return Metadata{}, fmt.Errorf("%w: metadata: a member that says nothing must be absent", ErrMalformed)
	}
	m.ResourceClass, m.Language, m.TimeoutMs = valueOf(resource), valueOf(language), valueOf(timeout)
	return m, nil
}

func isEmpty[T comparable](p *T) bool { return p != nil && *p == *new(T) }

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
