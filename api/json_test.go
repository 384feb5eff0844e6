package api

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestStrictDecoding(t *testing.T) {
	for name, c := range map[string]struct{ text, field string }{
		"empty":              {``, "body"},
		"not an object":      {`[]`, "body"},
		"null":               {`null`, "body"},
		"unknown member":     {`{"max_skew":1}`, "max_skew"},
		"other case":         {`{"Max_Skew_Ms":1}`, "Max_Skew_Ms"},
		"duplicate":          {`{"max_skew_ms":1,"max_skew_ms":2}`, "max_skew_ms"},
		"escaped duplicate":  {`{"max_skew_ms":1,"max_skew_m\u0073":2}`, "max_skew_ms"},
		"trailing data":      {`{} {}`, "body"},
		"trailing brace":     {`{}}`, "body"},
		"trailing NUL":       {"{}\x00", "body"},
		"trailing comma":     {`{"max_skew_ms":1,}`, "body"},
		"string for number":  {`{"max_skew_ms":"1"}`, "max_skew_ms"},
		"null member":        {`{"max_skew_ms":null}`, "max_skew_ms"},
		"fraction":           {`{"max_skew_ms":1.0}`, "max_skew_ms"},
		"exponent":           {`{"max_skew_ms":1e3}`, "max_skew_ms"},
		"leading zero":       {`{"max_skew_ms":01}`, "max_skew_ms"},
		"overflow":           {`{"max_skew_ms":9223372036854775808}`, "max_skew_ms"},
		"negative unsigned":  {`{"version":-1}`, "version"},
		"number for boolean": {`{"auto_approve":1}`, "auto_approve"},
		"nested unknown":     {`{"rate_limit":{"requests":1,"window":1}}`, "rate_limit.window"},
		"nested type":        {`{"overrides":{"a":{"requests":true}}}`, "overrides.a.requests"},
		"duplicate key":      {`{"overrides":{"a":{},"a":{}}}`, "overrides.a"},
		"array for object":   {`{"rate_limit":[1]}`, "rate_limit"},
		"proto":              {`{"__proto__":{}}`, "__proto__"},
		"broken off":         {`{"max_skew_ms":1`, "body"},
		"byte order mark":    {"\ufeff{}", "body"},
	} {
		var u client.PolicyUpdate
		err := decodeStrict(c.text, &u)
		e := (*client.Error)(nil)
		if !errors.As(err, &e) || e.Code != client.CodeInvalid || e.Field != c.field {
			t.Errorf("%s: %v, want invalid field %q", name, err, c.field)
		}
	}
	var u client.PolicyUpdate
	if err := decodeStrict(" {\"rate_limit\" : {\"requests\":5,\"window_ms\":-7},\n\"auto_approve\":true , \"overrides\":{}}\t", &u); err != nil {
		t.Fatal(err)
	}
	if u.RateLimit.Requests != 5 || u.RateLimit.WindowMs != -7 || !*u.AutoApprove || u.Overrides == nil || u.MaxSkewMs != nil {
		t.Errorf("%+v", u)
	}
}

func TestStrictStrings(t *testing.T) {
	for text, want := range map[string]string{
		`"plain"`:                  "plain",
		`"\u00fc\n\t\"\\\/\b\f\r"`: "ü\n\t\"\\/\b\f\r",
		`"\ud83d\ude00 😀"`:         "😀 😀",
		`"\u0000"`:                 "\x00",
	} {
		var l client.LiftRequest
		if err := decodeStrict(`{"reason":`+text+`}`, &l); err != nil || l.Reason != want {
			t.Errorf("%s: %q, %v", text, l.Reason, err)
		}
	}
	for _, text := range []string{`"\ud800"`, `"\ud800x"`, `"\udc00\ud800"`, `"\x"`, `"\u12"`, `"\u+123"`, "\"a\nb\"", "\"\xff\"", "\"\\n\xc3\"", `"open`, `'a'`, `"\`} {
		var l client.LiftRequest
		if err := decodeStrict(`{"reason":`+text+`}`, &l); err == nil {
			t.Errorf("%s accepted as %q", text, l.Reason)
		}
	}
}

func TestLenientSkipsButStaysBounded(t *testing.T) {
	var r client.MeshBanRequest
	err := decodeLenient(`{"agentId":"a","extra":{"deep":[1,"x",null,{"y":true}]},"more":-1.5e3}`, &r)
	if err != nil || r.AgentID != "a" {
		t.Errorf("%+v %v", r, err)
	}
	for _, text := range []string{
		`{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
		`{"x":{"__proto__":1}}`, `{"x":truth}`, `{"x":nul}`, `{"agentId":"a","agentId":"b"}`,
	} {
		if decodeLenient(text, &r) == nil {
			t.Errorf("%s accepted", text)
		}
	}
}

// FuzzDecodeAdmission holds the hand-written decoder to encoding/json: what we
// accept, it accepts, with the same meaning.
func FuzzDecodeAdmission(f *testing.F) {
	for _, seed := range []string{
		`{"method":"POST","path":"/pull","headers":{"x-agent-id":"a","x-nonce":"n"},"claim_id":"c"}`,
		`{"method":"POST","path":"/","headers":{"X-Nonce":"n","x-nonce":"m"}}`,
		`{"method":"\u0050OST","path":"/\ud83d\ude00","headers":{}}`,
		`{"method":"POST","path":"/","headers":{"x-nonce":["a"]}}`,
		`{"method":"POST","method":"GET","path":"/"}`,
		`{"requests":[{"method":"POST","path":"/"}]}`,
		`{`, `{}`, `[]`, `{"path":null}`, "{\"path\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := decodeAdmission(text)
		if err != nil {
			if e := (*client.Error)(nil); !errors.As(err, &e) || e.Field == "" {
				t.Fatalf("error without a field: %v", err)
			}
			return
		}
		var want client.AdmissionRequest
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", text, err)
		}
		got := client.AdmissionRequest{Method: a.method, Path: a.path, BodySHA256: a.bodySHA256, ClaimID: a.claimID}
		for _, name := range headerNames {
			if a.headers.get(name) != want.Headers[name] {
				t.Fatalf("%q: header %s is %q, want %q", text, name, a.headers.get(name), want.Headers[name])
			}
		}
		want.Headers = nil
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v", text, got, want)
		}
		a.signed() // must not panic
	})
}

func FuzzDecodeAdmissions(f *testing.F) {
	f.Add(`{"requests":[{"method":"POST","path":"/"},{"method":"POST","path":"/","claim_id":"x"}]}`)
	f.Add(`{"requests":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		out, err := decodeAdmissions(text)
		if err == nil && (len(out) == 0 || len(out) > client.MaxBatch || !json.Valid([]byte(text))) {
			t.Fatalf("%d requests from %q", len(out), text)
		}
	})
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add(`{"rate_limit":{"requests":1,"window_ms":2},"overrides":{"a":{"requests":1}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var got, want client.PolicyUpdate
		if decodeStrict(text, &got) != nil {
			return
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v (%v)", text, got, want, err)
		}
	})
}
