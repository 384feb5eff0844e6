package ledger

import "math/bits"

// MaxMicro is the largest amount and balance, of either sign: 2^53-1 micro-credits,
// nine billion credits. Two of them add up far below the end of an int64.
const MaxMicro = 1<<53 - 1

// Micro is how many micro-credits, or millionths of anything, make one.
const Micro = 1_000_000

// Add returns a+b; false if an operand or the sum is outside ±MaxMicro.
func Add(a, b int64) (int64, bool) {
	if !inRange(a) || !inRange(b) || !inRange(a+b) {
		return 0, false
	}
	return a + b, true
}

func inRange(n int64) bool { return -MaxMicro <= n && n <= MaxMicro }

// mulDiv returns a·b/c, rounded down, through 128 bits. No operand is negative, c
// is positive, and the quotient must fit: callers bound theirs.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q)
}

// roundDiv returns a/b rounded to the nearest, halves up; a is not negative.
func roundDiv(a, b int64) int64 { return (a + b/2) / b }
