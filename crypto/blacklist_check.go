package crypto

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// The rules of single members, used by BlacklistEvent.Check.

// member names the member an error is about.
func member(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("member %q: %w", name, err)
}

func checkReasonCode(code string) error {
	if !KnownReasonCode(code) {
		return fmt.Errorf("unknown reason code %s", quote(code))
	}
	return nil
}

func checkFreeText(text string, most int) error {
	if text == "" {
		return errors.New("missing or empty")
	}
	return checkOptionalText(text, most)
}

func checkOptionalText(text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%d bytes, at most %d", len(text), most)
	}
	if !utf8.ValidString(text) {
		return errors.New("not valid UTF-8")
	}
	return nil
}

func checkHashText(text string) error {
	_, err := ParseHash(text)
	return err
}

func checkPrevHash(text string) error {
	if text == BlacklistGenesis {
		return nil
	}
	return checkHashText(text)
}

func checkSignature(text string) error {
	var sig [SignatureSize]byte
	return decodeBase64(sig[:], text)
}

func checkOptionalSignature(text string) error {
	if text == "" {
		return nil
	}
	return checkSignature(text)
}

func checkOptionalPEM(text string) error {
	if text == "" {
		return nil
	}
	_, err := ParsePublicKeyPEM(text)
	return err
}

func checkTime(ms int64) error {
	if ms < 0 || ms > maxSafeInteger {
		return fmt.Errorf("%d is not between 0 and 2^53-1", ms)
	}
	return nil
}

func checkOptionalTime(ms *int64) error {
	if ms == nil {
		return nil
	}
	return checkTime(*ms)
}
