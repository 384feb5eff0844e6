package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html) is made
// from the route table and the wire types of package client, so it cannot tell
// of a route, a role or a member that is not there.

// doc is what a route says of itself beyond its row.
type doc struct {
	says   string // one line
	in     any    // body of the request; nil: none
	out    any    // body of a good answer; nil: see media
	or     any    // another shape of it, such as that of a repeated mutation
	status int    // of a good answer; 0: 200
	media  string // of a good answer; "": application/json
	sends  string // media type of the request; "": application/json
	ifTag  bool   // takes If-Match, and its good answers carry an ETag
}

// apiVersion is the version of the API, not of the binary: the stored document
// changes when the API does.
const apiVersion = "1"

// openAPIDocument answers GET /v1/openapi.json.
func (s *Server) openAPIDocument(c *call) error {
	c.replyText(http.StatusOK, s.document())
	return nil
}

// object is a JSON object; encoding/json prints its members in order.
type object = map[string]any

// openAPI returns the document: the same bytes for the same code.
func (s *Server) openAPI() []byte {
	schemas := newSchemas()
	paths := map[string]object{}
	for _, rt := range s.table() {
		if paths[rt.pattern] == nil {
			paths[rt.pattern] = object{}
		}
		paths[rt.pattern][strings.ToLower(rt.method)] = rt.operation(schemas)
	}
	document := object{
		"openapi": "3.1.0",
		"info": object{"title": "EdgeCoder coordinator API", "version": apiVersion,
			"description": "Any coordinator answers any call; a follower forwards writes. Errors of /v1 are application/problem+json (RFC 9457) with a stable code; " +
				"those of the other routes are what existing clients know."},
		"servers": []object{{"url": "https://127.0.0.1:4301"}},
		"paths":   paths,
		"components": object{
			"securitySchemes": object{
				"bearer": object{"type": "http", "scheme": "bearer", "description": "a token of a role that has the capability of the route"},
				"mesh":   object{"type": "apiKey", "in": "header", "name": "x-mesh-token", "description": "the same tokens, as existing clients show them"},
				"agent": object{"type": "apiKey", "in": "header", "name": "x-signature",
					"description": "the five headers x-agent-id, x-timestamp-ms, x-nonce, x-body-sha256 and x-signature over this very request"},
			},
			"schemas":   schemas.named,
			"responses": schemas.errors,
		},
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document); err != nil {
		panic(fmt.Sprintf("api: encode the OpenAPI document: %v", err)) // strings, lists and maps always encode
	}
	return out.Bytes()
}

func (rt *route) operation(s *schemas) object {
	op := object{
		"operationId": rt.operationID(),
		"summary":     rt.doc.says,
		"security":    rt.security(),
		"responses":   rt.responses(s),
	}
	if params := rt.parameters(); len(params) > 0 {
		op["parameters"] = params
	}
	if rt.need != 0 {
		op["x-edgecoder-roles"] = rolesWith(rt.need)
	}
	if rt.doc.in != nil || rt.doc.sends != "" {
		media, schema := "application/json", object{}
		if rt.doc.sends != "" {
			media = rt.doc.sends
		} else {
			schema = s.of(rt.doc.in)
		}
		op["requestBody"] = object{"required": true, "content": object{media: object{"schema": schema}}}
	}
	return op
}

// operationID is the method and the words of the pattern.
func (rt *route) operationID() string {
	words := strings.FieldsFunc(rt.pattern, func(r rune) bool { return strings.ContainsRune("/{}.-_", r) })
	return strings.ToLower(rt.method) + "_" + strings.Join(words, "_")
}

func (rt *route) security() []object {
	switch rt.access {
	case byToken:
		return []object{{"bearer": []string{}}}
	case byOrder:
		return []object{{"bearer": []string{}}, {}}
	case byMesh:
		return []object{{"mesh": []string{}}}
	case byAgent:
		return []object{{"agent": []string{}}, {"mesh": []string{}}}
	case byEither:
		return []object{{"bearer": []string{}}, {"agent": []string{}}}
	}
	return []object{} // nobody's, or the credential is in the body
}

// rolesWith lists the roles that have a capability.
func rolesWith(need fsm.Capability) (out []string) {
	for _, role := range fsm.Roles() {
		if role.Can(need) {
			out = append(out, string(role))
		}
	}
	return out
}

// queryTypes are the schemas of query parameters; the rest are plain text.
var queryTypes = map[string]object{
	"level":             {"type": "string", "enum": []string{client.LevelLocal, client.LevelStrong}, "default": client.LevelLocal},
	"min_index":         {"type": "integer", "minimum": 0},
	"limit":             {"type": "integer", "minimum": 1, "maximum": maxPage},
	"from":              {"type": "integer", "minimum": 0},
	"since_ms":          {"type": "integer", "minimum": 0},
	"compromised":       {"type": "boolean"},
	"plan":              {"type": "boolean"},
	"lose_acknowledged": {"type": "boolean"},
}

