package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	domain     = "edgecoder audit line v1\n"
	prevMember = `,"prev":"`
	hashMember = `,"hash":"`
	// tailLen is what every line ends with: the member, 64 digits, `"}`.
	tailLen = len(hashMember) + 2*crypto.HashSize + len(`"}`)
	// maxLine bounds a line, newline included. The largest event has some 40
	// texts of 256 bytes, and JSON may spell one byte with six.
	maxLine = 64 << 10
)

// errLine says that a text is no line of an audit log.
var errLine = errors.New("not a line of an audit log")

// noHash is prev of the first line.
var noHash = crypto.Hash{}

func chainHash(prev crypto.Hash, body []byte) crypto.Hash {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(prev[:])
	h.Write(body)
	return crypto.Hash(h.Sum(nil))
}

// seal links a line to the one before and returns it with its newline.
func seal(l *Line, prev crypto.Hash) ([]byte, crypto.Hash, error) {
	l.Prev, l.Hash = prev.String(), ""
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, prev, fmt.Errorf("audit line %d: %w", l.Seq, err)
	}
	body, ok := bytes.CutSuffix(out.Bytes(), []byte(hashMember+"\"}\n"))
	if !ok {
		return nil, prev, fmt.Errorf("audit line %d: hash is not its last member", l.Seq)
	}
	sum := chainHash(prev, body)
	l.Hash = sum.String()
	text := append(bytes.Clone(body), hashMember+l.Hash+"\"}\n"...)
	if len(text) > maxLine {
		return nil, prev, fmt.Errorf("audit line %d has %d bytes, at most %d", l.Seq, len(text), maxLine)
	}
	return text, sum, nil
}

// link is what the chain needs of a line, read without decoding the rest.
type link struct {
	seq        uint64
	prev, hash crypto.Hash
}

// readSeq reads the seq of a line and returns what follows it. It checks nothing else.
func readSeq(text []byte) (seq uint64, rest []byte, err error) {
	rest, ok := bytes.CutPrefix(text, []byte(`{"seq":`))
	digits := bytes.IndexByte(rest, ',')
	if !ok || digits < 1 || len(text) < tailLen {
		return 0, nil, errLine
	}
	number := string(rest[:digits])
	if seq, err = strconv.ParseUint(number, 10, 64); err != nil || seq == 0 || strconv.FormatUint(seq, 10) != number {
		return 0, nil, fmt.Errorf("%w: seq %q", errLine, number)
	}
	return seq, rest[digits:], nil
}

// timeOf reads the time of a line without decoding the rest.
func timeOf(text []byte) (ms int64, ok bool) {
	_, rest, err := readSeq(text)
	if err != nil || len(rest) < len(prevMember)+2*crypto.HashSize {
		return 0, false
	}
	rest, ok = bytes.CutPrefix(rest[len(prevMember)+2*crypto.HashSize:], []byte(`","time_ms":`))
	digits := bytes.IndexByte(rest, ',')
	if !ok || digits < 1 {
		return 0, false
	}
	ms, err = strconv.ParseInt(string(rest[:digits]), 10, 64)
	return ms, err == nil
}

// spell writes a text as a line does.
func spell(text string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic(err) // a string always encodes
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// readLink reads seq, prev and hash of a line without its newline, and checks
// that hash is that of the line's bytes.
func readLink(text []byte) (k link, err error) {
	seq, rest, err := readSeq(text)
	if err != nil {
		return k, err
	}
	k.seq = seq
	rest, ok := bytes.CutPrefix(rest, []byte(prevMember))
	if !ok || len(rest) < 2*crypto.HashSize {
		return k, fmt.Errorf("%w: no prev after seq", errLine)
	}
	if k.prev, err = crypto.ParseHash(string(rest[:2*crypto.HashSize])); err != nil {
		return k, fmt.Errorf("%w: prev: %w", errLine, err)
	}
	body, tail := text[:len(text)-tailLen], text[len(text)-tailLen:]
	if !bytes.HasPrefix(tail, []byte(hashMember)) || !bytes.HasSuffix(tail, []byte(`"}`)) {
		return k, fmt.Errorf("%w: it does not end with its hash", errLine)
	}
	if k.hash, err = crypto.ParseHash(string(tail[len(hashMember) : len(tail)-2])); err != nil {
		return k, fmt.Errorf("%w: hash: %w", errLine, err)
	}
	if chainHash(k.prev, body) != k.hash {
		return k, errors.New("the line is not what its hash was made of")
	}
	return k, nil
}

// ParseLine reads one line, with or without its newline, strictly: its hash must
// be that of its bytes, and it must be spelt as this package spells it.
func ParseLine(text []byte) (Line, error) {
	var l Line
	if len(text) > maxLine {
		return l, fmt.Errorf("%w: more than %d bytes", errLine, maxLine)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	k, err := readLink(text)
	if err != nil {
		return l, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Line{}, fmt.Errorf("%w: %w", errLine, err)
	}
	again := l
	if spelt, _, err := seal(&again, k.prev); err != nil || !bytes.Equal(bytes.TrimSuffix(spelt, []byte("\n")), text) {
		return Line{}, fmt.Errorf("%w: it is spelt in another way", errLine)
	}
	return l, nil
}
