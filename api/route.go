package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// access says by what a route is opened.
type access uint8

const (
	byToken  access = iota // Authorization: Bearer, with the capability of the route
	byMesh                 // x-mesh-token, with the capability of the route (WIRE.md section 6)
	byBody                 // a credential in the body, which the handler checks
	byAgent                // the agent's signature over this request, or the token that stands for it; the handler checks
	byOrder                // Authorization: Bearer with the capability of the route, or an order in the body that an agent's key signed
	byNobody               // open to all
	byEither               // as byToken, or without a token the agent's signature (ledger_agent.go)
)

// route is one row of the table.
type route struct {
	method  string
	pattern string // segments in braces are arguments
	access  access
	need    fsm.Capability // for byToken, byMesh and byEither
	class   class          // whose slots it takes
	body    int64          // cap of the request body in bytes; 0: none is read
	upload  int64          // the same of a body that the handler reads as a stream
	query   []string       // query parameters that it knows; others are refused
	doc     doc            // what the OpenAPI document says of it
	handle  func(*call) error
	always  bool // also while this node must not serve
}

// wire tells whether the route speaks the protocol of WIRE.md, errors too.
func (rt *route) wire() bool {
	return !strings.HasPrefix(rt.pattern, "/v1/") && rt.class != classHealth && rt.pattern != "/metrics"
}

// stranger tells whether who asks is unknown until the handler has the body.
func (rt *route) stranger() bool {
	return rt.access == byBody || rt.access == byAgent || rt.access == byOrder
}

// ofSubject tells whether the argument of the path is whose keys.
func (rt *route) ofSubject() bool { return strings.Contains(rt.pattern, "/{subject}") }

// router finds the route of a request. Paths are compared segment by segment
// before unescaping, so that an id may hold a slash.
type router struct {
	fixed    map[string][]*route // by path
	patterns [][]*route          // with arguments, by number of segments
}

func newRouter(table []route) *router {
	r := &router{fixed: map[string][]*route{}}
	for i := range table {
		rt := &table[i]
		if !strings.Contains(rt.pattern, "{") {
			r.fixed[rt.pattern] = append(r.fixed[rt.pattern], rt)
			continue
		}
		n := strings.Count(rt.pattern, "/")
		for len(r.patterns) <= n {
			r.patterns = append(r.patterns, nil)
		}
		r.patterns[n] = append(r.patterns[n], rt)
	}
	return r
}

func (r *router) find(method string, u *url.URL) (*route, []string, error) {
	if method == http.MethodHead {
		method = http.MethodGet // net/http drops the body
	}
	path := u.EscapedPath()
	if candidates, ok := r.fixed[path]; ok {
		for _, rt := range candidates {
			if rt.method == method {
				return rt, nil, nil
			}
		}
		return nil, nil, wrongMethod(candidates)
	}
	return r.findPattern(method, path)
}

func (r *router) findPattern(method, path string) (*route, []string, error) {
	segments := strings.Split(path, "/")
	n := len(segments) - 1
	if n >= len(r.patterns) {
		return nil, nil, noRoute(path)
	}
	var others []*route
	for _, rt := range r.patterns[n] {
		args, ok := matchSegments(strings.Split(rt.pattern, "/"), segments)
		if !ok {
			continue
		}
		if rt.method == method {
			return rt, args, nil
		}
		others = append(others, rt)
	}
	if len(others) > 0 {
		return nil, nil, wrongMethod(others)
	}
	return nil, nil, noRoute(path)
}

func matchSegments(pattern, segments []string) (args []string, ok bool) {
	for i, p := range pattern {
		if !strings.HasPrefix(p, "{") {
			if p != segments[i] {
				return nil, false
			}
			continue
		}
		arg, err := url.PathUnescape(segments[i])
		if err != nil || arg == "" {
			return nil, false
		}
		args = append(args, arg)
	}
	return args, true
}

func noRoute(path string) error {
	return &client.Error{Code: client.CodeNotFound, Detail: "there is no route " + quote(path)}
}

// methodError is the one error whose status is not its code's.
type methodError struct{ allow string }

func (e *methodError) Error() string { return "this path takes " + e.allow }

func wrongMethod(candidates []*route) error {
	var allow []string
	for _, rt := range candidates {
		allow = append(allow, rt.method)
	}
	slices.Sort(allow)
	return &methodError{allow: strings.Join(slices.Compact(allow), ", ")}
}
