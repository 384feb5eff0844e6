package api

import (
	"strconv"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// appendAdmission writes an answer as encoding/json would, without reflection.
func appendAdmission(dst []byte, a *client.Admission) []byte {
	dst = append(dst, '{')
	if a.Verdict != "" {
		dst = append(dst, `"verdict":`...)
		dst = crypto.AppendJSONString(dst, a.Verdict)
		dst = append(dst, ',')
	}
	dst = append(dst, `"code":`...)
	dst = crypto.AppendJSONString(dst, a.Code)
	if a.AgentID != "" {
		dst = append(dst, `,"agent_id":`...)
		dst = crypto.AppendJSONString(dst, a.AgentID)
	}
	dst = append(dst, `,"index":`...)
	dst = strconv.AppendUint(dst, a.Index, 10)
	dst = append(dst, `,"clock_ms":`...)
	dst = strconv.AppendInt(dst, a.ClockMs, 10)
	dst = append(dst, `,"claim_id":`...)
	dst = crypto.AppendJSONString(dst, a.ClaimID)
	if a.Repeated {
		dst = append(dst, `,"repeated":true`...)
	}
	if a.RetryAfterMs != 0 {
		dst = append(dst, `,"retry_after_ms":`...)
		dst = strconv.AppendInt(dst, a.RetryAfterMs, 10)
	}
	if a.MaxSkewMs != 0 {
		dst = append(dst, `,"max_skew_ms":`...)
		dst = strconv.AppendInt(dst, a.MaxSkewMs, 10)
	}
	if a.NodeClocks != "" {
		dst = append(dst, `,"node_clocks":`...)
		dst = crypto.AppendJSONString(dst, a.NodeClocks)
	}
	if a.Detail != "" {
		dst = append(dst, `,"detail":`...)
		dst = crypto.AppendJSONString(dst, a.Detail)
	}
	return append(dst, '}')
}
