package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/terminal"
)

// Exit statuses (CONTRACT.md "Command line").
const (
	exitDone    = 0 // done, or verified
	exitRefused = 1 // refused, or not verified
	exitUsage   = 2
	exitUnknown = 3 // cluster unavailable, or outcome unknown
)

// exitError is an error that knows its exit status.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef says that the command line, or a file it names, must be changed.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// refusedf says that the answer is no.
func refusedf(format string, args ...any) error {
	return &exitError{exitRefused, fmt.Errorf(format, args...)}
}

// unknownf says that the cluster gave no answer.
func unknownf(format string, args ...any) error {
	return &exitError{exitUnknown, fmt.Errorf(format, args...)}
}

// hintedError is an error that knows better than the table what to do next.
type hintedError struct {
	err  error
	next string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// hintFor gives a refused credential that is no API token a hint of its own.
func hintFor(err error, next string) error {
	var fromAPI *client.Error
	if errors.As(err, &fromAPI) && (fromAPI.Code == client.CodeUnauthorized || fromAPI.Code == client.CodeForbidden) {
		return &hintedError{err, next}
	}
	return err
}

// exitStatus returns the status that err leads to.
func exitStatus(err error) int {
	var own *exitError
	var fromAPI *client.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		return own.status
	case errors.As(err, &fromAPI):
		return exitStatusOf(fromAPI.Code)
	case errors.Is(err, cluster.ErrNotUp), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return exitUnknown
	}
	return exitRefused
}

func exitStatusOf(code string) int {
	switch code {
	case client.CodeUnavailable, client.CodeUnknownOutcome, client.CodeOverloaded, client.CodeDiskFull, client.CodeInternal:
		return exitUnknown
	}
	return exitRefused
}

// nextSteps tells what to do about an API error, where the server cannot know.
var nextSteps = map[string]string{
	client.CodeUnauthorized:   "give a valid token with --token-file, EDGECODER_TOKEN_FILE or EDGECODER_TOKEN",
	client.CodeForbidden:      "use a token of a role that may do this (`edgecoder token create --role operator`)",
	client.CodeUnavailable:    "nothing was done: try again, and look at `edgecoder cluster status` or `edgecoder status`",
	client.CodeUnknownOutcome: "it may have happened: look before you repeat it",
	client.CodeOverloaded:     "nothing was done: try again in a moment",
	client.CodeRateLimited:    "nothing was done: try again in a moment",
	client.CodeDiskFull:       "nothing was done: make room on that node's disk, or name another node with --addr",
}

// printError writes what happened and what to do next.
func printError(w io.Writer, err error) {
	text := err.Error()
	var fromAPI *client.Error
	if errors.As(err, &fromAPI) {
		// Lines that the server sent stand back, so that none passes for ours.
		text = strings.ReplaceAll(text, fromAPI.Detail, strings.ReplaceAll(fromAPI.Detail, "\n", "\n      "))
	}
	fmt.Fprintf(w, "%s: %s\n", programName, terminal.Plain(text))
	if fromAPI == nil {
		return
	}
	hinted := (*hintedError)(nil)
	if fromAPI.ClaimID != "" && !errors.As(err, &hinted) {
		fmt.Fprintf(w, "  repeat it under the same id: --claim-id %s\n", shellWord(terminal.PlainLine(fromAPI.ClaimID)))
	} else if next := nextStep(err, fromAPI.Code); next != "" {
		fmt.Fprintf(w, "  %s\n", next)
	}
	if fromAPI.RequestID != "" {
		fmt.Fprintf(w, "  request id: %s\n", terminal.PlainLine(fromAPI.RequestID))
	}
}

func nextStep(err error, code string) string {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		return hinted.next
	}
	return nextSteps[code]
}
