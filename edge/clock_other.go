//go:build !linux

package edge

import "time"

// asleep is not known here.
func asleep() time.Duration { return 0 }
