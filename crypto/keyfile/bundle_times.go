package keyfile

// The rotation of bundles (WIRE 18). A key is used from its activation to its end; a due rotation is announced ahead,
// and after it the key before still verifies for a while.
const (
	BundleRotationDays = 90
	BundleWarningDays  = 14
	bundleGraceMs      = 2 * dayMs
	dayMs              = 24 * 60 * 60 * 1000
)

// BundleEndMs returns when a key that is activated now expires.
func BundleEndMs(activatedMs int64, rotationDays int) int64 {
	return activatedMs + int64(rotationDays)*dayMs
}

// RotationDue reports whether the current key has at most warningDays left.
func (b *Bundle) RotationDue(nowMs int64, warningDays int) bool {
	return b.Current.EndMs-nowMs <= int64(warningDays)*dayMs
}

// Expired reports whether the end of the current key is past.
func (b *Bundle) Expired(nowMs int64) bool { return nowMs > b.Current.EndMs }

// PreviousInGrace reports whether the previous key still verifies: for less than 48 hours after it was put out of use.
func (b *Bundle) PreviousInGrace(nowMs int64) bool {
	return b.Previous != nil && nowMs-b.Previous.EndMs < bundleGraceMs
}
