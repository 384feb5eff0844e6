package manifest

import "encoding/json"

// Format tells what a JSON text claims to be.
type Format int

// The formats.
const (
	FormatEnvelope Format = iota // a DSSE envelope, or anything else
	FormatLegacy
	FormatRelease
)

// FormatOf tells by its members which reader a text is for; the reader judges it.
func FormatOf(text []byte) Format {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return FormatEnvelope
	}
	if _, ok := members["modelId"]; ok {
		return FormatLegacy
	}
	if _, ok := members["distTreeHash"]; ok {
		return FormatRelease
	}
	return FormatEnvelope
}
