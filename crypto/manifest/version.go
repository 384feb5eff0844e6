package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

const (
	// MaxVersionBytes bounds the text of a version.
	MaxVersionBytes = 64
	// maxParts bounds its numbers, maxPartDigits the digits of one: it fits 64 bits.
	maxParts      = 8
	maxPartDigits = 18
)

// Version is a version that has a place in the order of versions.
//
// A version is one to eight numbers with dots between them, with an optional "v"
// before, an optional pre-release behind a "-" and optional build metadata behind
// a "+", as in Semantic Versioning 2.0.0: each of its versions is one of these,
// and so are 2026.01.1 and 7. Numbers compare as numbers and missing ones are
// zero; then a pre-release comes before none, and two compare as section 11 of
// Semantic Versioning says; build metadata and the "v" count for nothing. So the
// order is total, and texts that compare equal name the same version.
type Version struct {
	parts      [maxParts]uint64
	prerelease string // with its "-", "" when there is none
}

// ParseVersion reads a version.
func ParseVersion(text string) (Version, error) {
	var v Version
	if text == "" || len(text) > MaxVersionBytes {
		return v, fmt.Errorf("%d bytes, a version has 1 to %d", len(text), MaxVersionBytes)
	}
	core := strings.TrimPrefix(text, "v")
	if at := strings.IndexAny(core, "-+"); at >= 0 {
		// The library judges what follows the numbers, behind numbers of its own.
		rest := "v0.0.0" + core[at:]
		if !semver.IsValid(rest) {
			return Version{}, fmt.Errorf("%.80q: what follows the numbers is no pre-release or build metadata of Semantic Versioning", text)
		}
		core, v.prerelease = core[:at], semver.Prerelease(rest)
	}
	parts := strings.Split(core, ".")
	if len(parts) > maxParts {
		return Version{}, fmt.Errorf("%.80q: %d numbers, at most %d", text, len(parts), maxParts)
	}
	for i, part := range parts {
		n, err := versionNumber(part)
		if err != nil {
			return Version{}, fmt.Errorf("%.80q has no place in the order of versions: want numbers with dots between them, such as 1.4.2, 1.4.2-rc.1 or 2026.01.1", text)
		}
		v.parts[i] = n
	}
	return v, nil
}

func versionNumber(text string) (uint64, error) {
	if text == "" || len(text) > maxPartDigits || strings.Trim(text, "0123456789") != "" {
		return 0, errors.New("no number")
	}
	return strconv.ParseUint(text, 10, 64)
}

// Compare returns -1, 0 or 1 when v comes before other, names the same version,
// or comes after it.
func (v Version) Compare(other Version) int {
	for i := range v.parts {
		if c := cmp.Compare(v.parts[i], other.parts[i]); c != 0 {
			return c
		}
	}
	return semver.Compare("v0.0.0"+v.prerelease, "v0.0.0"+other.prerelease)
}

// CompareVersions is Version.Compare of two texts.
func CompareVersions(a, b string) (int, error) {
	x, err := ParseVersion(a)
	if err != nil {
		return 0, err
	}
	y, err := ParseVersion(b)
	if err != nil {
		return 0, err
	}
	return x.Compare(y), nil
}
