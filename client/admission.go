package client

import (
	"context"
	"net/http"
	"slices"
)

// Admit asks whether one signed request may act. A denial is an answer, not an
// error. Every try uses the same claim id, the request's or a fresh one, so
// that a retry after an unknown outcome gets the first answer.
func (c *Client) Admit(ctx context.Context, req AdmissionRequest, opts ...Option) (out Admission, err error) {
	if req.ClaimID == "" {
		req.ClaimID = NewClaimID()
	}
	q := newCall(http.MethodPost, "/v1/admissions", opts)
	q.claim = req.ClaimID
	err = c.send(ctx, q, req, &out)
	return out, err
}

// AdmitBatch asks for up to MaxBatch verdicts at once, each under its own
// claim id. A result without a verdict was not decided: ask again for that
// request, under the claim id in the result.
func (c *Client) AdmitBatch(ctx context.Context, requests []AdmissionRequest, opts ...Option) (out AdmissionResults, err error) {
	requests = slices.Clone(requests)
	for i := range requests {
		if requests[i].ClaimID == "" {
			requests[i].ClaimID = NewClaimID()
		}
	}
	q := newCall(http.MethodPost, "/v1/admissions/batch", opts)
	err = c.send(ctx, q, AdmissionBatch{Requests: requests}, &out)
	return out, err
}
