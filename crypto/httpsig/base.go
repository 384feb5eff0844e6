package httpsig

import (
	"errors"
	"fmt"

	"github.com/dunglas/httpsfv"
)

// component is a line of a signature base: the name without its quotes, and the value.
type component struct{ name, value string }

// signatureBase is the text that is signed (RFC 9421 section 2.5): a line for each covered component, then the
// inner list of Signature-Input as it was serialised, without a newline behind it.
func signatureBase(covered []component, params string) []byte {
	size := len(`"@signature-params": `) + len(params)
	for _, c := range covered {
		size += len(c.name) + len(c.value) + len("\"\": \n")
	}
	base := make([]byte, 0, size)
	for _, c := range covered {
		base = append(base, '"')
		base = append(base, c.name...)
		base = append(base, `": `...)
		base = append(base, c.value...)
		base = append(base, '\n')
	}
	base = append(base, `"@signature-params": `...)
	return append(base, params...)
}

// components are what every signature covers.
var components = [...]string{"@method", "@authority", "@path", "@query", HeaderContentDigest}

// covered returns the lines of the items in their order. They must name each component once, and no other.
func covered(items []httpsfv.Item, values [len(components)]string) ([]component, error) {
	lines := make([]component, 0, len(components))
	var seen [len(components)]bool
	for _, item := range items {
		name, ok := item.Value.(string)
		if !ok {
			return nil, errors.New("a component is named by something else than a string")
		}
		at := indexOf(name)
		switch {
		case at < 0:
			return nil, fmt.Errorf("component %q is not among those of the profile", cut(name))
		case seen[at]:
			return nil, fmt.Errorf("component %q is covered twice", name)
		case len(item.Params.Names()) > 0:
			return nil, fmt.Errorf("component %q has a parameter, the profile has none", name)
		}
		seen[at] = true
		lines = append(lines, component{name, values[at]})
	}
	for i, name := range components {
		if !seen[i] {
			return nil, fmt.Errorf("component %q is not covered", name)
		}
	}
	return lines, nil
}

func indexOf(name string) int {
	for i, c := range components {
		if c == name {
			return i
		}
	}
	return -1
}
