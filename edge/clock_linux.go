package edge

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep returns how long the machine has slept since it was started: CLOCK_BOOTTIME runs on meanwhile, CLOCK_MONOTONIC does not (clock_gettime(2)). The one that is
// ahead is read first, so that a pause between the two makes it less, never more. A kernel that cannot tell does not sleep as far as it is known here.
func asleep() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return max(0, time.Duration(boot.Nano()-mono.Nano()))
}
