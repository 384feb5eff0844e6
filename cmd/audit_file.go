package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// auditClaim is what an audit file claims beside its events.
type auditClaim struct {
	version *uint64 // nil: the file does not say
	head    string
	peers   []auditKey
}

// read goes through an audit file, or a bare list of peers, and hands each
// event to visit (nil: passes over them), so that memory stays bounded
// however long the chain is.
func (a *auditClaim) read(in io.Reader, visit func(json.RawMessage) error) error {
	dec := json.NewDecoder(in)
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return notAnAudit(err)
		}
		name, _ := token.(string) // the decoder allows nothing else here
		if seen[name] {
			return fmt.Errorf("not an audit file: member %q twice", name)
		}
		seen[name] = true
		if err := a.member(dec, name, visit); err != nil {
			return err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("not an audit file: something follows the closing brace")
	}
	return nil
}

func (a *auditClaim) member(dec *json.Decoder, name string, visit func(json.RawMessage) error) error {
	var err error
	switch name {
	case "version":
		err = dec.Decode(&a.version)
	case "chainHead":
		err = dec.Decode(&a.head)
	case "peers", "keys":
		var more []auditKey
		err = dec.Decode(&more)
		a.peers = append(a.peers, more...)
	case "events":
		return eachEvent(dec, visit)
	default:
		var other json.RawMessage
		err = dec.Decode(&other)
	}
	return notAnAudit(err)
}

func eachEvent(dec *json.Decoder, visit func(json.RawMessage) error) error {
	if err := expect(dec, json.Delim('[')); err != nil {
		return err
	}
	for dec.More() {
		var event json.RawMessage
		if err := dec.Decode(&event); err != nil {
			return notAnAudit(err)
		}
		if visit == nil {
			continue
		}
		if err := visit(event); err != nil {
			return err
		}
	}
	return expect(dec, json.Delim(']'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return notAnAudit(err)
	}
	if got != want {
		return fmt.Errorf("not an audit file: %v where %v belongs", got, want)
	}
	return nil
}

func notAnAudit(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("not an audit file: %w", err)
}
