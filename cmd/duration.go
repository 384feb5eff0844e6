package cmd

import (
	"strconv"
	"strings"
	"time"
)

// parseDuration reads Go's durations and whole days, such as 30d: nobody
// counts a token's life in hours.
func parseDuration(flag, text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36_500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usagef("--%s %q: want a duration such as 90s, 24h or 30d", flag, text)
	}
	return d, nil
}