func (rt *route) parameters() (out []object) {
	add := func(in, name string, required bool, schema object) {
		out = append(out, object{"in": in, "name": name, "required": required, "schema": schema})
	}
	for _, segment := range strings.Split(rt.pattern, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			add("path", strings.TrimSuffix(name, "}"), true, object{"type": "string", "minLength": 1})
		}
	}
	for _, name := range rt.query {
		schema, ok := queryTypes[name]
		if !ok {
			schema = object{"type": "string"}
		}
		add("query", name, false, schema)
	}
	if rt.mutates() {
		add("header", client.HeaderIdempotencyKey, false, object{"type": "string", "minLength": 1, "maxLength": maxKeyBytes})
	}
	if rt.doc.ifTag && rt.method != http.MethodGet {
		add("header", "If-Match", true, object{"type": "string"})
	}
	if rt.access == byAgent || rt.access == byEither {
		for _, name := range headerNames[:fiveHeaders] {
			add("header", name, false, object{"type": "string"})
		}
	}
	return out
}

// mutates tells whether the route takes an idempotency key.
func (rt *route) mutates() bool {
	return rt.method != http.MethodGet && !rt.wire() && (rt.access == byToken || rt.access == byOrder || rt.access == byEither) && rt.need != fsm.CapAdmit && rt.upload == 0
}

func (rt *route) responses(s *schemas) object {
	out := object{}
	good := object{"description": "done", "headers": rt.headers(rt.doc.ifTag, "ETag")}
	switch {
	case rt.doc.media != "":
		good["content"] = object{rt.doc.media: object{}}
	case rt.doc.or != nil:
		good["content"] = object{"application/json": object{"schema": object{"anyOf": []object{s.of(rt.doc.out), s.of(rt.doc.or)}}}}
	case rt.doc.out != nil:
		good["content"] = object{"application/json": object{"schema": s.of(rt.doc.out)}}
	}
	status := rt.doc.status
	switch {
	case status == 0 && rt.doc.out == nil && rt.doc.media == "":
		status = http.StatusNotFound // it only says that it is not served
	case status == 0:
		status = http.StatusOK
	}
	if status < 400 {
		out[strconv.Itoa(status)] = good
	}
	for status, codes := range rt.errorCodes() {
		out[strconv.Itoa(status)] = rt.errorResponse(s, status, codes)
	}
	return out
}

// headers are those of an answer: the index always, another one if it applies.
func (rt *route) headers(also bool, name string) object {
	out := object{client.HeaderIndex: object{"required": true, "schema": object{"type": "integer"}, "description": "log index that the answer reflects"}}
	if also {
		out[name] = object{"schema": object{"type": "string"}}
	}
	return out
}

func (rt *route) errorResponse(s *schemas, status int, codes []string) object {
	retry := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == http.StatusInsufficientStorage
	out := object{"description": strings.Join(codes, ", "), "headers": rt.headers(retry, "Retry-After")}
	if rt.wire() {
		out["content"] = object{"application/json": object{"schema": s.of(wireError{})}}
		return s.shared("wire_"+strconv.Itoa(status)+"_"+strings.Join(codes, "-"), out)
	}
	schema := object{"allOf": []object{s.of(client.Problem{}), {"properties": object{"code": object{"enum": codes}}}}}
	out["content"] = object{"application/problem+json": object{"schema": schema}}
	return s.shared(strconv.Itoa(status)+"_"+strings.Join(codes, "-"), out)
}

// errorCodes lists the codes that a route may answer, by status. They follow from
// its row: who may call it, what it takes, whether it changes anything.
func (rt *route) errorCodes() map[int][]string {
	if rt.class == classHealth {
		return map[int][]string{http.StatusServiceUnavailable: {client.CodeUnavailable}}
	}
	codes := []string{client.CodeRateLimited, client.CodeOverloaded, client.CodeUnavailable, client.CodeInternal, client.CodeInvalid}
	if rt.access != byNobody {
		codes = append(codes, client.CodeUnauthorized, client.CodeForbidden)
	}
	if strings.Contains(rt.pattern, "{") || rt.doc.out == nil && rt.doc.media == "" {
		codes = append(codes, client.CodeNotFound)
	}
	if rt.body > 0 || rt.upload > 0 {
		codes = append(codes, client.CodeTooLarge, client.CodeConflict, client.CodeUnknownOutcome, client.CodeDiskFull)
	}
	if strings.HasPrefix(rt.pattern, "/mesh/ingest") {
		codes = append(codes, client.CodeNotFound)
	}
	out := map[int][]string{}
	for _, code := range codes {
		status := client.StatusOf(code)
		if rt.wire() && code == client.CodeInvalid {
			status = http.StatusBadRequest
		}
		out[status] = append(out[status], code)
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}
