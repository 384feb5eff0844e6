package envelope

import "errors"

// The kinds of refusal. Exactly one of the first five is in the chain of every error about what was received; errors of
// readers and writers are passed on as they are.
var (
	// ErrMalformed: it is no envelope of this version, or not in its one spelling.
	ErrMalformed = errors.New("malformed")
	// ErrWrongKey: it is sealed to another key. Version 1 does not name the key, so there it is ErrNotAuthentic.
	ErrWrongKey = errors.New("sealed to another key")
	// ErrWrongSender: it names a sender that the recipient does not take tasks from, or a result of another's.
	ErrWrongSender = errors.New("not from a known sender")
	// ErrNotAuthentic: it was altered, or made by somebody without the keys.
	ErrNotAuthentic = errors.New("does not verify")
	// ErrTruncated: a stream that ends before its last chunk.
	ErrTruncated = errors.New("cut off")

	// ErrUsed: the key was good for one result, which was sealed or opened already, or it was closed.
	ErrUsed = errors.New("the key of this result is gone")
	// ErrTooLarge: more to seal than an envelope or a stream may hold.
	ErrTooLarge = errors.New("too large")
)
