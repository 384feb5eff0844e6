package checkpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/edgecoder/edgecoder/crypto"
)

// The names of the logs.
const (
	LogBlacklist = "blacklist"
	LogLedger    = "ledger"
)

// maxLogNameBytes bounds a log's name: it is a word of ours.
const maxLogNameBytes = 32

// ErrOrigin is in the chain of every refusal of an origin.
var ErrOrigin = errors.New("no origin of an EdgeCoder log")

// recoveryDigits is the length of a recovery's id: lower-case hex of 64 random bits.
const recoveryDigits = 16

// Origin identifies a log: whose it is, of what, since which recovery. Logs of two epochs need not be consistent with
// each other, so they are two logs. Two copies of a cluster that were recovered apart count the same epochs, so the id
// of the last such recovery stands beside the number.
type Origin struct {
	ClusterID string
	Log       string // LogBlacklist, LogLedger
	Epoch     uint64 // recovery epoch, 0 is that of genesis
	Recovery  string // id of the last recovery from a copy; empty: there was none
}

// String returns the origin line, which is also the key name of the log's signatures:
// "edgecoder/<cluster id>/<log>/<epoch>", or "<epoch>-<recovery>" after a recovery from a copy.
func (o Origin) String() string {
	line := "edgecoder/" + o.ClusterID + "/" + o.Log + "/" + strconv.FormatUint(o.Epoch, 10)
	if o.Recovery != "" {
		line += "-" + o.Recovery
	}
	return line
}

// Check refuses what would not survive being written and parsed.
func (o Origin) Check() error {
	parsed, err := ParseOrigin(o.String())
	if err == nil && parsed != o {
		err = fmt.Errorf("%w: %.200q", ErrOrigin, o.String())
	}
	return err
}

// ParseOrigin reads what String writes, and nothing else.
func ParseOrigin(line string) (Origin, error) {
	parts := strings.Split(line, "/")
	if len(parts) != 4 || parts[0] != "edgecoder" {
		return Origin{}, fmt.Errorf("%w: %.200q, want edgecoder/<cluster id>/<log>/<epoch>[-<recovery>]", ErrOrigin, line)
	}
	number, recovery, recovered := strings.Cut(parts[3], "-")
	epoch, err := parseDecimal(number)
	if err != nil {
		return Origin{}, fmt.Errorf("%w: epoch: %w", ErrOrigin, err)
	}
	if recovered && (len(recovery) != recoveryDigits || strings.Trim(recovery, "0123456789abcdef") != "") {
		return Origin{}, fmt.Errorf("%w: recovery %.64q is not %d lower-case hex digits", ErrOrigin, recovery, recoveryDigits)
	}
	if err := checkName(parts[1]); err != nil {
		return Origin{}, fmt.Errorf("%w: cluster id: %w", ErrOrigin, err)
	}
	if log := parts[2]; log == "" || len(log) > maxLogNameBytes || strings.Trim(log, "abcdefghijklmnopqrstuvwxyz") != "" {
		return Origin{}, fmt.Errorf("%w: log name %.64q is no word", ErrOrigin, log)
	}
	return Origin{ClusterID: parts[1], Log: parts[2], Epoch: epoch, Recovery: recovery}, nil
}

// checkName accepts a cluster id that can stand in a key name, which holds no space and no plus (signed-note).
func checkName(id string) error {
	if err := crypto.CheckID(id); err != nil {
		return err
	}
	if strings.ContainsAny(id, "+/") || strings.IndexFunc(id, unicode.IsSpace) >= 0 {
		return fmt.Errorf("%.64q has a space, a plus or a slash", id)
	}
	return nil
}

// parseDecimal reads an ASCII decimal without sign or leading zeroes.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.32q is no plain decimal number", s)
	}
	return n, nil
}
